"""What people are shown of deletions; see ``storage.views``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What a delete erased. Vectors leave the index at once and its files at the next compaction."""

    deletion_id: int
    images: int
    records: int
    vectors: int
    failures: int
    corrections: int
    features: int
    thumbnails: int


@dataclass(frozen=True, slots=True)
class DeletionView:
    """A deletion.

    Attributes:
        kind: what was named: ``images``, a ``prefix`` or an ``archive``.
        archive: where; None if several archives were meant, or none was named.
        finished_at: None while it is under way, or where its process died.
        images: how many were to go.
        sha256: over their ids, ascending, one a line.
        erased: how many rows and files went, by kind.
    """

    id: int
    kind: str
    archive: str | None
    said_by: str
    begun_at: datetime
    finished_at: datetime | None
    images: int
    sha256: str
    erased: dict[str, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """A place where images may leave traces, how many were found there now, and what removes them."""

    place: str
    left: int
    remedy: str


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """A deletion, and what was found when every place was looked through for its images.

    Attributes:
        is_clean: nothing was found anywhere.
        ids: of the images, ascending; None where a list was not asked for.
        keys: of the images, where they were kept.
    """

    deletion: DeletionView
    verified_at: datetime
    is_clean: bool
    traces: list[Trace]
    ids: list[int] | None = None
    keys: list[str] | None = None

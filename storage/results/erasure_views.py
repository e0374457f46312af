"""Deletions as people see them; see ``storage.results.erasures``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What a deletion erased. Vectors leave the index at once, and its files at the next compaction."""

    deletion_id: int
    images: int
    records: int
    vectors: int
    failures: int
    corrections: int
    features: int
    readings: int
    localizations: int
    crops: int
    looks: int
    metadata: int
    keywords: int
    dataset_items: int
    dataset_labels: int
    dataset_reviews: int
    thumbnails: int


@dataclass(frozen=True, slots=True)
class DeletionView:
    """A deletion.

    Attributes:
        kind: what was named: ``images``, a ``prefix`` or an ``archive``.
        archive: the archive; None if there were several, or none was named.
        finished_at: None while it runs, or if its process died.
        images: number of images to delete.
        sha256: over their ids, ascending, one per line.
        erased: number of deleted rows and files, by kind.
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
class Withdrawal:
    """A deletion that was withdrawn.

    Attributes:
        deletion: as it was.
        erased_ids: ids of the images that it had erased, ascending; these are its images now. Empty: it is forgotten.
        stay: the number of the others, which stay.
    """

    deletion: DeletionView
    erased_ids: list[int]
    stay: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A place that may hold traces of images.

    Attributes:
        left: the number found there now; None if the place could not be asked.
        remedy: how to remove them; or why the place could not be asked, and what to do.
    """

    place: str
    left: int | None
    remedy: str


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """A deletion, and what a search of every place for its images found.

    Attributes:
        is_clean: it is proved that nothing is left: every place was asked, and nothing was found in any.
        ids: ids of the images, ascending; None if no list was requested.
        keys: keys of the images, if they were kept.
    """

    deletion: DeletionView
    verified_at: datetime
    is_clean: bool
    traces: list[Trace]
    ids: list[int] | None = None
    keys: list[str] | None = None

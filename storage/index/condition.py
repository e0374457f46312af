"""Conditions on an image, with every name resolved: a tree over tag ids, archives, keys, dates and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class HasTag:
    """The image has at least one of these tags, each with a stored score above its units (``SCORE_SCALE`` is 1)."""

    tags: tuple[tuple[int, int], ...]  # (tag id, units)


@dataclass(frozen=True, slots=True)
class InArchive:
    """The image belongs to the archive."""

    archive_id: int


@dataclass(frozen=True, slots=True)
class Below:
    """The key begins with the prefix, compared byte by byte (UTF-8)."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Named:
    """The name of the file has this word (``storage.index.names``), or one that begins so."""

    word: str
    is_beginning: bool = False


@dataclass(frozen=True, slots=True)
class ByJob:
    """The record was written by the job."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Modified:
    """The object was last modified in ``[since, until)``; either may be open. An unknown date never matches."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sized:
    """The object has ``at_least`` bytes and fewer than ``below``; either may be open."""

    at_least: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """The image is one of these: ids, ascending. There may be as many as images.

    ``rows_each``: how many rows an image may have (``results.index_rows.RowSource``).
    """

    image_ids: NDArray[np.int64]
    rows_each: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every part is true. Without parts: true."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part is true. Without parts: false."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false."""

    part: Condition


Condition = HasTag | InArchive | Below | Named | ByJob | Modified | Sized | OneOf | All | Any | Not

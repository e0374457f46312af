"""What an image must meet to be found, every name looked up: a tree over tag ids, archives, keys, dates, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class HasTag:
    """Has at least one of these tags, each with a stored score above its number of units (``SCORE_SCALE`` to 1)."""

    tags: tuple[tuple[int, int], ...]  # (tag id, units)


@dataclass(frozen=True, slots=True)
class InArchive:
    """Belongs to the archive."""

    archive_id: int


@dataclass(frozen=True, slots=True)
class Below:
    """Its key begins with the prefix, compared byte by byte (UTF-8)."""

    prefix: str


@dataclass(frozen=True, slots=True)
class ByJob:
    """Its record was written by the job."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Modified:
    """Its object was last modified in ``[since, until)``; either may be open. An unknown date never is."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sized:
    """Its object has ``at_least`` bytes and fewer than ``below``; either may be open."""

    at_least: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class OneOf:
    """Is one of these images; ids ascending."""

    image_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; no parts: everything does."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part holds; no parts: nothing does."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


Condition = HasTag | InArchive | Below | ByJob | Modified | Sized | OneOf | All | Any | Not

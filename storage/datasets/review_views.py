"""What is told of reviews: decisions, answers, and how many there are of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from storage.datasets.versions import VersionView

What = Literal["dropped", "added"]

MOST_AT_ONCE = 500
"""Decisions on a page, and pictures that are answered in one go."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Decisions of one kind: how many ``wait``, how many were ``reviewed``, and how many of these were found right."""

    waiting: int = 0
    reviewed: int = 0
    right: int = 0

    @property
    def agreement(self) -> float | None:
        """The share of the reviewed decisions that were right, 0..1; None: none was reviewed."""
        return self.right / self.reviewed if self.reviewed else None

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(self.waiting + other.waiting, self.reviewed + other.reviewed, self.right + other.right)


@dataclass(frozen=True, slots=True)
class PersonTally:
    """How many decisions a person reviewed in a data set, and how many of these they found right."""

    said_by: str
    reviewed: int
    right: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a version says of a tag of a picture, and on what evidence.

    Attributes:
        reason: why the tag was dropped; None: it was not.
        certainty: of keeping or dropping it, 0..1; None: not known.
        box: left, top, right, bottom of the tag's region in the picture, 0..1; None: the whole picture.
    """

    image_id: int
    key: str
    version: str
    origins: tuple[str, ...]
    reason: str | None
    certainty: float | None
    evidence: dict[str, Any]
    box: tuple[float, float, float, float] | None

    @property
    def place(self) -> tuple[float, int]:
        """Where it is in the order of its list."""
        return self.certainty or 0.0, self.image_id


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said of a decision."""

    image_id: int
    tag_id: int
    was_dropped: bool
    is_right: bool
    said_by: str
    said_at: datetime


@dataclass(frozen=True, slots=True)
class TagTally:
    """The decisions about one tag."""

    id: int
    name: str
    name_zh: str | None
    dropped: Tally
    added: Tally


@dataclass(frozen=True, slots=True)
class Review:
    """How far the review of a version is: all decisions, by tag (most waiting first), and by person."""

    version: VersionView
    dropped: Tally
    added: Tally
    tags: list[TagTally]
    people: list[PersonTally]


@dataclass(frozen=True, slots=True)
class Said:
    """What came of an answer: the pictures that it was stored for, and answers that stood there before."""

    version: VersionView
    tag_id: int
    tag: str
    image_ids: list[int]
    others: list[Answer]


@dataclass(frozen=True, slots=True)
class Last:
    """What a person answered last, in one go."""

    tag_id: int
    tag: str
    was_dropped: bool
    is_right: bool
    image_ids: list[int]

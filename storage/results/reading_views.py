"""The text in an image as people see it, and as a worker found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Polygon = tuple[tuple[float, float], ...]
"""Four corners (x, y) as fractions 0..1 of the upright picture, clockwise from the text's own top left."""


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line as the reader found it. ``confidence`` is in 0..1."""

    text: str
    confidence: float
    polygon: Polygon


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """What a worker read in one image, in reading order. ``is_cut``: there was more text than the limit."""

    image_id: int
    version: str
    lines: Sequence[FoundLine]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class LineView:
    """A line of text in an image, people's corrections included.

    Attributes:
        number: its place in the reading order, from 1.
        text: the words, corrected if a person said so.
        confidence: of the reader, in 0..1; 1 for a line that a person wrote.
        polygon: where it stands.
        correction_id: the correction that made it what it is; None: as it was read.
    """

    number: int
    text: str
    confidence: float
    polygon: Polygon
    correction_id: int | None = None


@dataclass(frozen=True, slots=True)
class ReadingView:
    """The text in one image. ``is_cut``: there is more text than the limit."""

    image_id: int
    generation_id: int
    model: str
    lines: list[LineView]
    is_cut: bool
    read_at: datetime


@dataclass(frozen=True, slots=True)
class LineCorrectionView:
    """A person's correction of the text at a place.

    ``text`` None: there is no text. ``said_by`` is the name of a token, or ``local``.
    """

    id: int
    polygon: Polygon
    text: str | None
    said_by: str
    said_at: datetime

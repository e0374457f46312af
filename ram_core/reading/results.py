"""What a reader returns, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text.

    Attributes:
        text: in Unicode's NFC, without control characters; 1 to 1,000 characters.
        confidence: mean probability of its characters, 0..1.
        polygon: 4 points (x, y) as fractions 0..1 of the upright picture, clockwise from the text's own top left. So
            the first point of a line that stands on its head is at its bottom right.
    """

    text: str
    confidence: float
    polygon: Polygon


@dataclass(frozen=True, slots=True)
class Reading:
    """The text of one picture.

    Attributes:
        lines: in reading order: columns from left to right, each from top to bottom.
        is_cut: there was more text than the reader's limits allow; the lines are a part of it.
    """

    lines: tuple[Line, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """What made a reading. Two specs with the same ``fingerprint`` give the same readings.

    Attributes:
        model: the reader's name.
        weights_sha256: hash over all of its weights.
        preprocessing: a short description of resizing, and of how the reader uses its models.
    """

    model: str
    weights_sha256: str
    preprocessing: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

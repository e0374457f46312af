"""Made-up readings for tests: lines of text at places of a picture."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from storage.results.reading_views import LineView, ReadingView

if TYPE_CHECKING:
    from storage.results.reading_views import Polygon

HOSTILE = "</text><script>alert('x')</script>\"&\u202e"
"""What somebody may have painted on a wall."""


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def line(number: int, text: str, polygon: Polygon = rectangle(0.1, 0.2, 0.5, 0.3), **changes: Any) -> LineView:  # noqa: B008  (a tuple)
    return LineView(**({"number": number, "text": text, "confidence": 0.9, "polygon": polygon} | changes))


def reading(*lines: LineView, image_id: int = 1) -> ReadingView:
    return ReadingView(image_id, 2, "ppocr_v6", list(lines), is_cut=False, read_at=datetime(2026, 11, 28, tzinfo=UTC))

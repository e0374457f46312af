"""The text in an image, as commands print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramq.cli.output import as_data, err, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.reading_views import LineCorrectionView, ReadingView


def text_data(reading: ReadingView, corrections: Sequence[LineCorrectionView]) -> dict[str, Any]:
    """Return the text in an image and people's corrections of it, in the form of the API."""
    return {**as_data(reading), "corrections": as_data(corrections)}


def print_text(reading: ReadingView, corrections: Sequence[LineCorrectionView]) -> None:
    """Print the lines of text in an image, and people's corrections of them."""
    print_table(
        ("line", "text", "confidence", "correction"),
        ((str(line.number), line.text, line.confidence, _id(line.correction_id)) for line in reading.lines),
        keep=("text",),
        empty="No text was found in it.",
    )
    if reading.is_cut:
        err().print("There is more text than ramq keeps of one image.", style="dim")
    if corrections:
        print_table(
            ("correction", "right text", "who", "when"),
            (
                (str(one.id), "(no text)" if one.text is None else one.text, one.said_by, one.said_at)
                for one in corrections
            ),
            keep=("right text",),
        )


def _id(number: int | None) -> str | None:
    return None if number is None else str(number)

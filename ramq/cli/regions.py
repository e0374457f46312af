"""The regions of an image, as commands print and draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramq.cli.output import err, print_table
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ramq.wiring import Services
    from storage.results.region_views import Box, RegionCorrectionView, RegionsView

_SIDE = 1280
"""Pixels of the longer side of a picture with its regions."""


def print_regions(view: RegionsView, corrections: Sequence[RegionCorrectionView]) -> None:
    """Print the regions of an image, and people's corrections of them."""
    print_table(
        ("region", "tag", "score", "box", "mask", "correction"),
        (
            (
                str(one.number),
                one.tag,
                one.score,
                _shown(one.box),
                one.mask_quality,
                None if one.correction_id is None else str(one.correction_id),
            )
            for one in view.regions
        ),
        keep=("tag",),
        empty="No regions were found in it.",
    )
    if view.is_cut:
        err().print("There are more regions than ramq keeps of one image.", style="dim")
    rejected = [one for one in corrections if not one.is_there]
    if rejected:
        print_table(
            ("correction", "rejected", "box", "who", "when"),
            ((str(one.id), one.tag, _shown(one.box), one.said_by, one.said_at) for one in rejected),
            keep=("rejected",),
        )


def regions_data(view: RegionsView | None, corrections: Sequence[RegionCorrectionView]) -> dict[str, Any] | None:
    """Return the regions of an image and people's corrections of them, in the form of the API."""
    from ramq.schemas.regions import RegionsOut  # noqa: PLC0415  (only for JSON)

    return None if view is None else RegionsOut.of(view, corrections).model_dump(mode="json")


def write_overlay(file: Path, ramq: Services, view: RegionsView) -> None:
    """Write a PNG of an image with its regions. Raises ``UsageError`` if the file cannot be written."""
    from ramq.services.region_overlay import draw  # noqa: PLC0415  (Pillow; not every command needs it)

    picture, _ = ramq.images.thumbnail(view.image_id, _SIDE)
    try:
        file.write_bytes(draw(picture, view.regions))
    except OSError as error:
        raise UsageError(f"the picture cannot be written to {file} ({error.strerror}); name another file") from error


def _shown(box: Box) -> str:
    return " ".join(f"{number:.3f}" for number in box)

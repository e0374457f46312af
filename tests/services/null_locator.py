"""A locator that costs nothing: what it finds is a function of the pixels and the tags alone.

``NULL_LOCATOR_POISON`` (hex digest of pixels, comma separated): pictures at which the process dies as of a segmentation
fault. ``NULL_LOCATOR_SECONDS``: how long each picture takes.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import workers.stages
from ram_core.localization.results import Localization, LocatorSpec, Region
from ram_core.transforms import LocatingTransform
from tests.services.null_worker import digest
from workers.stages import StageOptions, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def find(pixels: NDArray[np.uint8], tags: Sequence[str]) -> Localization:
    """What the locator finds in (H, W, 3) pixels: a region of each tag, with a box that no other picture has."""
    left, top = (int(digest(pixels)[place : place + 4], 16) / 0x20000 for place in (0, 4))
    return Localization(tuple(Region(tag, 0.5, (left, top, 0.75, 0.75)) for tag in sorted(set(tags))), is_cut=False)


class NullLocator:
    """Stands in for ``ram_core.localization.locator.Locator``."""

    preprocessing = LocatingTransform()

    def __init__(self, model: str) -> None:
        self.spec = LocatorSpec(model, "0" * 64, "null")

    def refused(self, _tags: Sequence[str]) -> dict[str, str]:
        return {}

    def locate(self, pictures: Sequence[NDArray[np.uint8]], tags: Sequence[Sequence[str]]) -> list[Localization]:
        poison = set(filter(None, os.environ.get("NULL_LOCATOR_POISON", "").split(",")))
        for picture in pictures:
            if digest(picture) in poison:
                signal.raise_signal(signal.SIGSEGV)  # to this thread: no other may go on meanwhile
            time.sleep(float(os.environ.get("NULL_LOCATOR_SECONDS", "0")))
        return [find(picture, own) for picture, own in zip(pictures, tags, strict=True)]


def load(model: str, _options: StageOptions) -> locate.LocateStage:
    """Stand in for the loader of the stage."""
    return locate.LocateStage(NullLocator(model))  # type: ignore[arg-type]  # it has what is used


def use_null_locator() -> None:
    """Let this process do the stage ``locate`` with this locator."""
    workers.stages.STAGES["locate"] = replace(workers.stages.STAGES["locate"], load=load)

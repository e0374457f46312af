"""A reader that costs nothing: what it reads is a function of the pixels alone.

``NULL_READER_POISON`` (hex digest of pixels, comma separated): pictures at which the process dies as of a segmentation
fault. ``NULL_READER_SECONDS``: how long each picture takes.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import workers.stages
from ram_core.reading.results import Line, ReaderSpec, Reading
from ram_core.transforms import ReadingTransform
from tests.services.null_worker import digest
from workers.stages import StageOptions, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

EVERYWHERE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.2), (0.1, 0.2))


def read(pixels: NDArray[np.uint8]) -> Reading:
    """What the reader finds in (H, W, 3) pixels: one line, with a word that no other picture has."""
    return Reading((Line(f"word {digest(pixels)[:12]}", 0.9, EVERYWHERE),), is_cut=False)


class NullReader:
    """Stands in for ``ram_core.reading.Reader``."""

    preprocessing = ReadingTransform()

    def __init__(self, weights: str = "0" * 64) -> None:
        self.spec = ReaderSpec("ppocr_v6", weights, "null")

    def read(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        poison = set(filter(None, os.environ.get("NULL_READER_POISON", "").split(",")))
        for picture in pictures:
            if digest(picture) in poison:
                signal.raise_signal(signal.SIGSEGV)  # to this thread: no other may go on meanwhile
            time.sleep(float(os.environ.get("NULL_READER_SECONDS", "0")))
        return [read(picture) for picture in pictures]


def load(_model: str, options: StageOptions) -> text.TextStage:
    """Stand in for the loader of the stage."""
    return text.TextStage(NullReader(), text.Mask(options.mask_text, options.mask_pattern))  # type: ignore[arg-type]  # it has what is used


def use_null_reader() -> None:
    """Let this process do the stage ``text`` with this reader."""
    kind = replace(workers.stages.STAGES["text"], is_installed=lambda: True, load=load)
    workers.stages.STAGES["text"] = kind

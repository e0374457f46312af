"""Reading the text in pictures: ``load_reader`` gives a ``Reader``, which returns a ``Reading`` for each picture.

Importing this package is cheap: ONNX Runtime and OpenCV are imported when a reader is loaded.

``results``      what a reader returns, and what identifies it
``reader``       the steps from a picture to its lines
``detection``    where the text is
``recognition``  what it says
``order``        the order in which a person would read it
``sensitive``    replacing card numbers, addresses and passwords in text
``loading``      from installed files to a reader
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ram_core.reading.reader import Reader
from ram_core.reading.results import Line, ReaderSpec, Reading
from ram_core.transforms import ReadingTransform

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["READERS", "Line", "Reader", "ReaderSpec", "Reading", "ReadingTransform", "load_reader"]

SCRIPTS = ("arabic", "cyrillic", "devanagari", "greek", "korean", "tamil", "telugu", "thai")
"""Other scripts, each with a reader ``ppocr_v5_<script>`` whose recognition network has to be pulled."""

READERS = ("ppocr_v6", *(f"ppocr_v5_{script}" for script in SCRIPTS))
"""The names that ``load_reader`` knows. ``ppocr_v6`` reads Latin script and Chinese, and comes with its package."""


def load_reader(name: str = "ppocr_v6", *, device: str = "cpu", models_dir: Path | None = None) -> Reader:
    """Load a reader by name. Nothing is downloaded.

    Args:
        name: one of ``READERS``.
        device: ``cpu``, ``cuda``, ``cuda:1``…, or ``auto`` for a GPU if ONNX Runtime has one.
        models_dir: folder of checkpoints; if it has a folder with the reader's name, the weights are taken from there.
            Otherwise they are those of the installed package.

    Raises:
        UnknownModelError: no reader has this name.
        CheckpointError: packages or weights are not installed, or are damaged.
        DeviceError: the device is not available.
    """
    from ram_core.reading import loading  # noqa: PLC0415  (the runtime is looked for here, not on import)

    return loading.load(name, device=device, models_dir=models_dir)

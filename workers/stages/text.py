"""The stage ``text``: read the words in a picture."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from storage.results import readings
from storage.results.generations import StageSpec
from storage.results.reading_views import FoundLine, ReadingRow
from workers.messages import STAGE_MODELS
from workers.stages.base import StageKind, StageOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.reading import Reader, Reading
    from ram_core.recognition import Preprocessing
    from storage.results.records import Provenance

NAME = "text"
MODEL = STAGE_MODELS[NAME]

_PACKAGES = ("rapidocr", "onnxruntime")


class TextStage:
    """Reads text, and masks what shall not be stored."""

    def __init__(self, reader: Reader, mask_text: tuple[str, ...]) -> None:
        self._reader = reader
        self._mask_text = mask_text

    @property
    def spec(self) -> StageSpec:
        """What makes its results."""
        spec = self._reader.spec
        return StageSpec(NAME, spec.fingerprint, spec.model, spec.weights_sha256, spec.preprocessing)

    @property
    def preprocessing(self) -> Preprocessing:
        """From a decoded image to the picture that is read."""
        return self._reader.preprocessing

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """Return a ``Reading`` for each (H, W, 3) picture."""
        found = self._reader.read(pictures)
        return [self._masked(reading) for reading in found] if self._mask_text else found

    def _masked(self, reading: Reading) -> Reading:
        from ram_core.reading.sensitive import mask  # noqa: PLC0415  (few mask)

        lines = (replace(line, text=mask(line.text, self._mask_text, ())) for line in reading.lines)
        return replace(reading, lines=tuple(lines))

    def write(self, session: Session, results: Sequence[tuple[int, str, Reading]], provenance: Provenance) -> None:
        """Store readings."""
        rows = [
            ReadingRow(
                image_id,
                version,
                [FoundLine(line.text, line.confidence, line.polygon) for line in reading.lines],
                reading.is_cut,
            )
            for image_id, version, reading in results
        ]
        readings.write_readings(session, rows, provenance)


def _is_installed() -> bool:
    return all(find_spec(package) is not None for package in _PACKAGES)


def _load(options: StageOptions) -> TextStage:
    from ram_core.reading import load_reader  # noqa: PLC0415  (onnxruntime)

    return TextStage(load_reader(MODEL, device=options.device, models_dir=options.models_dir), options.mask_text)


KIND = StageKind(NAME, MODEL, is_installed=_is_installed, load=_load)

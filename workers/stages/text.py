"""The stage ``text``: read the words in a picture."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ram_core.reading import sensitive
from storage.errors import UsageError
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
    from storage.ledger.claims import ClaimedShard
    from storage.results.records import Provenance

NAME = "text"
_PACKAGES = ("rapidocr", "onnxruntime")


class Mask:
    """What shall not be stored of a text.

    Args:
        kinds: names of ``ram_core.reading.sensitive.KINDS``.
        pattern: a regular expression; what it matches is masked too.

    Raises:
        UsageError: a kind is unknown, or the pattern is not valid.
    """

    def __init__(self, kinds: Sequence[str], pattern: str | None) -> None:
        self._kinds = tuple(sorted(set(kinds)))
        try:
            self._patterns = [] if pattern is None else [re.compile(pattern, re.MULTILINE)]
            sensitive.mask("", self._kinds, self._patterns)
        except re.error as error:
            raise UsageError(f"settings: RAMQ_MASK_PATTERN is not a regular expression: {error}") from error
        except ValueError as error:
            raise UsageError(f"settings: RAMQ_MASK_TEXT: {error}") from error
        # The pattern itself may say what must not be known: only its hash is kept with the results.
        hashes = (f"pattern {hashlib.sha256(each.pattern.encode()).hexdigest()[:12]}" for each in self._patterns)
        described = [*self._kinds, *hashes]
        self.description = f"; masked: {', '.join(described)}" if described else ""

    def __call__(self, reading: Reading) -> Reading:
        """Return a reading without it. A word such as "password" may stand in the line above what it is about."""
        if not self.description or not reading.lines:
            return reading
        whole = sensitive.mask("\n".join(line.text for line in reading.lines), self._kinds, self._patterns)
        lines = zip(reading.lines, whole.split("\n"), strict=True)
        return replace(reading, lines=tuple(replace(line, text=text) for line, text in lines))


class TextStage:
    """Reads text, and masks what shall not be stored."""

    def __init__(self, reader: Reader, mask: Mask) -> None:
        self._reader = reader
        self._mask = mask

    @property
    def spec(self) -> StageSpec:
        """What makes its results: the reader, and what is masked."""
        spec, masked = self._reader.spec, self._mask.description
        own = hashlib.sha256(f"{spec.fingerprint}{masked}".encode()).hexdigest() if masked else spec.fingerprint
        return StageSpec(NAME, own, spec.model, spec.weights_sha256, spec.preprocessing + masked)

    @property
    def preprocessing(self) -> Preprocessing:
        """From a decoded image to the picture that is read."""
        return self._reader.preprocessing

    def asked(self, session: Session, shard: ClaimedShard) -> dict[int, Any]:  # noqa: ARG002
        """Return nothing: all text is read."""
        return {}

    def run(self, pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        """Return a ``Reading`` for each (H, W, 3) picture."""
        return [self._mask(reading) for reading in self._reader.read(pictures)]

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


def _load(model: str, options: StageOptions) -> TextStage:
    from ram_core.reading import load_reader  # noqa: PLC0415  (onnxruntime)

    mask = Mask(options.mask_text, options.mask_pattern)
    return TextStage(load_reader(model, device=options.device, models_dir=options.models_dir), mask)


# A page full of small print takes minutes on a slow machine, and batches gain nothing here.
KIND = StageKind(NAME, STAGE_MODELS[NAME], batch_size=1, is_installed=_is_installed, load=_load)

"""The stage that reads what files say, of images that were recognised before that was kept.

Recognition, and every other stage, keeps it too: the pipeline reads it whenever it decodes an image, and writes it with
the results. This stage asks for no pixels and has no results of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ram_core.metadata import NoPixels
from storage.results import metadata
from storage.results.generations import StageSpec
from workers.messages import STAGE_MODELS
from workers.stages.base import StageKind, StageOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.recognition import Preprocessing
    from storage.ledger.claims import ClaimedShard
    from storage.results.records import Provenance

MODEL = STAGE_MODELS[metadata.STAGE][0]


class MetadataStage:
    """Lets the pipeline read files."""

    @property
    def spec(self) -> StageSpec:
        """What makes its results: no weights."""
        return StageSpec(metadata.STAGE, "metadata", MODEL, "", "EXIF, IPTC and XMP")

    @property
    def preprocessing(self) -> Preprocessing:
        """No pixels."""
        return NoPixels()

    def asked(self, session: Session, shard: ClaimedShard) -> dict[int, Any]:
        """Return nothing: files say what they say."""
        del session, shard
        return {}

    def run(self, pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Any]) -> list[Any]:
        """Return nothing for each image."""
        del asked
        return [None] * len(pictures)

    def write(self, session: Session, results: Sequence[tuple[int, str, Any]], provenance: Provenance) -> None:
        """Store nothing: see ``workers.pipeline.write``."""


def _load(model: str, options: StageOptions) -> MetadataStage:
    del model, options
    return MetadataStage()


KIND = StageKind(metadata.STAGE, STAGE_MODELS[metadata.STAGE], batch_size=64, is_installed=lambda: True, load=_load)

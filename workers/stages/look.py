"""The stages of spaces: a vector of each image, beside that of recognition.

``look`` tells how an image looks, to find those that look alike. ``siglip``, ``clip`` and ``dino`` are what towers of
these kinds make of it.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.results import looks
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from storage.results.spaces import LOOK, SPACES
from workers.messages import STAGE_MODELS, TOWER_TYPES
from workers.stages.base import StageKind, StageOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.recognition import Preprocessing
    from ram_core.spaces import ImageEncoder
    from storage.ledger.claims import ClaimedShard
    from storage.results.records import Provenance


class LookStage:
    """Encodes images.

    Args:
        space: the name of the stage.
        encoder: the model.
    """

    def __init__(self, space: str, encoder: ImageEncoder) -> None:
        self._space = space
        self._encoder = encoder

    @property
    def spec(self) -> StageSpec:
        """What makes its results."""
        spec = self._encoder.spec
        # A generation belongs to one stage, also if the same model serves several.
        own = spec.fingerprint
        if self._space != LOOK:
            own = hashlib.sha256(f"{self._space} {own}".encode()).hexdigest()
        preparation = f"{spec.preprocessing}; {spec.method}"
        return StageSpec(self._space, own, spec.model, spec.weights_sha256, preparation, self._space, spec.vector_size)

    @property
    def preprocessing(self) -> Preprocessing:
        """From a decoded image to what the network takes."""
        return self._encoder.preprocessing

    def asked(self, session: Session, shard: ClaimedShard) -> dict[int, Any]:
        """Return nothing: these vectors do not depend on a question."""
        del session, shard
        return {}

    def run(self, pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Any]) -> list[Any]:
        """Return a (D,) float32 unit vector for each (S, S, 3) picture."""
        del asked
        return list(self._encoder.encode(np.stack(pictures)))

    def write(
        self, session: Session, results: Sequence[tuple[int, str, NDArray[np.float32]]], provenance: Provenance
    ) -> None:
        """Store vectors."""
        if not results:
            return
        packed = pack_vectors(np.stack([vector for _, _, vector in results]))
        rows = [
            looks.LookRow(image_id, version, vector)
            for (image_id, version, _), vector in zip(results, packed, strict=True)
        ]
        looks.write_looks(session, rows, provenance)


def _load(space: str, model: str, options: StageOptions) -> LookStage:
    from ram_core.spaces import load_image_encoder  # noqa: PLC0415  (torch)

    encoder = load_image_encoder(
        model,
        device=options.device,
        models_dir=options.models_dir,
        precision=options.look_precision,
        types=TOWER_TYPES.get(space),
    )
    return LookStage(space, encoder)


KINDS = tuple(
    StageKind(space, STAGE_MODELS[space], batch_size=32, is_installed=lambda: True, load=partial(_load, space))
    for space in SPACES
)

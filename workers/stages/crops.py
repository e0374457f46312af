"""The stage ``crops``: each region of an image as a picture of its own, with a vector and tags."""

from __future__ import annotations

import hashlib
from itertools import islice
from math import ceil, floor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from ram_core.recognition import assigned_tags
from ram_core.transforms import ReadingTransform
from storage.results import crops
from storage.results.crops import CropsRow, FoundCrop, Sought
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from storage.tables import SCORE_SCALE
from workers.messages import STAGE_MODELS
from workers.stages.base import StageKind, StageOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from ram_core.recognition import Prediction, Preprocessing, Recognizer
    from storage.ledger.claims import ClaimedShard
    from storage.results.records import Provenance
    from storage.results.region_views import Box

NAME = crops.STAGE
SIDE = 2048
"""Images are reduced to this length of the longer side. A region of a twentieth of it still has 100 pixels."""

MARGIN = 0.1
"""What is around a region is kept too, to this share of its width and height on each side: it tells what the thing is,
and boxes are never exact."""

LEAST = 16
"""Side of the smallest picture, in pixels of the reduced image. A region of a few pixels gets its surroundings."""

_ROUNDING = 1e-6
"""A pixel is not taken because of the error of an addition."""

AT_ONCE = 32
"""Regions in one call of the model."""


class Cropped(NamedTuple):
    """What was computed for an image: a prediction for each of the regions that were ``sought``; None: not located."""

    sought: Sought | None
    predictions: list[Prediction]


class CropsStage:
    """Recognises regions of images.

    Args:
        recognizer: the model.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self.preprocessing: Preprocessing = ReadingTransform(SIDE)

    @property
    def spec(self) -> StageSpec:
        """What makes its results: the model, and how regions are cut out."""
        spec = self._recognizer.spec
        cut = f"fit-{SIDE}-box, margin {MARGIN}, at least {LEAST} pixels"
        own = hashlib.sha256(f"{NAME} {spec.fingerprint} {cut}".encode()).hexdigest()
        preparation = f"{cut}; {spec.preprocessing}"
        return StageSpec(NAME, own, spec.model, spec.weights_sha256, preparation, spec.vector_kind, spec.vector_size)

    def asked(self, session: Session, shard: ClaimedShard) -> dict[int, Any]:
        """Return the regions of each image, as people see them."""
        return dict(crops.sought(session, shard.image_ids))

    def run(self, pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Sought | None]) -> list[Any]:
        """Return a ``Cropped`` for each (H, W, 3) picture."""
        regions = [(n, box) for n, sought in enumerate(asked) if sought is not None for _, box in sought.regions]
        predictions: list[Prediction] = []
        for start in range(0, len(regions), AT_ONCE):
            chosen = regions[start : start + AT_ONCE]
            pixels = [self._recognizer.preprocessing(Image.fromarray(cut(pictures[n], box))) for n, box in chosen]
            predictions += self._recognizer.predict(np.stack(pixels))
        left = iter(predictions)
        return [Cropped(each, list(islice(left, 0 if each is None else len(each.regions)))) for each in asked]

    def write(self, session: Session, results: Sequence[tuple[int, str, Cropped]], provenance: Provenance) -> None:
        """Store vectors and tags.

        If the bytes are not those in which the regions were located, there is nothing to store: locating again makes
        the image pending.
        """
        rows = [
            CropsRow(
                image_id,
                version,
                None if found.sought is None else found.sought.xid,
                self._crops(found) if found.sought is not None and found.sought.version == version else (),
            )
            for image_id, version, found in results
        ]
        crops.write_crops(session, rows, provenance)

    def _crops(self, found: Cropped) -> list[FoundCrop]:
        if found.sought is None or not found.predictions:
            return []
        packed = pack_vectors(np.stack([prediction.vector for prediction in found.predictions]))
        made = []
        for (tag, box), prediction, vector in zip(found.sought.regions, found.predictions, packed, strict=True):
            assigned = assigned_tags(prediction, self._recognizer.vocabulary)
            scores = [round(each.score * SCORE_SCALE) for each in assigned]
            made.append(FoundCrop(tag, box, vector, [each.name for each in assigned], scores))
        return made


def cut(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return the pixels of a region with a margin.

    Args:
        picture: (H, W, 3).
        box: left, top, right, bottom as fractions of the picture.

    Returns:
        (h, w, 3), a view, with ``LEAST`` pixels or more in each direction unless the picture has fewer.
    """
    height, width = picture.shape[:2]
    left, right = _stretch(box[0], box[2], width)
    top, bottom = _stretch(box[1], box[3], height)
    return picture[top:bottom, left:right]


def _stretch(first: float, last: float, size: int) -> tuple[int, int]:
    """Return the pixels, begin and end (exclusive), of a side of a box with its margin."""
    margin = MARGIN * (last - first)
    begin, end = (first - margin) * size, (last + margin) * size
    lacking = max(0.0, LEAST - (end - begin))
    begin, end = begin - lacking / 2, end + lacking / 2
    # Moved into the picture, so that a small region at its edge is not cut below the least size.
    if lacking and size > LEAST:
        shift = max(0.0, -begin) - max(0.0, end - size)
        begin, end = begin + shift, end + shift
    low = min(max(0, floor(begin + _ROUNDING)), size - 1)
    return low, max(low + 1, min(size, ceil(end - _ROUNDING)))


def _load(model: str, options: StageOptions) -> CropsStage:
    import torch  # noqa: PLC0415

    import ram_core  # noqa: PLC0415
    from ram_core.registry import resolve_device  # noqa: PLC0415

    device = resolve_device(options.device)
    return CropsStage(
        ram_core.load_model(
            model,
            device=device,
            dtype=torch.float16 if device.type == "cuda" else torch.float32,
            models_dir=options.models_dir,
            cache_dir=options.cache_dir,
        )
    )


# The regions of one picture fill a batch: three hundred of them take a large model minutes on a CPU.
KIND = StageKind(NAME, STAGE_MODELS[NAME], batch_size=1, is_installed=lambda: True, load=_load)

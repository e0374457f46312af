"""SAM (arXiv:2304.02643), SAM 2 (arXiv:2408.00714) and SAM-HQ (arXiv:2306.01567), on the networks of transformers.

A picture is encoded once, and then all its boxes are decoded together. Of each box the network gives one mask, not the
three of its parts and wholes (``multimask_output=False``), as in the RAM authors' demo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ram_core.localization.memory import Batches
from ram_core.localization.parts import PRECISION, Mask
from ram_core.localization.pixels import network_input, padded, require_picture, resized
from ram_core.localization.rle import encode
from ram_core.transforms import Sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.localization.pixels import Preparation
    from ram_core.localization.results import PartSpec
    from ram_core.precision import Precision

# How the networks are used, for the fingerprint. Whoever changes what is found must change this.
METHOD = "boxes-one-mask-v1"

# SAM 2 squashes pictures into a square. For that the shorter side must be long enough too; this bounds the longer one.
_LONGEST = 4
_PICTURES_AT_ONCE = 4
_BOXES_AT_ONCE = 32  # their masks at the network's size take 4 MB each


class _Box(NamedTuple):
    """One box of a picture, in pixels of the network's square."""

    corners: NDArray[np.float32]


class Sam:
    """A loaded segmenter. One thread at a time.

    Args:
        network: of transformers, with its weights, in evaluation mode, on its device.
        kind: ``sam``, ``sam2`` or ``sam_hq``.
        preparation: levels of pictures; ``sides.long`` is the side of the network's square.
        spec: what identifies it.
        precision: number format to compute in.
    """

    def __init__(self, network: Any, kind: str, preparation: Preparation, spec: PartSpec, precision: Precision) -> None:
        self._network = network
        self._precision = precision
        # What decodes boxes stays float32: it takes a tenth of the time, and the positions of boxes need the digits.
        precision.reduce(network.vision_encoder)
        self._device = network.device
        self._kind = kind
        self._squashes = kind == "sam2"
        self._side = preparation.sides.long
        self._preparation = preparation
        self._spec = spec
        self._picture_batches = Batches(_PICTURES_AT_ONCE)
        self._box_batches = Batches(_BOXES_AT_ONCE)

    @property
    def spec(self) -> PartSpec:
        """What identifies it."""
        return self._spec

    @property
    def sides(self) -> Sides:
        """The size of pictures that it uses."""
        return Sides(self._side, self._side * (_LONGEST if self._squashes else 1))

    @torch.inference_mode()
    def segment(self, pictures: Sequence[NDArray[np.uint8]], boxes: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        """Return a mask for each box of each picture; see ``Segmenter``."""
        masks: list[list[Mask]] = [[] for _ in pictures]
        for picture in pictures:
            require_picture(picture)
        asked = [i for i, own in enumerate(boxes) if len(own)]
        # Only so many pictures' features are held at a time.
        for start in range(0, len(asked), self._picture_batches.most):
            group = asked[start : start + self._picture_batches.most]
            features = self._picture_batches.run([pictures[i] for i in group], self._encode)
            for i, own in zip(group, features, strict=True):
                masks[i] = self._decode(own, pictures[i].shape[:2], boxes[i])
        return masks

    def _inside(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that a picture has in the network's square."""
        if self._squashes:
            return self._side, self._side
        scaled = Sides(self._side, self._side).of(width, height)
        return scaled[1], scaled[0]

    def _encode(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        """Return the features of each picture: a list of tensors with a first axis of one."""
        pixels = []
        for picture in pictures:
            height, width = self._inside(*picture.shape[:2])
            ready = resized(picture, width, height)
            # The levels of the filling are those of zeros after normalisation, as SAM was trained.
            levels = self._preparation.mean, self._preparation.std
            pixels.append(padded(network_input([ready], *levels, self._device), self._side))
        with self._precision.products():
            found = self._network.get_image_embeddings(torch.cat(pixels))
        if self._kind == "sam":
            tensors = [found]
        elif self._kind == "sam_hq":
            tensors = [found[0], *found[1]]
        else:
            tensors = list(found)
        return [[tensor[i : i + 1].float() for tensor in tensors] for i in range(len(pictures))]

    def _decode(self, features: list[torch.Tensor], size: tuple[int, ...], boxes: NDArray[np.float32]) -> list[Mask]:
        inside = self._inside(*size)
        scale = np.array([inside[1], inside[0]] * 2, dtype=np.float32)
        items = [_Box(corners) for corners in boxes * scale]
        return self._box_batches.run(items, lambda part: self._masks(features, part, (inside, size)))

    def _masks(
        self, features: list[torch.Tensor], boxes: Sequence[_Box], sizes: tuple[tuple[int, int], tuple[int, ...]]
    ) -> list[Mask]:
        inside, size = sizes
        corners = torch.from_numpy(np.stack([box.corners for box in boxes])).to(self._device)
        given: dict[str, Any] = {"image_embeddings": features if self._squashes else features[0]}
        if self._kind == "sam_hq":
            given["intermediate_embeddings"] = features[1:]
        output = self._network(**given, input_boxes=corners[None], multimask_output=False)
        low, quality = output.pred_masks[0].float(), output.iou_scores[0, :, 0].float()  # (N, 1, h, w), (N,)
        if not (bool(low.isfinite().all()) and bool(quality.isfinite().all())):
            raise self._precision.not_finite("segmenter", PRECISION)
        if not self._squashes:
            whole = _enlarged(low, (self._side, self._side))
            low = whole[:, :, : inside[0], : inside[1]]
        masks = (_enlarged(low, (size[0], size[1]))[:, 0] > 0).cpu().numpy()
        shares = quality.clamp(0, 1).tolist()
        return [Mask(encode(mask), share) for mask, share in zip(masks, shares, strict=True)]


def _enlarged(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(masks.shape[2:]) == size:
        return masks
    return functional.interpolate(masks, size, mode="bilinear", align_corners=False)

"""Boxes and masks of tags as one would write it from the demonstration of RAM's authors: what is compared with.

It computes the whole detector for each prompt and picture (image and words again), then gives SAM a picture and all of
its boxes. It has the same prompts as ours: the demonstration has one prompt, and cuts off the tags that do not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ram_core.localization.pixels import network_input, padded, resized
from ram_core.localization.prompts import span_scores
from ram_core.localization.rle import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.localization.locator import Locator


class Straightforward:
    """The chain, on the loaded networks of a locator with Grounding DINO and SAM.

    Args:
        locator: whose networks it uses, in its number format.
        most: boxes of a picture.
    """

    def __init__(self, locator: Locator, most: int) -> None:
        self.detector: Any = locator._detector  # noqa: SLF001  (the same weights, not a second copy)
        self.segmenter: Any = locator._segmenter  # noqa: SLF001
        self.device = locator._detector._device  # type: ignore[attr-defined]  # noqa: SLF001  (of the networks)
        self.most = most

    @torch.inference_mode()
    def locate(self, picture: NDArray[np.uint8], tags: Sequence[str]) -> list[tuple[float, NDArray[np.float32]]]:
        """Return score and box of the best boxes of one picture, after making their masks."""
        detector, network = self.detector, self.detector._network  # noqa: SLF001
        held = network.model.backbone, network.model.text_backbone
        network.model.backbone, network.model.text_backbone = detector._images, detector._text  # noqa: SLF001
        levels = detector._preparation  # noqa: SLF001
        found: list[tuple[float, NDArray[np.float32]]] = []
        try:
            for prompt in detector.prompts(tags):
                ready = resized(picture, *detector.sides.of(*picture.shape[1::-1]))
                ids = [101, *(token for words in prompt.phrases for token in (*words, 1012)), 102]
                with detector._precision.products():  # noqa: SLF001
                    output = network(
                        pixel_values=network_input([ready], levels.mean, levels.std, self.device),
                        input_ids=torch.tensor([ids], device=self.device),
                    )
                scores = output.logits[0].float().sigmoid().cpu().numpy()
                boxes = output.pred_boxes[0].float().cpu().numpy()
                best = span_scores(scores, list(prompt.spans.values())).max(axis=1)
                found += [(float(best[i]), boxes[i]) for i in np.argsort(-best)[: self.most]]
        finally:
            network.model.backbone, network.model.text_backbone = held
        found = sorted(found, key=lambda each: -each[0])[: self.most]
        if self.segmenter is not None:
            self._segment(picture, np.stack([box for _, box in found]))
        return found

    def _segment(self, picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
        segmenter = self.segmenter
        height, width = segmenter._inside(*picture.shape[:2])  # noqa: SLF001
        levels = segmenter._preparation  # noqa: SLF001
        ready = network_input([resized(picture, width, height)], levels.mean, levels.std, self.device)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        corners = corners.clip(0, 1) * np.array([width, height] * 2, dtype=np.float32)
        with segmenter._precision.products():  # noqa: SLF001
            features = segmenter._network.get_image_embeddings(padded(ready, segmenter._side))  # noqa: SLF001
        output = segmenter._network(  # noqa: SLF001
            image_embeddings=features.float(),
            input_boxes=torch.from_numpy(corners[None]).to(self.device),
            multimask_output=False,
        )
        square = (segmenter._side,) * 2  # noqa: SLF001
        masks = torch.nn.functional.interpolate(output.pred_masks[0].float(), square, mode="bilinear")
        masks = masks[:, :, :height, :width]
        masks = torch.nn.functional.interpolate(masks, picture.shape[:2], mode="bilinear")
        for mask in (masks[:, 0] > 0).cpu().numpy():
            encode(mask)

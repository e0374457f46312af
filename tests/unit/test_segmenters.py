"""Masks are those of transformers' own models and processors, at the size of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

from ram_core.errors import CheckpointError, ImageError
from ram_core.localization import Rules, load_locator, load_segmenter
from ram_core.localization.pixels import network_input, resized
from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD
from tests.tiny_locators import TAGS, picture, write_models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEGMENTERS = {"sam-vit-base": "SamModel", "sam2.1-hiera-tiny": "Sam2Model", "sam-hq-vit-base": "SamHQModel"}
BOXES = np.array([[0.1, 0.2, 0.6, 0.7], [0, 0, 1, 1], [0.5, 0.5, 0.9, 0.6]], dtype=np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), *SEGMENTERS, "grounding-dino-tiny")


def expected(name: str, models: Path, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks and qualities by the steps of transformers' processors, for a network whose square has 64 pixels."""
    network = getattr(transformers, SEGMENTERS[name]).from_pretrained(str(models / name)).eval()
    height, width = image.shape[:2]
    if name == "sam2.1-hiera-tiny":
        inside = (64, 64)
    else:
        inside = (int(height * 64 / max(height, width) + 0.5), int(width * 64 / max(height, width) + 0.5))
    pixels = network_input([resized(image, *inside[::-1])], IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))
    square = torch.zeros(1, 3, 64, 64)
    square[:, :, : inside[0], : inside[1]] = pixels
    corners = torch.from_numpy(boxes) * torch.tensor([inside[1], inside[0], inside[1], inside[0]])
    with torch.inference_mode():
        output = network(pixel_values=square, input_boxes=corners[None], multimask_output=False)
    low = output.pred_masks[0]
    if name != "sam2.1-hiera-tiny":
        low = functional.interpolate(low, (64, 64), mode="bilinear", align_corners=False)[..., : inside[0], : inside[1]]
    whole = functional.interpolate(low, (height, width), mode="bilinear", align_corners=False)
    return (whole[:, 0] > 0).numpy(), output.iou_scores[0, :, 0].clamp(0, 1).numpy()


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("size", [(48, 100), (90, 60), (64, 64)])
def test_masks_are_those_of_transformers(name: str, size: tuple[int, int], models: Path) -> None:
    image = picture(*size)
    [found] = load_segmenter(name, models_dir=models).segment([image], [BOXES])
    masks, qualities = expected(name, models, image, BOXES)
    assert 0.02 < masks.mean() < 0.98
    for mask, own, quality in zip(found, masks, qualities, strict=True):
        assert (mask.rle.height, mask.rle.width) == size
        assert (mask.rle.decode() != own).mean() < 0.001
        assert mask.quality == pytest.approx(float(quality), abs=1e-4)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_batches_are_like_single_pictures_and_boxes(name: str, models: Path) -> None:
    segmenter = load_segmenter(name, models_dir=models)
    pictures = [picture(50, 80, seed) for seed in range(3)] + [picture(80, 50, 3)]
    boxes: Sequence[np.ndarray] = [BOXES, BOXES[:0], BOXES[1:2], BOXES[::-1]]
    together = segmenter.segment(pictures, boxes)
    assert [len(own) for own in together] == [3, 0, 1, 3]
    for image, own, found in zip(pictures, boxes, together, strict=True):
        for box, mask in zip(own, found, strict=True):
            [[alone]] = segmenter.segment([image], [box[None]])
            assert (alone.rle.decode() != mask.rle.decode()).mean() < 0.001
            assert alone.quality == pytest.approx(mask.quality, abs=1e-4)


def test_a_picture_is_encoded_once_and_its_boxes_are_decoded_together(models: Path) -> None:
    segmenter: Any = load_segmenter("sam-vit-base", models_dir=models)
    encoded: list[int] = []
    decoded: list[int] = []
    segmenter._network.vision_encoder.register_forward_pre_hook(lambda _, given: encoded.append(len(given[0])))
    segmenter._network.mask_decoder.register_forward_pre_hook(
        lambda _, __, named: decoded.append(named["sparse_prompt_embeddings"].shape[1]), with_kwargs=True
    )
    segmenter.segment([picture(50, 80)] * 2, [np.repeat(BOXES, 12, axis=0), BOXES])
    assert encoded == [2]
    assert decoded == [32, 4, 3]


def test_where_memory_is_short_boxes_are_decoded_in_halves(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter: Any = load_segmenter("sam-vit-base", models_dir=models)
    [whole] = segmenter.segment([picture(50, 80)], [BOXES])
    work = segmenter._masks

    def poor(features: Any, part: Any, sizes: Any) -> Any:
        if len(part) > 1:
            raise torch.OutOfMemoryError("there is no room for this")
        return work(features, part, sizes)

    monkeypatch.setattr(segmenter, "_masks", poor)
    [halves] = segmenter.segment([picture(50, 80)], [BOXES])
    assert [mask.rle for mask in halves] == [mask.rle for mask in whole]


def test_a_locator_with_a_segmenter_gives_masks_if_they_are_wanted(models: Path) -> None:
    locator = load_locator("grounding-dino-tiny", "sam-vit-base", models_dir=models, rules=Rules(threshold=0.5))
    boxes = load_locator("grounding-dino-tiny", models_dir=models, rules=Rules(threshold=0.5))
    [found] = locator.locate([picture(96, 128)], [TAGS])
    assert found.regions
    for region in found.regions:
        assert region.mask is not None
        assert (region.mask.height, region.mask.width) == (96, 128)
        assert region.mask_quality is not None
        assert 0 <= region.mask_quality <= 1
    [plain] = locator.locate([picture(96, 128)], [TAGS], masks=False)
    assert [region.mask for region in plain.regions] == [None] * len(found.regions)
    assert plain == boxes.locate([picture(96, 128)], [TAGS])[0]
    assert locator.spec.model == "grounding-dino-tiny+sam-vit-base"
    assert locator.spec.fingerprint != boxes.spec.fingerprint


def test_a_damaged_network_is_an_error(models: Path) -> None:
    segmenter: Any = load_segmenter("sam-vit-base", models_dir=models)
    with torch.no_grad():
        for weight in segmenter._network.mask_decoder.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        segmenter.segment([picture(50, 80)], [BOXES])
    with pytest.raises(ImageError):
        segmenter.segment([np.zeros((4, 4), np.uint8)], [BOXES])

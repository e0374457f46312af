"""Grounding DINO in parts gives what the whole network of transformers gives, and batches what single pictures give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

from ram_core.localization import Rules, load_detector, load_locator
from ram_core.localization.pixels import network_input
from ram_core.localization.tiny import write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = {"grounding-dino-tiny": "GroundingDinoForObjectDetection"}
TAGS = ["dog", "golden retriever", "remote control", "cat"]


@pytest.fixture(scope="module", params=CLASSES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(request.param, tmp_path_factory.mktemp("models"))


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_boxes_and_scores_are_those_of_the_whole_network(folder: Path) -> None:
    detector: Any = load_detector(folder.name, models_dir=folder.parent)
    network = getattr(transformers, CLASSES[folder.name]).from_pretrained(str(folder)).eval()
    words = transformers.AutoTokenizer.from_pretrained(str(folder))
    [prompt] = detector.prompts(TAGS)
    names = sorted(TAGS, key=lambda tag: prompt.spans[tag].start)
    text = words(". ".join(names) + ".", return_tensors="pt")
    pixels = network_input([picture(96, 128)], *IMAGENET, torch.device("cpu"))
    with torch.inference_mode():
        expected = network(pixel_values=pixels, **text)
    found = detector.detect([picture(96, 128)], [TAGS], 0.0)[0]
    scores, boxes = expected.logits[0].sigmoid().numpy(), expected.pred_boxes[0].numpy()
    assert len(found.scores) == len(scores) * len(TAGS)
    for place, tag in enumerate(TAGS):
        own = found.tags == place
        span = words(tag, add_special_tokens=False)["input_ids"]
        at = text["input_ids"][0].tolist().index(span[0])
        np.testing.assert_allclose(found.scores[own], scores[:, at : at + len(span)].max(axis=1), atol=1e-5)
        np.testing.assert_allclose(found.boxes[own][:, :2], boxes[:, :2] - boxes[:, 2:] / 2, atol=1e-5)
        np.testing.assert_allclose(found.boxes[own][:, 2:], boxes[:, :2] + boxes[:, 2:] / 2, atol=1e-5)


def test_a_locator_gives_regions_of_each_picture_s_own_tags(folder: Path) -> None:
    locator = load_locator(folder.name, models_dir=folder.parent, rules=Rules(threshold=0.5))
    pictures = [picture(120, 160), picture(160, 90, 1), picture(120, 160, 2), picture(80, 80, 3)]
    tags = [TAGS, ["cat"], ["dog", "cat"], []]
    together = locator.locate(pictures, tags)
    assert [{region.tag for region in found.regions} <= set(own) for found, own in zip(together, tags, strict=True)]
    assert together[0].regions
    assert together[3].regions == ()
    for place, found in enumerate(together):
        [alone] = locator.locate([pictures[place]], [tags[place]])
        assert [region.tag for region in alone.regions] == [region.tag for region in found.regions]
        for one, other in zip(alone.regions, found.regions, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert one.box == pytest.approx(other.box, abs=1e-5)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

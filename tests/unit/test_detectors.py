"""Detectors in parts give what the whole networks of transformers give, and batches what single pictures give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

from ram_core.errors import CheckpointError, ImageError, ModelError, VocabularyError
from ram_core.localization import Rules, load_detector, load_locator
from ram_core.localization.pixels import network_input
from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD
from tests.tiny_locators import TAGS, picture, write_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GROUNDING = {
    "grounding-dino-tiny": "GroundingDinoForObjectDetection",
    "mm-grounding-dino-tiny": "MMGroundingDinoForObjectDetection",
}
DETECTORS = (*GROUNDING, "owlv2-base")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), *DETECTORS)


def corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


@pytest.mark.parametrize("name", GROUNDING)
@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_boxes_and_scores_are_those_of_the_whole_network(name: str, padding: str, models: Path) -> None:
    detector: Any = load_detector(name, models_dir=models)
    network = getattr(transformers, GROUNDING[name]).from_pretrained(str(models / name)).eval()
    words = transformers.AutoTokenizer.from_pretrained(str(models / name))
    [prompt] = detector.prompts(TAGS)
    names = sorted(TAGS, key=lambda tag: prompt.spans[tag].start)
    text = words(". ".join(names) + ".", return_tensors="pt", padding=padding, max_length=40)
    pixels = network_input([picture(96, 128)], IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu"))
    with torch.inference_mode():
        expected = network(pixel_values=pixels, **text)
    scores, boxes = expected.logits[0].sigmoid().numpy(), expected.pred_boxes[0].numpy()
    assert scores.std() > 0.02  # a network that says the same everywhere would hide mistakes
    found = detector.detect([picture(96, 128)], [TAGS], 0.0)[0]
    assert len(found.scores) == len(scores) * len(TAGS)
    for place, tag in enumerate(TAGS):
        own = found.tags == place
        span = words(tag, add_special_tokens=False)["input_ids"]
        at = text["input_ids"][0].tolist().index(span[0])
        np.testing.assert_allclose(found.scores[own], scores[:, at : at + len(span)].max(axis=1), atol=1e-5)
        np.testing.assert_allclose(found.boxes[own], corners(boxes), atol=1e-5)


def test_owl_s_boxes_and_scores_are_those_of_the_whole_network(models: Path) -> None:
    detector = load_detector("owlv2-base", models_dir=models)
    network = transformers.Owlv2ForObjectDetection.from_pretrained(str(models / "owlv2-base")).eval()
    words = transformers.AutoTokenizer.from_pretrained(str(models / "owlv2-base"))
    text = words([f"a photo of a {tag}" for tag in TAGS], padding="max_length", max_length=40, return_tensors="pt")
    mean, std = (np.array(each, dtype=np.float32) for each in (network_mean(models), network_std(models)))
    square = np.full((64, 64, 3), 0.5, dtype=np.float32)
    square[:, :32] = picture(64, 32) / 255
    pixels = torch.from_numpy(((square - mean) / std).transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        expected = network(pixel_values=pixels, **text)
    scores, boxes = expected.logits[0].sigmoid().numpy(), corners(expected.pred_boxes[0].numpy())
    found = detector.detect([picture(64, 32)], [TAGS], 0.0)[0]
    table = np.zeros_like(scores)
    table[np.arange(len(found.scores)) // len(TAGS), found.tags] = found.scores
    np.testing.assert_allclose(table, scores, atol=1e-5)
    # The picture is the left half of the square.
    np.testing.assert_allclose(found.boxes[:: len(TAGS)], boxes * [2, 1, 2, 1], atol=1e-5)


def network_mean(models: Path) -> list[float]:
    return transformers.Owlv2ImageProcessor.from_pretrained(str(models / "owlv2-base")).image_mean


def network_std(models: Path) -> list[float]:
    return transformers.Owlv2ImageProcessor.from_pretrained(str(models / "owlv2-base")).image_std


@pytest.mark.parametrize("name", DETECTORS)
def test_a_picture_s_regions_do_not_depend_on_the_others(name: str, models: Path) -> None:
    locator = load_locator(name, models_dir=models, rules=Rules(threshold=0.3))
    pictures = [picture(120, 160), picture(160, 90, 1), picture(120, 160, 2), picture(80, 80, 3), picture(240, 320, 4)]
    tags = [TAGS, ["cat"], ["cat", "dog"], [], ["remote control"]]
    together = locator.locate(pictures, tags)
    assert sum(len(found.regions) for found in together) > 20
    assert together[3].regions == ()
    for place, found in enumerate(together):
        assert {region.tag for region in found.regions} <= set(tags[place])
        [alone] = locator.locate([pictures[place]], [tags[place]])
        assert [region.tag for region in alone.regions] == [region.tag for region in found.regions]
        for one, other in zip(alone.regions, found.regions, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert one.box == pytest.approx(other.box, abs=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_order_of_tags_changes_nothing_and_a_tag_given_twice_counts_once(name: str, models: Path) -> None:
    locator = load_locator(name, models_dir=models, rules=Rules(threshold=0.3))
    one, other = locator.locate([picture(120, 160)] * 2, [TAGS, [*reversed(TAGS), TAGS[0]]])
    assert one.regions
    first, second = (sorted((region.tag, round(region.score, 4)) for region in each.regions) for each in (one, other))
    assert first == second


def counted(module: torch.nn.Module, calls: list[int]) -> None:
    """Count the pictures or texts that go through a module."""
    module.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))


def test_image_and_words_are_computed_once_though_the_tags_need_several_prompts(models: Path) -> None:
    detector: Any = load_detector("grounding-dino-tiny", models_dir=models)
    detector._packer._room = 8  # two phrases or three
    looked: list[int] = []
    counted(detector._images.conv_encoder, looked)
    assert len(detector.prompts(TAGS)) > 1
    found = detector.detect([picture(96, 128)] * 2, [TAGS, TAGS], 0.0)
    assert sum(looked) == 2
    assert set(found[0].tags) == set(range(len(TAGS)))
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-5)
    known = dict(detector._phrases)
    read: list[int] = []
    detector._text.embeddings.register_forward_pre_hook(lambda *_: read.append(1))
    detector.detect([picture(96, 96, 5)], [["cat", "dog"]], 0.0)
    assert read == []
    assert detector._phrases.keys() == known.keys()


def test_each_prompt_s_scores_are_those_of_its_own_tags(models: Path) -> None:
    detector: Any = load_detector("grounding-dino-tiny", models_dir=models)
    together = detector.detect([picture(96, 128)], [TAGS], 0.0)[0]
    detector._packer._room = 5  # one phrase each
    apart = detector.detect([picture(96, 128)], [TAGS], 0.0)[0]
    alone = detector.detect([picture(96, 128)], [["cat"]], 0.0)[0]
    cats = apart.tags == TAGS.index("cat")
    np.testing.assert_allclose(np.sort(apart.scores[cats]), np.sort(alone.scores), atol=1e-5)
    assert np.bincount(apart.tags).tolist() == np.bincount(together.tags).tolist()


@pytest.mark.parametrize("name", DETECTORS)
def test_where_memory_is_short_halves_give_the_same(name: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector: Any = load_detector(name, models_dir=models)
    pictures, tags = [picture(96, 128, seed) for seed in range(5)], [TAGS] * 5
    expected = detector.detect(pictures, tags, 0.0)
    step = "_look" if name == "owlv2-base" else "_outputs"
    work: Callable[..., Any] = getattr(detector, step)
    sizes: list[int] = []

    def poor(part: Any, *rest: Any) -> Any:
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("there is no room for this")
        return work(part, *rest)

    monkeypatch.setattr(detector, step, poor)
    found = detector.detect(pictures, tags, 0.0)
    assert sizes == [5, 2, 2, 1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    detector.detect(pictures, tags, 0.0)
    assert sizes == [5, 2, 2, 1, 2, 2, 1]  # what did not fit is not tried again


def test_one_picture_that_does_not_fit_is_an_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector: Any = load_detector("grounding-dino-tiny", models_dir=models)

    def poor(*_: Any) -> Any:
        raise torch.OutOfMemoryError("there is no room for this")

    monkeypatch.setattr(detector, "_outputs", poor)
    with pytest.raises(torch.OutOfMemoryError):
        detector.detect([picture(96, 128)] * 2, [TAGS] * 2, 0.0)


@pytest.mark.parametrize(("name", "words"), [("grounding-dino-tiny", 260), ("owlv2-base", 30)])
def test_a_tag_that_is_too_long_is_refused_by_name(name: str, words: int, models: Path) -> None:
    locator = load_locator(name, models_dir=models)
    long = " ".join(["very"] * words) + " long"
    assert list(locator.refused(["cat", long, " "])) == [long, " "]
    with pytest.raises(VocabularyError, match=f"tag '{long}' has"):
        locator.locate([picture(96, 96)], [["cat", long]])


@pytest.mark.parametrize("name", DETECTORS)
def test_a_damaged_network_is_an_error_and_no_empty_answer(name: str, models: Path) -> None:
    detector: Any = load_detector(name, models_dir=models)
    with torch.no_grad():
        for weight in (
            detector._network.box_head if name == "owlv2-base" else detector._network.bbox_embed
        ).parameters():
            weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        detector.detect([picture(96, 96)], [["cat"]], 0.5)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_no_picture_is_refused(name: str, models: Path) -> None:
    locator = load_locator(name, models_dir=models)
    for wrong in (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ImageError):
            locator.locate([wrong], [["cat"]])
    with pytest.raises(ModelError, match="2 pictures, but tags for 1"):
        locator.locate([picture(8, 8)] * 2, [["cat"]])

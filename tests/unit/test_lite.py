from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import timm
import torch
from PIL import Image

from ram_core import TagVocabulary, load_model, load_text_encoder
from ram_core.captions import template_caption
from ram_core.errors import CheckpointError, DeviceError, ImageError, UnknownModelError, VocabularyError
from ram_core.lite.imagenet import CLASSES, imagenet_vocabulary
from ram_core.lite.model import Lite, load_lite
from ram_core.lite.network import _installed_weights
from ram_core.lite.text_encoder import MiniLMTextEncoder
from ram_core.registry import load_vocabulary, model_names
from ram_core.transforms import normalise

PHOTOS = Path(skimage.__file__).parent / "data"


def photo(name: str) -> Image.Image:
    return Image.open(PHOTOS / name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def lite(cache: Path) -> Lite:
    model = load_model("lite", cache_dir=cache)
    assert isinstance(model, Lite)
    return model


@pytest.mark.parametrize(
    ("name", "tag", "least"), [("chelsea.png", "Egyptian cat", 0.5), ("coffee.png", "espresso", 0.8)]
)
def test_photographs_are_recognised(lite: Lite, name: str, tag: str, least: float) -> None:
    (found,) = lite.recognize([photo(name)])
    best = next(each for each in found.tags if each.id < CLASSES)
    assert best.name == tag
    assert best.score > least
    assert lite.vocabulary.names[best.id] == tag
    scores = [each.score for each in found.tags]
    assert scores == sorted(scores, reverse=True)
    assert found.caption is not None
    assert tag in found.caption


def test_a_prediction_keeps_scores_above_the_floor_by_ascending_id(lite: Lite) -> None:
    pixels = np.stack([lite.preprocessing(photo(name)) for name in ("chelsea.png", "rocket.jpg", "color.png")])
    for prediction in lite.predict(pixels):
        assert (np.diff(prediction.tag_ids) > 0).all()
        assert (prediction.tag_ids.dtype, prediction.scores.dtype) == (np.int32, np.float32)
        assert len(prediction.tag_ids) == len(prediction.scores)
        assert np.count_nonzero(prediction.tag_ids < CLASSES) <= 50
        assert (prediction.scores >= lite.score_floor).all()
        assert np.linalg.norm(prediction.vector) == pytest.approx(1, abs=1e-6)
        assert prediction.caption is None


def test_results_do_not_depend_on_the_batch(lite: Lite) -> None:
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png")
    pixels = np.stack([lite.preprocessing(photo(name)) for name in names])
    together = lite.predict(pixels)
    alone = [lite.predict(each[None])[0] for each in pixels]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.tag_ids, other.tag_ids)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)


def test_predicting_leaves_the_pixels_as_they_were(lite: Lite) -> None:
    pixels = lite.preprocessing(photo("chelsea.png"))[None].copy()
    before = pixels.copy()
    lite.predict(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_scores_are_the_softmax_of_the_logits(lite: Lite) -> None:
    pixels = lite.preprocessing(photo("coffee.png"))[None]
    logits = lite.tag_logits(normalise(torch.tensor(pixels), lite.preprocessing.mean, lite.preprocessing.std))
    assert logits.shape == (1, 1000)
    (prediction,) = lite.predict(pixels)
    ids = prediction.tag_ids[prediction.tag_ids < CLASSES]
    np.testing.assert_allclose(prediction.scores[: len(ids)], logits.softmax(1)[0].numpy()[ids], atol=1e-6)


def test_the_vector_is_the_mean_of_twenty_classes_weighted_by_the_roots_of_their_scores(
    lite: Lite, cache: Path
) -> None:
    pixels = lite.preprocessing(photo("rocket.jpg"))[None]
    logits = lite.tag_logits(normalise(torch.tensor(pixels), lite.preprocessing.mean, lite.preprocessing.std))
    scores = logits.softmax(1)[0].numpy()
    encoder, vocabulary = load_text_encoder("lite"), lite.vocabulary
    assert vocabulary.descriptions is not None
    expected = np.zeros(encoder.vector_size)
    for i in np.argsort(-scores)[:20]:
        name, definition = encoder.encode([vocabulary.names[i], vocabulary.descriptions[i][0]])
        expected += np.sqrt(scores[i]) * (name + definition) / np.linalg.norm(name + definition)
    (prediction,) = lite.predict(pixels)
    np.testing.assert_allclose(prediction.vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_the_vector_of_a_photograph_is_nearest_to_the_text_that_fits(lite: Lite) -> None:
    photos = [photo(name) for name in ("chelsea.png", "coffee.png", "motorcycle_left.png")]
    texts = ["a cat looking at the camera", "a cup of coffee", "a motorbike in a garage"]
    vectors = np.stack([each.vector for each in lite.recognize(photos, caption=False)])
    similarity = load_text_encoder("lite").encode(texts) @ vectors.T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]
    assert similarity.argmax(axis=0).tolist() == [0, 1, 2]


def test_logits_equal_those_of_timms_own_network(lite: Lite) -> None:
    given = torch.load(_installed_weights(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite2").eval()
    network.load_state_dict(dict(zip(network.state_dict(), given.values(), strict=True)))
    pixels = torch.randn(11, 3, 260, 260, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(pixels)
    torch.testing.assert_close(lite.tag_logits(pixels), expected, atol=1e-4, rtol=0)


def test_nothing_in_gives_nothing_out(lite: Lite) -> None:
    assert lite.recognize([]) == []
    assert lite.predict(np.empty((0, 260, 260, 3), np.uint8)) == []


@pytest.mark.parametrize("pixels", [np.zeros((1, 384, 384, 3), np.uint8), np.zeros((1, 260, 260, 3), np.float32)])
def test_pixels_of_another_preprocessing_are_refused(lite: Lite, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"not uint8 \(B, 260, 260, 3\)"):
        lite.predict(pixels)


def test_two_classes_with_one_name_stay_apart() -> None:
    vocabulary = imagenet_vocabulary()
    assert vocabulary.resolve("crane") == [134, 517]
    assert vocabulary.resolve("maillot") == [638, 639]
    assert vocabulary.descriptions is not None
    bird, machine = vocabulary.descriptions[134][0], vocabulary.descriptions[517][0]
    assert "bird" in bird
    assert "lifts" in machine


def test_the_vocabulary_by_name_is_the_models_own(lite: Lite) -> None:
    assert load_vocabulary("imagenet").sha256 == lite.vocabulary.sha256


def test_another_threshold_assigns_other_tags_and_is_another_generation(lite: Lite, cache: Path) -> None:
    strict = load_lite(
        device=torch.device("cpu"),
        vocabulary=imagenet_vocabulary().with_thresholds(dict.fromkeys(range(1000), 0.5)),
        cache_dir=cache,
    )
    (found,) = strict.recognize([photo("chelsea.png")])
    assert [tag.name for tag in found.tags if tag.id < CLASSES] == ["Egyptian cat"]
    assert strict.spec.weights_sha256 == lite.spec.weights_sha256
    assert strict.spec.fingerprint != lite.spec.fingerprint


def test_the_generation_names_how_pixels_and_vectors_are_made(lite: Lite) -> None:
    assert lite.spec.preprocessing == "squash-260-bilinear-centred"
    assert lite.spec.vector_kind == "tags-name+definition-20-root"


def test_another_text_encoder_is_another_generation(
    lite: Lite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MiniLMTextEncoder, "sha256", "00" * 32)
    monkeypatch.setattr(
        MiniLMTextEncoder, "encode", lambda _self, texts: np.eye(384, dtype=np.float32)[[0] * len(texts)]
    )
    assert load_lite(device=torch.device("cpu"), cache_dir=tmp_path).spec.fingerprint != lite.spec.fingerprint


def test_a_vocabulary_of_another_length_is_refused_with_both_counts(cache: Path) -> None:
    with pytest.raises(VocabularyError, match=r"1000 classes and \d+ tags above them, .* 'mine' has 2"):
        load_model("lite", vocabulary=TagVocabulary.from_names("mine", ["dog", "cat"]), cache_dir=cache)


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="use float32"):
        load_model("lite", dtype=torch.float16)


def test_bfloat16_gives_the_same_best_tag(lite: Lite, cache: Path) -> None:
    half = load_model("lite", dtype=torch.bfloat16, cache_dir=cache)
    (found,) = half.recognize([photo("coffee.png")])
    assert next(tag.name for tag in found.tags if tag.id < CLASSES) == "espresso"


@pytest.mark.parametrize("device", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=r"[Uu]se cpu"):
        load_model("lite", device=device)


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModelError, match="lite, ram, ram_plus, tag2text"):
        load_model("resnet")
    assert model_names() == ("lite", "ram", "ram_plus", "tag2text")


def test_a_truncated_checkpoint_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"short\.pth is damaged"):
        load_model("lite", checkpoint=path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"a": Path("/")}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pth is damaged or not a checkpoint"):
        load_model("lite", checkpoint=path)


def test_a_missing_checkpoint_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth is missing"):
        load_model("lite", checkpoint=tmp_path / "nowhere.pth")


def test_a_checkpoint_of_another_network_is_refused_by_count_or_shape(lite: Lite, tmp_path: Path) -> None:
    few, misshapen = tmp_path / "few.pth", tmp_path / "misshapen.pth"
    torch.save({"weight": torch.zeros(3)}, few)
    with pytest.raises(CheckpointError, match="should hold 386 tensors, found 1 tensors"):
        load_model("lite", checkpoint=few)
    torch.save({str(i): torch.zeros(3) for i in range(386)}, misshapen)
    with pytest.raises(CheckpointError, match=r"should have shape \(32, 3, 3, 3\) like stem.conv.weight, found \(3,\)"):
        load_model("lite", checkpoint=misshapen)


@pytest.mark.parametrize(
    ("names", "caption"),
    [
        ([], None),
        (["espresso"], "A photograph that may show an espresso."),
        (["crane", "crane", "unicycle"], "A photograph that may show a crane and a unicycle."),
        (
            ["hourglass", "sunglasses", "tabby", "tench"],
            "A photograph that may show an hourglass, sunglasses and a tabby.",
        ),
    ],
)
def test_a_caption_is_a_sentence_about_the_likeliest_tags(names: list[str], caption: str | None) -> None:
    assert template_caption(names) == caption


def test_its_own_tags_with_other_thresholds_keep_their_scores(lite: Lite) -> None:
    (cat,) = lite.vocabulary.resolve("Egyptian cat")
    other = lite.with_vocabulary(lite.vocabulary.with_thresholds({cat: 0.99}))
    assert isinstance(other, Lite)
    before, after = (model.recognize([photo("chelsea.png")])[0] for model in (lite, other))
    assert "Egyptian cat" in {tag.name for tag in before.tags}
    assert "Egyptian cat" not in {tag.name for tag in after.tags}
    assert np.array_equal(before.vector, after.vector)
    assert [tag for tag in before.tags if tag.name != "Egyptian cat"] == after.tags
    assert other.spec.fingerprint != lite.spec.fingerprint
    assert other.spec.weights_sha256 == lite.spec.weights_sha256
    assert not isinstance(lite.with_vocabulary(["cat"]), Lite)

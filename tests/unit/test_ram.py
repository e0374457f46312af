"""RAM and RAM++: the official numbers, the papers' equations, and independence of batch and chunk."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.straightforward import Straightforward
from ram_core import TagVocabulary, load_model
from ram_core.errors import CheckpointError, DeviceError, ImageError, ModelError, VocabularyError
from ram_core.modeling.tiny import build, made_up_weights, write_tiny_models
from tests.reference import Reference, bits, official_vocabulary, reference

if TYPE_CHECKING:
    from pathlib import Path

# The reference differs from itself, in float64, by 1e-5.
LOGIT_TOLERANCE = 5e-5
FEATURE_TOLERANCE = 1e-5
# The logistic function is a quarter as steep as its argument, at most.
SCORE_TOLERANCE = LOGIT_TOLERANCE / 4
KINDS = pytest.mark.parametrize("kind", ["ram", "ram_plus"])


@cache
def golden(kind: str) -> Reference:
    return reference(kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def load_golden(folder: Path) -> Any:
    @cache
    def load(kind: str) -> Any:
        case = golden(kind)
        path = folder / f"{kind}.pth"
        torch.save({"model": case.weights}, path)
        return load_model(kind, checkpoint=path, vocabulary=official_vocabulary(case.arrays["logits"].shape[1]))

    return load


@pytest.fixture(scope="module")
def load_tiny(folder: Path) -> Any:
    def load(kind: str, **options: Any) -> Any:
        write_tiny_models(kind, folder)
        return load_model(kind, models_dir=folder, **options)

    return load


@pytest.fixture(scope="module")
def whole(load_tiny: Any) -> Any:
    """Logits of two images by a model's name, in chunks of the usual size."""
    return cache(lambda kind: load_tiny(kind).tag_logits(pixels(2)))


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 384, 384, generator=torch.Generator().manual_seed(seed))


def apart(ours: torch.Tensor, theirs: Any) -> float:
    return float((ours - torch.as_tensor(theirs)).abs().max())


@KINDS
def test_logits_are_the_official_ones(kind: str, load_golden: Any) -> None:
    case = golden(kind)
    assert apart(load_golden(kind).tag_logits(case.pixels), case.arrays["logits"]) < LOGIT_TOLERANCE


@KINDS
def test_the_official_tags_are_assigned_with_english_and_chinese_names(kind: str, load_golden: Any) -> None:
    case, model = golden(kind), load_golden(kind)
    vocabulary = model.vocabulary
    on = vocabulary.assigned(model.tag_logits(case.pixels).sigmoid().numpy())
    assert (on == bits(case.arrays["tags_on"], len(vocabulary))).all()
    for row, english, chinese in zip(on, case.facts["tags"], case.facts["tags_chinese"], strict=True):
        ids = np.flatnonzero(row)
        assert " | ".join(vocabulary.names[i] for i in ids) == english
        assert [vocabulary.names_zh[i] for i in ids] == [name.strip() for name in chinese.split(" | ")]


@KINDS
def test_image_embeddings_are_the_official_ones(kind: str, load_golden: Any) -> None:
    case = golden(kind)
    ours = load_golden(kind).image_embedding(case.pixels)
    assert apart(ours, case.arrays["image_embeds"][:, 0]) < FEATURE_TOLERANCE


@KINDS
def test_every_stage_of_the_image_encoder_gives_the_official_features(kind: str, load_golden: Any) -> None:
    case = golden(kind)
    encoder = load_golden(kind).runner.network.visual_encoder
    with torch.inference_mode():
        stages = list(encoder.stages(case.pixels[:1]))
        tokens = encoder(case.pixels)
    for number, stage in enumerate(stages):
        assert apart(stage[0], case.arrays[f"swin_stage{number}_img0"]) < FEATURE_TOLERANCE
    assert apart(tokens[0], case.arrays["swin_tokens_img0"]) < FEATURE_TOLERANCE
    assert apart(tokens[:, 0], case.arrays["swin_cls"]) < FEATURE_TOLERANCE


@KINDS
def test_open_set_logits_and_tags_are_the_official_ones(kind: str, load_golden: Any) -> None:
    case = golden(kind)
    embeddings = case.arrays["openset_embed"]
    if kind == "ram_plus":
        embeddings = embeddings.reshape(20, 51, 512)
    vocabulary = TagVocabulary.from_names("cats", [f"cat{i}" for i in range(20)])
    model = load_golden(kind).with_embeddings(vocabulary, embeddings)
    logits = model.tag_logits(case.pixels)
    assert apart(logits, case.arrays["openset_logits"]) < LOGIT_TOLERANCE
    for row, tags in zip(vocabulary.assigned(logits.sigmoid().numpy()), case.facts["openset_tags"], strict=True):
        assert " | ".join(vocabulary.names[i] for i in np.flatnonzero(row)) == tags


@KINDS
def test_logits_are_those_of_the_papers_equations(kind: str, load_tiny: Any) -> None:
    plain = Straightforward(made_up_weights(build(kind, tags=64)), 51 if kind == "ram_plus" else 1)
    images = pixels(3)
    with torch.inference_mode():
        expected = plain.logits(images)
    assert float(expected.std()) > 0.5  # logits that are all alike would prove nothing
    assert apart(load_tiny(kind).tag_logits(images), expected) < LOGIT_TOLERANCE


@KINDS
@pytest.mark.parametrize("chunk_size", [1, 7, 100, 10**9])
def test_the_chunk_size_does_not_change_logits(kind: str, chunk_size: int, load_tiny: Any, whole: Any) -> None:
    assert apart(load_tiny(kind, chunk_size=chunk_size).tag_logits(pixels(2)), whole(kind)) < FEATURE_TOLERANCE


@KINDS
def test_an_image_gets_the_same_logits_in_any_batch(kind: str, load_tiny: Any) -> None:
    model, images = load_tiny(kind), pixels(3)
    together = model.tag_logits(images)
    for i in range(3):
        assert apart(model.tag_logits(images[i : i + 1])[0], together[i]) < FEATURE_TOLERANCE


@KINDS
def test_a_prediction_holds_scores_above_the_floor_and_a_unit_vector(kind: str, load_tiny: Any) -> None:
    model = load_tiny(kind)
    images = np.random.default_rng(0).integers(0, 256, (2, 384, 384, 3), dtype=np.uint8)
    normalised = (
        torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    ) / (torch.tensor([0.229, 0.224, 0.225])[:, None, None])
    scores = model.tag_logits(normalised).sigmoid().numpy()
    embedding = model.image_embedding(normalised).numpy()
    for row, prediction, vector in zip(scores, model.predict(images), embedding, strict=True):
        assert prediction.tag_ids.tolist() == np.flatnonzero(row >= model.score_floor).tolist()
        assert prediction.tag_ids.dtype == np.int32
        np.testing.assert_allclose(prediction.scores, row[prediction.tag_ids], atol=SCORE_TOLERANCE)
        np.testing.assert_allclose(prediction.vector, vector / np.linalg.norm(vector), atol=1e-5)
        assert prediction.caption is None


def test_the_tags_vector_is_the_score_weighted_mean_of_assigned_label_embeddings(load_tiny: Any) -> None:
    model = load_tiny("ram_plus", vector_kind="tags")
    images = np.random.default_rng(0).integers(0, 256, (1, 384, 384, 3), dtype=np.uint8)
    prediction = model.predict(images)[0]
    on = model.vocabulary.assigned(prediction.scores, prediction.tag_ids)
    assert on.any()
    weights = made_up_weights(build("ram_plus", tags=64))
    labels = weights["label_embed"].view(64, 51, 512).mean(1).numpy()
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    mean = (prediction.scores[on][:, None] * labels[prediction.tag_ids[on]]).sum(0)
    np.testing.assert_allclose(prediction.vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert model.spec.vector_kind == "tags"
    image = model.with_vector_kind("image").predict(images)[0].vector
    assert float(image @ prediction.vector) < 0.9


def test_recognising_gives_assigned_tags_with_the_highest_score_first(load_tiny: Any) -> None:
    model = load_tiny("ram_plus")
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    found = model.recognize([Image.fromarray(noise)] * 9)
    assert len(found) == 9
    tags = found[0].tags
    assert tags
    assert [tag.score for tag in tags] == sorted((tag.score for tag in tags), reverse=True)
    assert all(tag.score > 0.65 and tag.name == f"tag {tag.id}" for tag in tags)
    assert found[0].caption is None


def test_a_vocabulary_with_low_thresholds_lowers_the_floor(load_tiny: Any) -> None:
    model = load_tiny("ram")
    low = model.vocabulary.with_thresholds({3: 0.1})
    other = model.with_embeddings(low, made_up_weights(build("ram", tags=64))["label_embed"].numpy())
    assert model.score_floor == 0.3
    assert other.score_floor == pytest.approx(0.1)


def test_ram_can_caption_when_asked_for_its_experimental_decoder(load_golden: Any, folder: Path) -> None:
    load_golden("ram")  # writes the checkpoint, which has the caption branch
    vocabulary = official_vocabulary(64)
    model = load_model("ram", checkpoint=folder / "ram.pth", vocabulary=vocabulary, captions=True)
    assert model.predict(golden("ram").arrays["images"][:1], caption=True)[0].caption
    assert load_golden("ram").predict(golden("ram").arrays["images"][:1], caption=True)[0].caption is None


def test_bfloat16_stays_near_float32_on_the_cpu(load_tiny: Any) -> None:
    images = pixels(1)
    exact, rough = (
        load_tiny("ram_plus").tag_logits(images),
        load_tiny("ram_plus", dtype=torch.bfloat16).tag_logits(images),
    )
    assert rough.dtype == torch.float32
    assert 0 < apart(rough, exact) < 0.5


def test_float16_on_the_cpu_is_refused(load_tiny: Any) -> None:
    with pytest.raises(DeviceError, match="float16 is not available on the CPU"):
        load_tiny("ram", dtype=torch.float16)


def test_weights_that_give_no_finite_numbers_are_called_damaged(folder: Path) -> None:
    weights = made_up_weights(build("ram", tags=64))
    weights["image_proj.bias"][:] = float("nan")
    torch.save({"model": weights}, folder / "nan.pth")
    names = TagVocabulary.from_names("t", [f"t{i}" for i in range(64)])
    model = load_model("ram", checkpoint=folder / "nan.pth", vocabulary=names)
    with pytest.raises(CheckpointError, match="not finite"):
        model.tag_logits(pixels(1))


@KINDS
def test_a_vocabulary_of_another_length_is_refused(kind: str, folder: Path) -> None:
    path = write_tiny_models(kind, folder)
    names = TagVocabulary.from_names("mine", ["one", "two"])
    with pytest.raises(VocabularyError, match=r"64.*tags.*'mine' has 2") as caught:
        load_model(kind, checkpoint=path, vocabulary=names)
    assert str(path) in str(caught.value)


def test_pixels_of_another_size_are_refused(load_tiny: Any) -> None:
    model = load_tiny("ram")
    with pytest.raises(ImageError, match="384"):
        model.tag_logits(torch.zeros(1, 3, 224, 224))
    with pytest.raises(ImageError, match="preprocessing"):
        model.predict(np.zeros((1, 384, 384, 3), dtype=np.float32))


def test_an_unknown_vector_kind_is_refused(load_tiny: Any) -> None:
    with pytest.raises(ModelError, match="image or tags"):
        load_tiny("ram", vector_kind="video")


def test_no_images_are_no_predictions(load_tiny: Any) -> None:
    assert load_tiny("ram").predict(np.empty((0, 384, 384, 3), dtype=np.uint8)) == []

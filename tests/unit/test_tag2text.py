"""Tag2Text: the official tags and, token by token, the official captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from benchmarks.straightforward import Straightforward
from ram_core import TagVocabulary, load_model
from ram_core.errors import CheckpointError, ModelError, VocabularyError
from ram_core.modeling.captioner import CaptionWords
from ram_core.modeling.tiny import build, made_up_weights, write_tiny_models
from tests.reference import Reference, bits, official_file, reference

if TYPE_CHECKING:
    from pathlib import Path

LOGIT_TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def golden() -> Reference:
    return reference("tag2text")


@pytest.fixture(scope="module")
def official(golden: Reference, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("tag2text") / "tag2text.pth"
    torch.save({"model": golden.weights}, path)
    vocabulary = TagVocabulary.from_files(official_file("tag2text_ori_tag_list.txt"))
    return load_model("tag2text", checkpoint=path, vocabulary=vocabulary)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_models("tag2text", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tiny(checkpoint: Path) -> Any:
    return load_model("tag2text", models_dir=checkpoint.parents[1])


def pixels(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 384, 384, generator=torch.Generator().manual_seed(1))


def _arguments(case: dict[str, Any]) -> dict[str, Any]:
    """Say the reference's arguments in our words."""
    arguments = dict(case["kwargs"])
    given = arguments.pop("tag_input")
    tags = None if given is None else [given[0].split(" | ")]
    return {"tags": tags, "max_length": 30, **arguments}  # 30 is the reference's default


def test_logits_are_the_official_ones(golden: Reference, official: Any) -> None:
    ours = official.tag_logits(golden.pixels).numpy()
    assert np.abs(ours - golden.arrays["logits"]).max() < LOGIT_TOLERANCE


def test_raw_tags_are_the_official_ones(golden: Reference, official: Any) -> None:
    scores = official.tag_logits(golden.pixels).sigmoid().numpy()
    on = scores > golden.arrays["threshold"]
    assert (on == bits(golden.arrays["tags_on_raw"], on.shape[1])).all()


def test_every_caption_has_the_official_token_ids_and_words(golden: Reference, official: Any) -> None:
    assert len(golden.facts["cases"]) == 28
    for case in golden.facts["cases"]:
        image = golden.pixels[case["image"], None]
        name = f"{case['name']} of image {case['image']}"
        assert official.caption_ids(image, **_arguments(case))[0] == case["ids"], name
        assert official.caption(image, **_arguments(case))[0] == case["caption"], name


def test_tags_reach_the_encoder_as_the_official_token_ids(golden: Reference, official: Any) -> None:
    for case in golden.facts["cases"]:
        ids, real = official.words.encode([case["tags"].split(" | ")])
        assert ids[0].tolist() == case["encoder_input_ids"]
        assert real[0].int().tolist() == case["encoder_attention_mask"]


def test_encoder_outputs_and_word_logits_are_the_official_ones(golden: Reference, official: Any) -> None:
    network = official.runner.network
    cases = [case for case in golden.facts["cases"] if case["name"] in {"beam3_max50", "beam3_user_cloud_sky"}]
    assert len(cases) == 8
    with torch.inference_mode():
        tokens = network.embed(golden.pixels)
        for case in cases:
            image, label = case["image"], f"{case['name']}_img{case['image']}"
            ids, real = torch.tensor([case["encoder_input_ids"]]), torch.tensor([case["encoder_attention_mask"]]) == 1
            encoded = network.tag_encoder(ids, real, tokens[image, None])
            np.testing.assert_allclose(encoded[0], golden.arrays[f"enc_out_{label}"], atol=2e-5)
            first = network.text_decoder(
                torch.tensor([golden.facts["prompt_ids"]]), network.text_decoder.start(encoded, 1, 50)
            )
            np.testing.assert_allclose(first[0], golden.arrays[f"dec_logits_first_{label}"], atol=LOGIT_TOLERANCE)


def test_teacher_forced_words_have_the_official_probabilities(golden: Reference, official: Any) -> None:
    network = official.runner.network
    case = golden.facts["cases"][0]
    with torch.inference_mode():
        tokens = network.embed(golden.pixels[case["image"], None])
        ids, real = torch.tensor([case["encoder_input_ids"]]), torch.tensor([case["encoder_attention_mask"]]) == 1
        state = network.text_decoder.start(network.tag_encoder(ids, real, tokens), 1, 50)
        ours = []
        for now, after in zip(case["ids"][:-1], case["ids"][1:], strict=True):
            ours.append(float(network.text_decoder(torch.tensor([[now]]), state).log_softmax(-1)[0, after]))
    np.testing.assert_allclose(ours, case["token_logprobs"], atol=LOGIT_TOLERANCE)


def test_a_batch_gets_the_captions_of_its_images_one_by_one(golden: Reference, official: Any) -> None:
    together = official.caption(golden.pixels[:3])
    assert together == golden.facts["batch_of_3_beam3_captions_transformers_4.25.1"]


def test_logits_are_those_of_the_papers_equations(tiny: Any) -> None:
    plain = Straightforward(made_up_weights(build("tag2text", tags=3429)))
    images = pixels(2)
    with torch.inference_mode():
        expected = plain.logits(images)
    assert float((tiny.tag_logits(images) - expected).abs().max()) < LOGIT_TOLERANCE


def test_given_tags_and_an_image_in_a_batch_decide_a_caption(tiny: Any) -> None:
    images = pixels(2)
    tags = [["dog", "grass"], ["car"]]
    together = tiny.caption_ids(images, tags=tags, max_length=20)
    alone = [tiny.caption_ids(images[i, None], tags=tags[i : i + 1], max_length=20)[0] for i in range(2)]
    assert together == alone
    assert together[0] != together[1]


def test_without_a_vocabulary_given_tags_are_captioned_and_own_tags_refused(checkpoint: Path) -> None:
    model = load_model("tag2text", checkpoint=checkpoint)
    assert len(model.caption(pixels(1), tags=[["dog", "grass"]], max_length=12)) == 1
    with pytest.raises(VocabularyError, match="vocabulary="):
        model.caption(pixels(1), max_length=12)


def test_an_image_without_tags_is_captioned_all_the_same(tiny: Any) -> None:
    assert isinstance(tiny.caption(pixels(1), tags=[[]], max_length=12)[0], str)


def test_a_list_of_names_alone_gets_the_official_thresholds(checkpoint: Path) -> None:
    names = TagVocabulary.from_files(checkpoint.parent / "tag2text_ori_tag_list.txt")
    model = load_model("tag2text", checkpoint=checkpoint, vocabulary=names)
    assert model.vocabulary.never_assigned == (127, 2961, 3265, 3338, 3351, 3355, 3359)
    assert model.vocabulary.thresholds[[0, 1167, 2701, 2828]].tolist() == pytest.approx([0.68, 0.7, 0.7, 0.7])
    low = names.with_thresholds({5: 0.2})
    assert load_model("tag2text", checkpoint=checkpoint, vocabulary=low).vocabulary is low


def test_a_length_beyond_the_decoders_positions_is_refused(tiny: Any) -> None:
    with pytest.raises(ModelError, match="max_length 5 to 64"):
        tiny.caption(pixels(1), tags=[["dog"]], max_length=65)


def test_tags_for_another_number_of_images_are_refused(tiny: Any) -> None:
    with pytest.raises(ModelError, match="2 images, but tags for 1"):
        tiny.caption(pixels(2), tags=[["dog"]])


def test_predictions_carry_captions_and_unit_vectors(tiny: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 384, 384, 3), dtype=np.uint8)
    for prediction in tiny.predict(images, caption=True):
        assert prediction.caption is not None
        assert np.linalg.norm(prediction.vector) == pytest.approx(1, abs=1e-5)
    assert tiny.predict(images)[0].caption is None


def test_another_vocabulary_of_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    with pytest.raises(CheckpointError, match="6 words"):
        CaptionWords(tmp_path / "vocab.txt")

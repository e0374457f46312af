"""Tags of one's own, and the CLIP text encoder that embeds them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import CLIPModel

from ram_core import load_model, load_text_encoder
from ram_core.clip_text import ClipTextEncoder
from ram_core.errors import CheckpointError, VocabularyError
from ram_core.modeling.tiny import write_tiny_models
from ram_core.openset import PROMPTS, embed_vocabulary, open_vocabulary, prompts
from ram_core.vocabulary import TagVocabulary
from tests.reference import official_file
from tests.tiny_clip import write_tiny_clip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class CountingEncoder:
    """A text encoder that turns each text into its own direction, and counts its calls."""

    vector_size = 512
    sha256 = "00" * 32

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        rows = [np.random.default_rng(list(text.encode())).standard_normal(512) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small made-up models: RAM, RAM++ and a CLIP with the files that the real one has."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("ram", "ram_plus"):
        write_tiny_models(kind, folder)
    write_tiny_clip(folder / "clip-vit-base-patch16")
    return folder


def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 384, 384, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["ram", "ram_plus"])
def test_names_alone_make_a_vocabulary(kind: str, models: Path, tmp_path: Path) -> None:
    model = load_model(kind, models_dir=models, cache_dir=tmp_path).with_vocabulary(["cat", "fire truck"])
    assert model.vocabulary.names == ("cat", "fire truck")
    assert model.vocabulary.thresholds.tolist() == [0.5, 0.5]
    assert model.tag_logits(pixels()).shape == (2, 2)


@pytest.mark.parametrize("kind", ["ram", "ram_plus"])
def test_another_vocabulary_leaves_the_first_model_as_it_was(kind: str, models: Path, tmp_path: Path) -> None:
    model = load_model(kind, models_dir=models, cache_dir=tmp_path)
    before, spec = model.tag_logits(pixels()), model.spec
    other = model.with_vocabulary(["cat"], text_encoder=CountingEncoder())
    assert torch.equal(model.tag_logits(pixels()), before)
    assert model.spec == spec
    assert other.spec.fingerprint != spec.fingerprint
    assert torch.equal(other.image_embedding(pixels()), model.image_embedding(pixels()))


def test_the_same_names_with_other_sentences_are_another_generation(models: Path, tmp_path: Path) -> None:
    model = load_model("ram_plus", models_dir=models, cache_dir=tmp_path)
    specs = {
        model.with_vocabulary({"cat": sentences}, text_encoder=CountingEncoder()).spec.fingerprint
        for sentences in (["a cat"], ["a cat that sleeps"])
    }
    assert len(specs) == 2


def test_descriptions_of_different_number_give_what_each_tag_alone_would_get(models: Path, tmp_path: Path) -> None:
    model = load_model("ram_plus", models_dir=models, cache_dir=tmp_path)
    described = {"cat": ["it purrs", "it has whiskers", "it sleeps"], "dog": ["it barks"]}
    together = model.with_vocabulary(described, text_encoder=CountingEncoder()).tag_logits(pixels())
    for column, name in enumerate(described):
        alone = model.with_vocabulary({name: described[name]}, text_encoder=CountingEncoder()).tag_logits(pixels())
        torch.testing.assert_close(together[:, column], alone[:, 0], atol=1e-5, rtol=0)


def test_ram_takes_the_mean_of_descriptions_and_ram_plus_all_of_them() -> None:
    vocabulary = open_vocabulary({"cat": ["it purrs", "it sleeps"]})
    one = embed_vocabulary(vocabulary, CountingEncoder(), plural=False)
    all_of_them = embed_vocabulary(vocabulary, CountingEncoder(), plural=True)
    assert one.embeddings.shape == (1, 512)
    assert all_of_them.embeddings.shape == (1, 2, 512)
    mean = all_of_them.embeddings[0].mean(0)
    np.testing.assert_allclose(one.embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert all_of_them.absent is None


def test_embeddings_are_kept_by_their_content(tmp_path: Path) -> None:
    encoder, again = CountingEncoder(), CountingEncoder()
    first = embed_vocabulary(open_vocabulary(["cat"]), encoder, plural=False, cache_dir=tmp_path)
    second = embed_vocabulary(open_vocabulary(["cat"]), again, plural=False, cache_dir=tmp_path)
    assert encoder.texts
    assert not again.texts
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    embed_vocabulary(open_vocabulary(["dog"]), again, plural=False, cache_dir=tmp_path)
    assert again.texts


def test_the_official_description_file_is_read() -> None:
    vocabulary = open_vocabulary(official_file("openimages_rare_200_llm_tag_descriptions.json"))
    assert len(vocabulary) == 200
    assert vocabulary.descriptions is not None
    assert {len(each) for each in vocabulary.descriptions} == {51}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([{"cat": ["it purrs"]}, {"dog": []}], "'dog'"),
        ([{"cat": ["it purrs"]}, {"cat": ["it sleeps"]}], "'cat' twice"),
        ([{"cat": "it purrs"}], "'cat' must be a list"),
        ([], "no tags"),
        ("cat", "must contain a list"),
    ],
)
def test_a_description_file_with_something_missing_is_refused(content: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(VocabularyError, match=says):
        open_vocabulary(tmp_path / "mine.json")


def test_a_description_file_that_is_absent_or_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('[{"cat": ["it p')
    for name, says in (("none.json", "does not exist"), ("cut.json", "as JSON")):
        with pytest.raises(VocabularyError, match=says):
            open_vocabulary(tmp_path / name)


def test_an_empty_vocabulary_is_refused() -> None:
    with pytest.raises(VocabularyError, match="no tags"):
        open_vocabulary([])


def test_thresholds_are_one_for_all_or_one_for_each() -> None:
    assert open_vocabulary(["a", "b"], 0.7).thresholds.tolist() == pytest.approx([0.7, 0.7])
    assert open_vocabulary(["a", "b"], [0.2, 0.9]).thresholds.tolist() == pytest.approx([0.2, 0.9])
    with pytest.raises(VocabularyError, match="1 thresholds for 2 tags"):
        open_vocabulary(["a", "b"], [0.2])


def test_a_threshold_decides_which_tags_are_assigned(models: Path, tmp_path: Path) -> None:
    model = load_model("ram_plus", models_dir=models, cache_dir=tmp_path)
    names = [f"thing {i}" for i in range(20)]
    images = np.random.default_rng(0).integers(0, 256, (1, 384, 384, 3), dtype=np.uint8)
    kept = []
    for threshold in (0.0, 0.5, 1.0):
        other = model.with_vocabulary(names, threshold=threshold, text_encoder=CountingEncoder())
        found = other.predict(images)[0]
        kept.append(int(other.vocabulary.assigned(found.scores, found.tag_ids).sum()))
    assert kept[0] == 20
    assert 0 < kept[1] < 20
    assert kept[2] == 0


def test_embeddings_that_do_not_fit_are_refused(models: Path) -> None:
    vocabulary = open_vocabulary(["cat", "dog"])
    for kind, shape in (("ram", (3, 512)), ("ram", (2, 1, 512)), ("ram_plus", (2, 512)), ("ram", (2, 500))):
        model = load_model(kind, models_dir=models)
        with pytest.raises(VocabularyError, match="embeddings have shape"):
            model.with_embeddings(vocabulary, np.zeros(shape, dtype=np.float32))


def test_names_are_spoken_as_people_would() -> None:
    assert "a photo of sports car or van." in prompts("Sports_car/van.")
    assert "a photo of an apple." in prompts("apple")
    assert "a photo of a cat." in prompts("cat")
    assert len(set(prompts("cat"))) == len(PROMPTS) + 2


def test_clip_vectors_have_unit_length_and_do_not_depend_on_the_batch(models: Path) -> None:
    encoder = load_text_encoder("ram_plus", models_dir=models)
    texts = ["cat", "a much longer text about a dog", "x" * 500]
    together = encoder.encode(texts)
    assert together.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], row, atol=1e-5)
    assert float(together[0] @ together[1]) < 0.999


def test_clip_vectors_are_those_of_the_whole_clip(models: Path) -> None:
    folder = models / "clip-vit-base-patch16"
    encoder, whole = ClipTextEncoder(folder), CLIPModel.from_pretrained(folder)
    tokens = encoder._tokenizer(["a photo of a cat."], return_tensors="pt")
    with torch.inference_mode():
        features = whole.get_text_features(**tokens)
    features = getattr(features, "pooler_output", features)[0].numpy()
    np.testing.assert_allclose(encoder.encode(["a photo of a cat."])[0], features / np.linalg.norm(features), atol=1e-5)


def test_a_text_encoder_that_is_not_there_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ramq models pull clip-vit-base-patch16"):
        load_text_encoder("ram", models_dir=tmp_path)
    with pytest.raises(CheckpointError, match="models_dir="):
        load_text_encoder("ram")


def test_a_damaged_text_encoder_is_named(models: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((models / "clip-vit-base-patch16" / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(CheckpointError, match="cannot be read as CLIP"):
        ClipTextEncoder(tmp_path)


@pytest.mark.parametrize("kind", ["ram", "ram_plus"])
def test_the_models_own_tags_with_other_thresholds_keep_their_scores(kind: str, models: Path, tmp_path: Path) -> None:
    model: Any = load_model(kind, models_dir=models, cache_dir=tmp_path)
    own = model.vocabulary
    other = model.with_vocabulary(own.with_thresholds({0: 0.4, 1: 0.9}).with_synonyms({0: ["first"]}))
    assert torch.equal(other.tag_logits(pixels()), model.tag_logits(pixels()))
    assert other.vocabulary.thresholds[:3].tolist() == pytest.approx([0.4, 0.9, 0.65])
    assert model.vocabulary is own
    assert other.spec.weights_sha256 == model.spec.weights_sha256
    assert other.spec.fingerprint != model.spec.fingerprint
    kept = model.predict(np.zeros((1, 384, 384, 3), dtype=np.uint8), features="tokens")[0].features
    assert len(other.retag(np.stack([kept]))) == 1
    # With descriptions, or in another order, these are other tags.
    turned = TagVocabulary("turned", own.names[::-1], own.names_zh[::-1], own.thresholds)
    assert not turned.has_tags_of(own)
    assert model.with_vocabulary(turned).spec.weights_sha256 != model.spec.weights_sha256

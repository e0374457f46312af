"""Checkpoints: what is read, what is refused, and what a refusal says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ram_core import TagVocabulary, load_model
from ram_core.errors import CheckpointError, VocabularyError
from ram_core.modeling.tiny import build, made_up_weights, write_tiny_checkpoint, write_tiny_models
from ram_core.weights import convert, read_checkpoint, weights_sha256
from tests.reference import reference

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = TagVocabulary.from_names("tiny", [f"tag {i}" for i in range(8)])


def write(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save({"model": weights, "epoch": 3}, path)
    return path


def tiny(kind: str) -> dict[str, torch.Tensor]:
    return made_up_weights(build(kind, tags=8))


def load(kind: str, path: Path) -> Any:
    return load_model(kind, checkpoint=path, vocabulary=VOCABULARY)


def pixels() -> torch.Tensor:
    return torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))


def test_buffers_and_optimizer_state_of_an_official_file_are_left_aside(tmp_path: Path) -> None:
    weights = tiny("ram")
    extra = {
        "visual_encoder.layers.0.blocks.0.attn.relative_position_index": torch.zeros(144, 144, dtype=torch.long),
        "visual_encoder.layers.0.blocks.1.attn_mask": torch.zeros(64, 144, 144),
        "tag_encoder.embeddings.position_ids": torch.zeros(1, 64, dtype=torch.long),
    }
    path = tmp_path / "ram.pth"
    torch.save({"model": weights | extra, "optimizer": {"state": {0: torch.zeros(4)}}, "config": {"a": 1}}, path)
    assert read_checkpoint(path).keys() == weights.keys()
    load("ram", path)


def test_the_older_name_of_the_tagging_head_is_understood(tmp_path: Path) -> None:
    weights = tiny("ram")
    older = {key.replace("tagging_head.", "vision_multi."): each for key, each in weights.items()}
    assert older.keys() != weights.keys()
    logits = load("ram", write(tmp_path / "older.pth", older)).tag_logits(pixels())
    assert torch.equal(logits, load("ram", write(tmp_path / "newer.pth", weights)).tag_logits(pixels()))


def test_a_missing_key_is_named_as_the_official_file_names_it(tmp_path: Path) -> None:
    weights = tiny("ram")
    del weights["visual_encoder.layers.0.downsample.norm.weight"]
    with pytest.raises(CheckpointError, match=r"lacks visual_encoder\.layers\.0\.downsample\.norm\.weight") as caught:
        load("ram", write(tmp_path / "ram.pth", weights))
    assert str(tmp_path / "ram.pth") in str(caught.value)


def test_an_unexpected_key_is_named(tmp_path: Path) -> None:
    weights = tiny("ram") | {"surprise.weight": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"has surprise\.weight"):
        load("ram", write(tmp_path / "ram.pth", weights))


def test_a_misshapen_key_is_named_with_both_shapes(tmp_path: Path) -> None:
    weights = tiny("ram")
    weights["fc.weight"] = torch.zeros(1, 7)
    with pytest.raises(CheckpointError, match=r"fc\.weight \(1, 7\) \(expected \(1, 48\)\)"):
        load("ram", write(tmp_path / "ram.pth", weights))


@pytest.mark.parametrize(
    ("kind", "wanted", "says"),
    [
        ("ram", "ram_plus", "8 rows of label_embed and no reweight_scale"),
        ("ram_plus", "ram", "408 rows of label_embed and reweight_scale"),
        ("tag2text", "ram", r"fc\.W"),
        ("ram", "tag2text", "load it as 'ram'"),
    ],
)
def test_the_checkpoint_of_another_model_is_recognised(kind: str, wanted: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "other.pth", tiny(kind))
    with pytest.raises(CheckpointError, match=says):
        load(wanted, path)


def test_a_truncated_file_is_refused_with_its_name(tmp_path: Path) -> None:
    for name in ("cut.pth", "cut.safetensors"):
        path = tmp_path / name
        if path.suffix == ".pth":
            write(path, tiny("ram"))
        else:
            save_file(tiny("ram"), path)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(CheckpointError, match=rf"{name} is truncated"):
            load("ram", path)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(witness),))

    torch.save({"model": {"label_embed": Trap()}}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match=r"would run code.*where you trust it$"):
        load("ram", tmp_path / "trap.pth")
    assert not witness.exists()


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"step": 3}}, tmp_path / "number.pth")
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "else.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    for name, says in (
        ("list", "no weights"),
        ("number", "no weights"),
        ("else", "not weights of RAM"),
        ("page", "truncated"),
    ):
        with pytest.raises(CheckpointError, match=says):
            load("ram", tmp_path / f"{name}.pth")


def test_a_file_that_is_not_there_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ramq models pull"):
        load("ram", tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="ramq models pull ram_plus"):
        load_model("ram_plus", models_dir=tmp_path, vocabulary=VOCABULARY)


def test_a_model_without_tags_to_go_by_is_refused(tmp_path: Path) -> None:
    write_tiny_checkpoint("ram", tmp_path / "ram.pth")
    with pytest.raises(VocabularyError, match="vocabulary="):
        load_model("ram", checkpoint=tmp_path / "ram.pth")


@pytest.mark.parametrize("kind", ["ram", "ram_plus", "tag2text"])
def test_a_converted_file_gives_the_same_generation_and_logits(kind: str, tmp_path: Path) -> None:
    path = write_tiny_models(kind, tmp_path)
    before = load_model(kind, models_dir=tmp_path)
    size = convert(path, path.with_suffix(".safetensors"))
    assert size == path.with_suffix(".safetensors").stat().st_size
    path.unlink()
    after = load_model(kind, models_dir=tmp_path)
    assert after.spec == before.spec
    # Not bit for bit: how a file is aligned in memory decides how sums are split.
    torch.testing.assert_close(after.tag_logits(pixels()), before.tag_logits(pixels()), atol=1e-5, rtol=0)


def test_converting_keeps_what_is_used_and_drops_the_rest(tmp_path: Path) -> None:
    weights = reference("ram").weights
    path = write(tmp_path / "ram.pth", weights)
    convert(path, tmp_path / "tags.safetensors")
    convert(path, tmp_path / "all.safetensors", captions=True)
    tags, everything = load_file(tmp_path / "tags.safetensors"), load_file(tmp_path / "all.safetensors")
    assert not any(key.startswith(("tag_encoder", "text_decoder")) for key in tags)
    assert tags.keys() < everything.keys()
    assert weights_sha256(tags) == weights_sha256(read_checkpoint(path, captions=False))
    assert not list(tmp_path.glob("*.part"))


def test_converting_to_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        convert(tmp_path / "a.pth", tmp_path / "a.bin")


def test_an_output_layer_that_is_not_the_word_embedding_is_refused(tmp_path: Path) -> None:
    weights = tiny("tag2text")
    words = weights["text_decoder.bert.embeddings.word_embeddings.weight"]
    weights["text_decoder.cls.predictions.decoder.weight"] = words.clone()
    read_checkpoint(write(tmp_path / "tied.pth", weights))
    weights["text_decoder.cls.predictions.decoder.weight"] = words + 1
    with pytest.raises(CheckpointError, match="must be equal"):
        read_checkpoint(write(tmp_path / "untied.pth", weights))


def test_the_hash_of_weights_changes_with_any_of_them() -> None:
    weights = tiny("ram")
    before = weights_sha256(weights)
    weights["fc.bias"] = weights["fc.bias"] + 1e-3
    assert weights_sha256(weights) != before

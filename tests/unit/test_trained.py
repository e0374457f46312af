"""Trained models: a folder that is copied whole, loaded by its own name, and checked by its card."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ram_core import TagVocabulary, load_model, load_vocabulary
from ram_core.errors import CheckpointError, UnknownModelError, VocabularyError
from ram_core.modeling.tiny import write_tiny_checkpoint
from ram_core.spaces import load_image_encoder
from ram_core.trained import add, find_trained, read_tags, trained, write_tags
from ramq.cli.main import command_line
from ramq.settings import load_settings
from storage.errors import RamqError, UsageError
from workers.messages import kind_of, queue_of

if TYPE_CHECKING:
    from pathlib import Path

TAGS = (
    TagVocabulary.from_names("birds", ["robin", "wren", "tit"])
    .with_thresholds({1: 0.3})
    .with_synonyms({2: ["chickadee"]})
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves."""
    folder = tmp_path_factory.mktemp("run")
    write_tiny_checkpoint("ram_plus", folder / "model.pth", tags=3)
    write_tags(TAGS, folder / "tags.json")
    card = {
        "model": "ram_plus",
        "sha256": hashlib.sha256((folder / "model.pth").read_bytes()).hexdigest(),
        "recipe": "finetune",
        "parent": {"name": "ram_plus"},
        "data": {"images": 1200},
        "epochs": 2,
        "validation_map": 0.61,
        "finished_at": "2026-11-29T04:00:00+00:00",
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def test_a_trained_model_is_loaded_by_its_own_name_with_its_own_tags(run: Path, tmp_path: Path) -> None:
    added = add("birds", run, tmp_path)
    assert (added.name, added.kind, added.folder) == ("ram_plus@birds", "ram_plus", tmp_path / "ram_plus@birds")
    model = load_model("ram_plus@birds", models_dir=tmp_path)
    assert model.spec.model == "ram_plus@birds"
    assert model.vocabulary.sha256 == TAGS.sha256
    assert model.vocabulary.synonyms == TAGS.synonyms
    same = load_model("ram_plus", checkpoint=run / "model.pth", vocabulary=TAGS)
    assert model.spec.weights_sha256 == same.spec.weights_sha256
    assert load_vocabulary("ram_plus@birds", tmp_path).names == TAGS.names
    assert load_image_encoder("ram_plus@birds", models_dir=tmp_path).spec.model == "ram_plus@birds"


def test_tags_are_read_as_they_were_written(tmp_path: Path) -> None:
    described = TagVocabulary.from_names("d", ["a b", "a b"], descriptions={"a b": ["one", "two"]})
    for vocabulary in (TAGS, described):
        write_tags(vocabulary, tmp_path / "tags.json")
        assert read_tags(tmp_path / "tags.json").sha256 == vocabulary.sha256
    (tmp_path / "tags.json").write_text("{}")
    with pytest.raises(VocabularyError, match="cannot be read"):
        read_tags(tmp_path / "tags.json")


def test_a_training_that_has_not_ended_is_not_added(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.json: the training has not ended"):
        add("birds", tmp_path, tmp_path / "models")
    part = shutil.copytree(run, tmp_path / "part")
    (part / "tags.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no tags\.json"):
        add("birds", part, tmp_path / "models")
    assert trained(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["", "Birds", "../birds", "a/b", "ram_plus@", "x" * 64])
def test_names_that_could_be_something_else_are_refused(name: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="cannot be a name; use at most 63 small letters, digits"):
        add(name, run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_another_model_or_one_that_is_taken_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="is a ram_plus, not a ram; name it ram_plus@birds"):
        add("ram@birds", run, tmp_path)
    add("ram_plus@birds", run, tmp_path)
    with pytest.raises(CheckpointError, match="is there already; give another name"):
        add("birds", run, tmp_path)


def test_changed_weights_are_noticed(run: Path, tmp_path: Path) -> None:
    model = add("birds", run, tmp_path)
    assert model.verify() is None
    with model.checkpoint.open("r+b") as stream:
        stream.write(b"x")
    assert "but its card says" in str(model.verify())
    with pytest.raises(CheckpointError, match="but its card says"):
        add("other", model.folder, tmp_path)
    (model.folder / "model.json").write_text("[")
    assert trained(tmp_path) == []
    with pytest.raises(CheckpointError, match="is damaged"):
        find_trained("ram_plus@birds", tmp_path)


def test_a_missing_model_says_how_to_add_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ram_plus@birds is not here .*; run `ramq models add birds --from"):
        load_model("ram_plus@birds", models_dir=tmp_path)
    with pytest.raises(UnknownModelError, match="names no trained model"):
        load_model("lite@birds", models_dir=tmp_path)


def test_commands_list_check_and_find_trained_models(run: Path, tmp_path: Path) -> None:
    def ramq(*words: str, code: int = 0) -> Any:
        done = CliRunner().invoke(command_line("models"), ["models", *words, "--models-dir", str(tmp_path)])
        assert done.exit_code == code, done.output
        return done

    added = ramq("add", "birds", "--from", str(run))
    assert added.stdout == "ram_plus@birds\n"
    assert "trained by finetune from ram_plus, 1,200 images, 2 epochs, validation mAP 0.610, 2026-11-29" in added.stderr
    assert "ramq enqueue SOURCE --model ram_plus@birds" in added.stderr
    listed = json.loads(ramq("list", "--json").stdout)[-1]
    assert (listed["name"], listed["state"], listed["card"]["epochs"]) == ("ram_plus@birds", "trained", 2)
    assert ramq("path", "ram_plus@birds").stdout.strip() == str(tmp_path / "ram_plus@birds")
    assert " ok " in ramq("verify", "ram_plus@birds").stdout
    (tmp_path / "ram_plus@birds" / "model.pth").write_bytes(b"short")
    assert json.loads(ramq("verify", "ram_plus@birds", "--json", code=1).stdout)[0]["state"] == "damaged"
    with pytest.raises(RamqError, match="ramq models add bats"):
        CliRunner().invoke(
            command_line("models"),
            ["models", "path", "ram_plus@bats", "--models-dir", str(tmp_path)],
            catch_exceptions=False,
        )


def test_settings_and_queues_know_trained_models(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(model="ram_plus@birds").stage_models["crops"] == "ram_plus@birds"
    for wrong in ("lite@birds", "ram_plus@", "ram_plus@Birds", "tag2text@birds"):
        with pytest.raises(UsageError, match="RAMQ_MODEL: must be lite, ram, ram_plus, or a trained model"):
            load_settings(model=wrong)
    assert (kind_of("ram_plus@birds"), kind_of("lite")) == ("ram_plus", "lite")
    assert queue_of("ram@birds") == queue_of("ram")


@pytest.mark.parametrize("fault", [{"data": None}, {"parent": 3}, {"data": {"images": "20"}}, {"validation_map": "x"}])
def test_a_card_that_cannot_be_shown_is_left_out(fault: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "ram_plus@odd"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"model": "ram_plus", **fault}))
    assert trained(tmp_path) == []
    with pytest.raises(CheckpointError, match="is no card of a trained model"):
        find_trained("ram_plus@odd", tmp_path)


def test_a_card_of_another_model_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "ram@odd"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"model": "ram_plus"}))
    with pytest.raises(CheckpointError, match="name it ram_plus@odd"):
        find_trained("ram@odd", tmp_path)

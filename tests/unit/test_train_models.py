"""``ramq train`` for each model, and the weights that a training may begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ram_core import TagVocabulary, load_model, load_text_encoder
from ram_core.openset import prompts
from ram_core.runs import read_run
from ram_core.trained import add
from ram_core.training.beginning import new_weights
from ram_core.training.loading import begin_training
from ramq.cli.main import command_line
from tests.small_run import write_small_run
from tests.training_data import NAMES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", ["ram", "tag2text"])
def test_the_other_models_are_trained_too(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_small_run(tmp_path, model)
    monkeypatch.setenv("RAMQ_MODELS_DIR", str(other.models))
    monkeypatch.setenv("RAMQ_DATA_DIR", str(tmp_path / "ramq"))
    folder = tmp_path / "run"
    words = other.words(folder, "--epochs", "1", "--accumulate", "2", "--precision", "bfloat16", "--recompute")
    done = CliRunner().invoke(command_line(words[0]), words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    run = read_run(folder)
    assert (run.model, run.state, run.step, run.steps) == (model, "finished", 2, 2)
    assert "t2t" in run.points[-1].losses
    name = add("small", folder, other.models).name
    assert load_model(name, models_dir=other.models).vocabulary.names == NAMES


def test_new_weights_have_the_label_embeddings_of_clip(tmp_path: Path) -> None:
    small = write_small_run(tmp_path)
    tags = TagVocabulary.from_names("few", NAMES)
    weights = new_weights("ram", tags, seed=1, models_dir=small.models, full=False)
    expected = load_text_encoder("ram", models_dir=small.models).encode(list(prompts("dog"))).mean(0)
    ours = weights["label_embed"][0].numpy()
    assert np.allclose(ours, expected / np.linalg.norm(expected), atol=1e-6)
    again = new_weights("ram", tags, seed=1, models_dir=small.models, full=False)
    assert all(torch.equal(each, again[key]) for key, each in weights.items())
    network = begin_training("ram", weights, tags, image_size=32)
    assert network.visual_encoder.sizes.image_size == 32
    described = TagVocabulary.from_names(
        "few", NAMES, descriptions={name: [f"It is {n}." for n in range(51)] for name in NAMES}
    )
    plus = new_weights("ram_plus", described, seed=1, models_dir=small.models, full=False)
    assert plus["label_embed"].shape == (51 * len(NAMES), 512)
    assert "label_embed.weight" in new_weights("tag2text", tags, seed=1, models_dir=None, full=False)

"""Losses, gradients and steps of the official training code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ram_core import TagVocabulary
from ram_core.training import TrainingBatch, asymmetric_loss, clean_caption, load_for_training
from tests.reference import SHARED, official_file, official_vocabulary, reference, synthetic_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from ram_core.training.networks import Trainable

KINDS = pytest.mark.parametrize("kind", ["ram", "ram_plus", "tag2text"])
LOSS_TOLERANCE = 1e-5  # relative, as all of these; the official float32 code differs from its float64 run by 2e-6
NORM_TOLERANCE = 1e-4
WORDS_TOLERANCE = 1e-3  # word embeddings: tiny sums of many terms
SLICE_TOLERANCE = 1e-4  # of the largest value
STEP_TOLERANCE = {"ram": 1e-4, "tag2text": 1e-4, "ram_plus": 5e-4}
# A bias of keys moves all scores of a query alike, so its true gradient is 0 (1e-16 in float64). In float32 it is
# noise, from which AdamW makes steps of full length in either direction.
KEYS = re.compile(r"self\.key\.bias$|attn\.qkv\.bias$").search
ZERO = 1e-5
KEYS_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Official:
    facts: dict[str, Any]
    arrays: dict[str, Any]
    batch: TrainingBatch


@cache
def official(kind: str) -> Official:
    folder = SHARED / "parity" / "training"
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; RAMQ_SHARED_DIR says where it is")
    facts = json.loads((folder / f"{kind}.json").read_text())
    with np.load(folder / f"{kind}.npz") as stored:
        arrays = dict(stored)
    tensors = {name: torch.from_numpy(arrays[name]) for name in ("tags", "parse_tags", "clip_image", "caption_text")}
    captions = [clean_caption(each) for each in facts["raw_captions"]]
    return Official(facts, arrays, TrainingBatch(synthetic_pixels(facts["image_seeds"]), captions, **tensors))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("training")

    @cache
    def path(kind: str) -> Path:
        file: Path = folder / f"{kind}.pth"
        torch.save({"model": reference(kind).weights}, file)
        return file

    def load(kind: str) -> Trainable:
        if kind == "tag2text":
            vocabulary = TagVocabulary.from_files(official_file("tag2text_ori_tag_list.txt"))
        else:
            vocabulary = official_vocabulary(64 if kind == "ram" else 16)
        return load_for_training(kind, checkpoint=path(kind), vocabulary=vocabulary, dropout=0.0, drop_path=0.0)

    return load


@pytest.fixture(scope="module")
def learned(load: Any) -> Any:
    """A network with the gradients of one step, and the losses, by a model's name."""

    @cache
    def learned(kind: str) -> tuple[Trainable, dict[str, float]]:
        model = load(kind)
        losses = model.losses(official(kind).batch)
        losses["total"].backward()
        return model, {name: float(each.detach()) for name, each in losses.items()}

    return learned


@KINDS
def test_captions_are_cleaned_as_officially(kind: str) -> None:
    assert official(kind).batch.captions == official(kind).facts["captions"]


@KINDS
def test_losses_are_the_official_ones(kind: str, learned: Any) -> None:
    theirs = {name: value for name, value in official(kind).facts["fp32"].items() if name != "grad_norms"}
    assert learned(kind)[1] == pytest.approx(theirs, rel=LOSS_TOLERANCE)


@KINDS
def test_gradients_have_the_official_norms_and_names(kind: str, learned: Any) -> None:
    model, facts = learned(kind)[0], official(kind).facts
    ours = {name: float(each.grad.norm()) for name, each in model.named_parameters() if each.grad is not None}
    theirs = facts["fp32"]["grad_norms"]
    assert ours.keys() == theirs.keys()
    wrong = {
        name: (ours[name], norm)
        for name, norm in theirs.items()
        if ours[name]
        != pytest.approx(
            norm, rel=WORDS_TOLERANCE if "word_embeddings" in name else NORM_TOLERANCE, abs=ZERO if KEYS(name) else 0
        )
    }
    assert not wrong
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == facts["no_grad"]


@KINDS
def test_weights_have_the_official_keys(kind: str, load: Any) -> None:
    official(kind)  # skips without the data
    manifest = json.loads((SHARED / "parity" / f"manifest_{kind}_tiny.json").read_text())["state_dict"]
    computed = re.compile(r"(relative_position_index|attn_mask|position_ids)$")
    shapes = {key: tuple(entry["shape"]) for key, entry in manifest.items() if not computed.search(key)}
    assert {key: tuple(each.shape) for key, each in load(kind).state_dict().items()} == shapes


@KINDS
def test_gradients_are_the_official_ones(kind: str, learned: Any) -> None:
    gradients = {name: each.grad for name, each in learned(kind)[0].named_parameters()}
    for key, values in official(kind).arrays.items():
        if key.startswith("grad:"):
            theirs = torch.from_numpy(values)
            ours = gradients[key.removeprefix("grad:")].flatten()[: len(theirs)]
            assert float((ours - theirs).abs().max()) <= SLICE_TOLERANCE * float(theirs.abs().max()), key


@KINDS
def test_six_steps_of_the_optimizer_are_the_official_ones(kind: str, load: Any) -> None:
    model, case = load(kind), official(kind)
    facts = case.facts["adamw"]
    optimizer = torch.optim.AdamW(
        [each for each in model.parameters() if each.requires_grad], lr=facts["lr"], weight_decay=facts["weight_decay"]
    )
    for step in facts["steps"]:
        for group in optimizer.param_groups:
            group["lr"] = step["lr"]
        losses = model.losses(case.batch)
        for name, loss in losses.items():
            assert float(loss.detach()) == pytest.approx(step[name], rel=STEP_TOLERANCE[kind]), name
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    norms = {name: float(each.detach().norm()) for name, each in model.named_parameters()}
    theirs = facts["param_norms_after"]
    wrong = {
        name: (norm, theirs[name])
        for name, norm in norms.items()
        if norm != pytest.approx(theirs[name], rel=KEYS_TOLERANCE if KEYS(name) else NORM_TOLERANCE)
    }
    assert not wrong


def test_the_asymmetric_loss_and_its_gradient_are_the_official_ones() -> None:
    path = SHARED / "parity" / "training" / "asymmetric_loss.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    facts = json.loads(path.read_text())
    for case in facts["cases"]:
        for number, logit in enumerate(facts["logits"]):
            value = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
            target = torch.tensor([case["target"]])
            loss = asymmetric_loss(value, target, case["gamma_neg"], case["gamma_pos"], case["clip"])
            loss.backward()
            assert float(loss.detach()) == pytest.approx(case["loss"][number], rel=1e-9, abs=1e-15), (case, logit)
            assert float(value.grad) == pytest.approx(case["grad"][number], rel=1e-9, abs=1e-15), (case, logit)

"""Networks that learn: what a batch may be, what is tied and frozen, images of other sizes, files."""

from __future__ import annotations

import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.interpolate import make_interp_spline

from ram_core import TagVocabulary, load_model
from ram_core.errors import CheckpointError, ModelError, TrainingError, UnknownModelError, VocabularyError
from ram_core.modeling.bias_tables import resizing
from ram_core.modeling.tiny import write_tiny_checkpoint
from ram_core.training import (
    TrainingBatch,
    asymmetric_loss,
    clean_caption,
    load_for_training,
    multi_hot,
    save_checkpoint,
)
from ram_core.training.losses import balanced, caption_loss
from ram_core.training.validation import mean_average_precision

if TYPE_CHECKING:
    from pathlib import Path

TAGS = 8
KINDS = pytest.mark.parametrize("kind", ["ram", "ram_plus", "tag2text"])
VOCABULARY = TagVocabulary.from_names("few", [f"tag {number}" for number in range(TAGS)])
CAPTIONS = ["a brown dog lies on the green grass", "two cups of coffee on a wooden table in the sun"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("training")

    @cache
    def write(kind: str) -> Path:
        path: Path = folder / f"{kind}.pth"
        write_tiny_checkpoint(kind, path, tags=TAGS, captions=True)
        return path

    return write


@pytest.fixture
def load(checkpoint: Any) -> Any:
    def load(kind: str, **options: Any) -> Any:
        options = {"dropout": 0.0, "drop_path": 0.0, "vocabulary": VOCABULARY, **options}
        return load_for_training(kind, checkpoint=options.pop("checkpoint", None) or checkpoint(kind), **options)

    return load


def batch(captions: list[str] | None = None, size: int = 64, **other: Any) -> TrainingBatch:
    """Images of noise, with the first tags."""
    captions = CAPTIONS if captions is None else captions
    count = len(captions)
    draw = torch.Generator().manual_seed(7)
    tags = multi_hot([[0, 2, 5]] * count, TAGS)
    values: dict[str, Any] = {
        "pixels": torch.randn(count, 3, size, size, generator=draw),
        "captions": captions,
        "tags": tags,
        "parse_tags": multi_hot([[2, 5]] * count, TAGS),
        "clip_image": torch.randn(count, 512, generator=draw),
        "caption_text": torch.nn.functional.normalize(torch.randn(count, 512, generator=draw), dim=1),
        **other,
    }
    return TrainingBatch(**values)


def values(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(each.detach()) for name, each in losses.items()}


@KINDS
def test_losses_are_finite_scalars_whose_gradients_reach_every_parameter_that_learns(kind: str, load: Any) -> None:
    model = load(kind)
    assert model.training
    losses = model.losses(batch())
    third = {"ram": ["distill", "t2t"], "ram_plus": ["align", "distill"], "tag2text": ["t2t"]}[kind]
    assert sorted(losses) == sorted(["tag", "total", *third])
    assert all(each.shape == () and each.requires_grad and bool(each.isfinite()) for each in losses.values())
    losses["total"].backward()
    assert [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None] == []
    frozen = [name for name, each in model.named_parameters() if not each.requires_grad]
    assert frozen == ([] if kind == "tag2text" else ["label_embed"])


@pytest.mark.parametrize(
    ("kind", "expected", "norm"),
    [
        ("ram", {"tag": 24.71138, "distill": 1.116629, "t2t": 16.01807, "total": 33.15278}, 77.4395),
        ("ram_plus", {"tag": 11.7358, "distill": 1.158531, "align": 5.268905, "total": 18.16324}, 59.8882),
        ("tag2text", {"tag": 53.92416, "t2t": 15.49747, "total": 30.99493}, 20.9935),
    ],
)
def test_losses_stay_what_they_were_when_the_official_ones_were_met(
    kind: str, expected: dict[str, float], norm: float, load: Any
) -> None:
    # For machines without the reference data: these numbers are ours, from the code that passed that comparison.
    model = load(kind)
    losses = model.losses(batch())
    losses["total"].backward()
    assert values(losses) == pytest.approx(expected, rel=1e-4)
    assert float(model.visual_encoder.patch_embed.proj.weight.grad.norm()) == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("kind", ["ram", "tag2text"])
def test_tied_parameters_are_there_once_and_stay_tied(kind: str, load: Any) -> None:
    model = load(kind)
    assert len({id(each) for each in model.parameters()}) == len(list(model.parameters()))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    model.losses(batch())["total"].backward()
    optimizer.step()
    state = model.state_dict()
    layer = "encoder.layer.1.crossattention.self.value.weight"
    assert state[f"tag_encoder.{layer}"].data_ptr() == state[f"tagging_head.{layer}"].data_ptr()
    words = "text_decoder.cls.predictions.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight"
    assert state[words[0]].data_ptr() == state[words[1]].data_ptr()


@pytest.mark.parametrize(("kind", "name"), [("ram", "t2t"), ("ram_plus", "distill"), ("tag2text", "t2t")])
def test_gradients_are_the_slope_of_a_loss(kind: str, name: str, load: Any) -> None:
    # Those of the other losses are not: their factors have no gradient.
    model, own = load(kind), batch(CAPTIONS[:1], size=96)
    encoder = model.visual_encoder
    for parameter in (encoder.layers[3].blocks[0].mlp.fc2.bias, encoder.layers[0].downsample.norm.weight):
        (gradient,) = torch.autograd.grad(model.losses(own)[name], parameter)
        step = 1e-2 * gradient / gradient.norm()
        ends = []
        for direction in (1, -2):
            with torch.no_grad():
                parameter.add_(step, alpha=direction)
                ends.append(float(model.losses(own)[name]))
        with torch.no_grad():
            parameter.add_(step)
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(gradient.norm()), rel=2e-2)


@KINDS
def test_an_image_learns_alone_as_it_does_in_a_batch(kind: str, load: Any) -> None:
    model = load(kind)
    both = values(model.losses(batch()))
    alone = []
    for row in range(2):
        whole = batch()
        parts = {name: getattr(whole, name)[row : row + 1] for name in TrainingBatch.__slots__}
        alone.append(values(model.losses(TrainingBatch(**parts))))
    assert both["tag"] == pytest.approx(alone[0]["tag"] + alone[1]["tag"], rel=1e-4)
    if kind != "tag2text":
        assert both["distill"] == pytest.approx((alone[0]["distill"] + alone[1]["distill"]) / 2, rel=1e-4)


@pytest.mark.parametrize("kind", ["ram", "tag2text"])
def test_without_captions_tags_are_learned_all_the_same(kind: str, load: Any) -> None:
    model = load(kind)
    losses = model.losses(batch(["", "a dog"]))  # too short to have a word to learn
    assert float(losses["t2t"].detach()) == 0
    losses["total"].backward()
    gradients = [each.grad for each in model.fc.parameters()]
    assert all(bool(each.isfinite().all()) and float(each.norm()) > 0 for each in gradients)


def test_an_empty_caption_is_none_that_images_are_aligned_with(load: Any) -> None:
    model = load("ram_plus")
    assert values(model.losses(batch(["", ""])))["align"] == 0
    one = batch(["", CAPTIONS[1]])
    assert 0 < values(model.losses(one))["align"] < values(model.losses(batch()))["align"] + 1e-3


def test_the_same_caption_twice_is_right_for_both_images_unless_it_is_to_be_punished(load: Any) -> None:
    same = batch([CAPTIONS[0]] * 2)
    vectors = same.caption_text
    assert vectors is not None
    vectors[1] = vectors[0]
    kind, official = load("ram_plus"), load("ram_plus", punish_same_captions=True)
    tokens = kind.embed(same.pixels).detach()
    forgiving, strict = (each._alignment(same, tokens).detach() for each in (kind, official))
    queries = torch.relu(kind.wordvec_proj(vectors))[None]
    logits = kind.score(queries, kind.tagging_head.look_at(tokens), None, slice(0, 2)).detach()
    assert float(forgiving) == pytest.approx(float(asymmetric_loss(logits, torch.ones(2, 2), gamma_neg=4)))
    assert float(strict) == pytest.approx(float(asymmetric_loss(logits, torch.eye(2), gamma_neg=4)))


@KINDS
def test_images_of_any_multiple_of_32_pixels_are_learned_from(kind: str, load: Any) -> None:
    model = load(kind)
    for size in (32, 96, 224):
        losses = model.losses(batch(CAPTIONS[:1], size=size))
        assert bool(losses["total"].isfinite())
    with pytest.raises(ModelError, match=r"100 pixels.*multiple of 32"):
        model.losses(batch(size=100))


def test_a_network_for_smaller_images_is_the_one_that_is_shown_smaller_images(load: Any, tmp_path: Path) -> None:
    whole, small = load("ram_plus"), load("ram_plus", image_size=224)
    own = batch(size=224)
    assert values(small.losses(own)) == pytest.approx(values(whole.losses(own)), rel=1e-4)
    tables = [each for key, each in small.state_dict().items() if key.endswith("relative_position_bias_table")]
    assert {len(each) for each in tables} == {13 * 13}
    save_checkpoint(small, tmp_path / "small.pth")
    model = load_model("ram_plus", checkpoint=tmp_path / "small.pth", vocabulary=VOCABULARY)
    with torch.no_grad():
        logits = small.eval()(own.pixels).logits
    assert float((model.tag_logits(own.pixels) - logits).abs().max()) < 5e-5


@pytest.mark.parametrize(("source", "target"), [(13, 23), (23, 13), (23, 47), (13, 1), (5, 9)])
def test_biases_for_other_windows_are_read_from_a_cubic_spline(source: int, target: int) -> None:
    factors = np.linspace(1.01, 1.5, 200_001)
    reach = (1 - factors ** (source // 2)) / (1 - factors)
    factor = factors[min(np.searchsorted(reach, target // 2), len(factors) - 1)]
    steps = np.cumsum(factor ** np.arange(source // 2))
    knots = np.concatenate([-steps[::-1], [0], steps])
    table = np.random.default_rng(source).normal(size=(source, source))
    at = np.clip(np.arange(target) - target // 2, knots[0], knots[-1])
    rows = make_interp_spline(knots, table, k=3, axis=0)(at)
    expected = make_interp_spline(knots, rows, k=3, axis=1)(at)
    ours = (resizing(source, target) @ torch.from_numpy(table.ravel())).view(target, target).numpy()
    assert np.abs(ours - expected).max() < 1e-3  # the factor is known to 1e-6


def test_biases_of_windows_that_are_too_small_are_refused() -> None:
    with pytest.raises(ModelError, match="windows of 2 tokens are too small"):
        resizing(3, 23)


@KINDS
def test_what_is_saved_has_the_official_keys_and_is_loaded_again(kind: str, load: Any, tmp_path: Path) -> None:
    model, own = load(kind), batch(size=384)
    path = tmp_path / "trained.pth"
    save_checkpoint(model, path, epoch=3)
    assert [each.name for each in tmp_path.iterdir()] == ["trained.pth"]
    stored = torch.load(path, weights_only=True)
    assert stored["epoch"] == 3
    keys = stored["model"].keys()
    assert "visual_encoder.layers.0.downsample.norm.weight" in keys
    assert not any("layers.3.downsample" in key or "label_embed.bias" in key for key in keys)
    if kind != "ram_plus":
        assert {"text_decoder.cls.predictions.decoder.bias", "tagging_head.encoder.layer.0.output.dense.bias"} <= keys
    again = load(kind, checkpoint=path)
    assert values(again.losses(own)) == values(model.losses(own))
    served = load_model(kind, checkpoint=path, vocabulary=VOCABULARY)
    with torch.no_grad():
        logits = model.eval()(own.pixels).logits
    assert float((served.tag_logits(own.pixels) - logits).abs().max()) < 5e-5


def test_validation_is_the_mean_precision_of_the_tags_that_are_there(load: Any) -> None:
    model, own = load("ram_plus", dropout=0.3), batch([*CAPTIONS, "a cat"])
    with torch.no_grad():
        logits = model.eval()(own.pixels).logits
    best, worst = logits.argmax(dim=0), logits.argmin(dim=0)
    tags = torch.zeros(3, TAGS, dtype=torch.uint8)
    tags[best[0], 0] = tags[worst[1], 1] = 1  # precision 1 and 1/3; no image has the other tags
    model.train()
    parts = [batch([each], pixels=own.pixels[i : i + 1], tags=tags[i : i + 1]) for i, each in enumerate(own.captions)]
    assert mean_average_precision(model, parts) == pytest.approx((1 + 1 / 3) / 2)
    assert model.training
    with pytest.raises(TrainingError, match="no image for validation has a tag"):
        mean_average_precision(model, [batch(tags=torch.zeros(2, TAGS))])


@KINDS
def test_recomputing_activations_changes_no_gradient(kind: str, load: Any) -> None:
    plain, frugal = load(kind), load(kind)
    frugal.recompute()
    for model in (plain, frugal):
        model.losses(batch())["total"].backward()
    for ours, theirs in zip(frugal.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)


@KINDS
def test_dropout_and_stochastic_depth_act_in_training_alone(kind: str, load: Any) -> None:
    model, own = load(kind, dropout=0.1, drop_path=0.3), batch()
    torch.manual_seed(1)
    first, second = values(model.losses(own)), values(model.losses(own))
    assert first["total"] != second["total"]
    model.eval()
    calm, same = values(model.losses(own)), values(load(kind).losses(own))
    assert calm == pytest.approx(same, rel=1e-5)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"pixels": torch.zeros(2, 3, 64, 96)}, r"pixels are \(2, 3, 64, 96\)"),
        ({"pixels": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}, "pixels are torch.uint8"),
        ({"captions": ["one"], "pixels": torch.zeros(2, 3, 64, 64)}, "2 images have 1 captions"),
        ({"tags": torch.zeros(3, TAGS)}, r"tags is \(3, 8\) for 2 images"),
        ({"parse_tags": torch.zeros(2, TAGS + 1)}, r"tags are \(2, 8\) and parse_tags \(2, 9\)"),
        ({"caption_text": torch.zeros(2)}, r"caption_text is \(2,\)"),
    ],
)
def test_a_batch_whose_parts_do_not_fit_is_refused(other: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        batch(**other)


def test_a_batch_that_does_not_fit_the_model_is_refused(load: Any) -> None:
    model = load("ram_plus")
    with pytest.raises(TrainingError, match="the batch has 9 tags, the model 8"):
        model.losses(batch(tags=torch.zeros(2, 9), parse_tags=torch.zeros(2, 9)))
    with pytest.raises(TrainingError, match="clip_image is nothing"):
        model.losses(batch(clip_image=None))
    with pytest.raises(TrainingError, match=r"clip_image is \(2, 768\)"):
        model.losses(batch(clip_image=torch.zeros(2, 768)))
    with pytest.raises(TrainingError, match="give `caption_text`"):
        model.losses(batch(caption_text=None))
    load("ram").losses(batch(caption_text=None))
    load("tag2text").losses(batch(caption_text=None, clip_image=None))


def test_unknown_tag_ids_are_named() -> None:
    with pytest.raises(TrainingError, match="tag id 8 is unknown: the vocabulary has 8 tags, 0 to 7"):
        multi_hot([[1], [8]], TAGS)
    with pytest.raises(TrainingError, match="tag id -1"):
        multi_hot([[-1]], TAGS)
    assert multi_hot([[1, 1], []], 3).tolist() == [[0, 1, 0], [0, 0, 0]]


def test_what_cannot_be_trained_is_refused(load: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="'lite' cannot be trained; models that can: ram, ram_plus, tag2text"):
        load_for_training("lite")
    with pytest.raises(TrainingError, match=r"drop_path is 1\.0"):
        load("ram", drop_path=1.0)
    with pytest.raises(TrainingError, match="image_size is 300"):
        load("ram", image_size=300)
    with pytest.raises(VocabularyError, match="8 tags"):
        load("ram", vocabulary=TagVocabulary.from_names("others", ["a", "b"]))
    with pytest.raises(VocabularyError, match="learns from the names of its tags"):
        load("tag2text", vocabulary=None)
    write_tiny_checkpoint("ram", tmp_path / "tags.pth", tags=TAGS)
    with pytest.raises(CheckpointError, match="has no caption branch"):
        load("ram", checkpoint=tmp_path / "tags.pth")


def test_the_checkpoint_may_be_overwritten_while_it_is_trained(checkpoint: Any, load: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    shutil.copyfile(checkpoint("ram_plus"), path)
    model = load("ram_plus", checkpoint=path)
    before = values(model.losses(batch()))
    torch.save({"model": model.state_dict()}, path)  # truncates the file first
    assert values(model.losses(batch())) == before
    assert values(load("ram_plus", checkpoint=path).losses(batch())) == before


def test_weights_that_should_be_tied_but_differ_are_refused(checkpoint: Any, load: Any, tmp_path: Path) -> None:
    weights = torch.load(checkpoint("ram"), weights_only=True)["model"]
    key = "tag_encoder.encoder.layer.1.output.dense.bias"
    weights[key] = weights[key] + 1
    torch.save({"model": weights}, tmp_path / "untied.pth")
    with pytest.raises(CheckpointError, match=f"{key} differs from the tagging head's"):
        load("ram", checkpoint=tmp_path / "untied.pth")


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ('A "Dog",  running!\nFast.', "a dog , running fast"),
        ("~*#();: ", ""),
        ("L'été à Paris, 3.5 €", "l'été à paris, 3 5 €"),
        (" ".join(["word"] * 40), " ".join(["word"] * 30)),
    ],
)
def test_captions_are_cleaned(caption: str, cleaned: str) -> None:
    assert clean_caption(caption) == cleaned


def test_the_asymmetric_loss_forgives_easy_negatives_and_16_bits_lose_nothing() -> None:
    logits = torch.tensor([[-4.0, 0.0, 3.0]])
    assert float(asymmetric_loss(logits[:, :1], torch.zeros(1, 1))) == 0
    assert float(asymmetric_loss(logits, torch.ones(1, 3))) == pytest.approx(
        float(torch.nn.functional.softplus(-logits).sum()), rel=1e-6
    )
    no = 0.5 + 0.05
    assert float(asymmetric_loss(logits[:, 1:2], torch.zeros(1, 1))) == pytest.approx(-np.log(no) * (1 - no) ** 7)
    half = asymmetric_loss(logits.half(), torch.zeros(1, 3))
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(asymmetric_loss(logits, torch.zeros(1, 3))))


def test_no_words_cost_nothing_and_a_perfect_tagger_divides_by_nothing() -> None:
    logits = torch.zeros(0, 5, requires_grad=True)
    assert float(caption_loss(logits, torch.zeros(0, dtype=torch.long)).detach()) == 0
    perfect = torch.zeros((), requires_grad=True)
    assert float(balanced(perfect, torch.tensor(3.0)).detach()) == 0

"""The official recipes, views of images, and the teacher."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers.models.clip.modeling_clip import CLIPModel

from ram_core.errors import CheckpointError, ImageError, TrainingError
from ram_core.training.augmentation import OPERATIONS, Augmentation, generator
from ram_core.training.order import Order
from ram_core.training.recipes import CLIP_MEAN, CLIP_STD, FINETUNE, PRETRAIN, Cosine, Decay, recipe
from ram_core.training.teacher import ClipTeacher, load_teacher
from ram_core.transforms import normalise
from tests.reference import SHARED
from tests.tiny_clip import write_tiny_clip

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ram_core.training.recipes import Recipe


def picture(seed: int = 0, size: tuple[int, int] = (90, 60)) -> Image.Image:
    low = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(low).resize(size, Image.Resampling.BICUBIC)


def test_learning_rates_are_the_official_ones() -> None:
    path = SHARED / "parity" / "training" / "asymmetric_loss.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    warmup, decay, cosine = json.loads(path.read_text())["schedules"].values()
    for step, rate in warmup.items():
        assert PRETRAIN.learning_rate(0, int(step)) == pytest.approx(rate, rel=1e-12)
    for epoch, rate in decay.items():
        assert PRETRAIN.learning_rate(int(epoch), 3000) == pytest.approx(rate, rel=1e-12)
    for epoch, rate in cosine.items():
        assert FINETUNE.learning_rate(int(epoch), 7) == pytest.approx(rate, rel=1e-12)


def test_learning_rates_rise_and_fall() -> None:
    schedule = Decay(rate=1.0, factor=0.5, least=0.2, warmup_steps=10, warmup_from=0.0)
    assert [schedule.at(0, step, 9) for step in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert [schedule.at(epoch, 0, 9) for epoch in (1, 2, 3, 4)] == [0.5, 0.25, 0.2, 0.2]
    assert Decay(warmup_steps=0).at(0, 0, 5) == 1e-4
    assert [round(Cosine(1.0, 0.5).at(epoch, 3, 4), 6) for epoch in (0, 2, 4)] == [1.0, 0.75, 0.5]


def test_recipes_are_changed_by_replacing_and_contradictions_are_refused() -> None:
    assert (recipe("pretrain"), recipe("finetune")) == (PRETRAIN, FINETUNE)
    with pytest.raises(TrainingError, match="unknown recipe 'quick'; known recipes: pretrain, finetune"):
        recipe("quick")
    with pytest.raises(TrainingError, match="images of 384 pixels and views of 224"):
        replace(PRETRAIN, image_size=384)
    with pytest.raises(TrainingError, match="set own_clip_view"):
        replace(FINETUNE, own_clip_view=False)
    network = torch.nn.Linear(3, 3)
    network.bias.requires_grad = False
    (group,) = FINETUNE.optimizer(network).param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (5e-6, 0.05, 1)
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)


def _view(index: int) -> NDArray[np.uint8]:
    return Augmentation(32)(picture(index), generator(5, 1, index))


def test_views_are_the_same_in_any_process_and_order() -> None:
    here = [_view(index) for index in range(6)]
    with ProcessPoolExecutor(2) as processes:
        there = list(processes.map(_view, reversed(range(6))))[::-1]
    assert all(np.array_equal(*pair) for pair in zip(here, there, strict=True))


def test_views_differ_by_seed_epoch_image_and_number() -> None:
    augment, image = Augmentation(32), picture()
    views = [augment(image, generator(*key)) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1))]
    assert len({view.tobytes() for view in views}) == 5
    assert np.array_equal(augment(image, generator(0, 0, 0)), views[0])


@pytest.mark.parametrize("size", [(90, 60), (1, 1), (2000, 3), (3, 2000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_any_picture_gives_views_of_the_size(size: tuple[int, int], mode: str) -> None:
    image = picture(size=size).convert(mode)
    for index in range(3):
        view = Augmentation(16, operations=4, probability=1.0)(image, generator(0, 0, index))
        assert (view.shape, view.dtype) == ((16, 16, 3), np.uint8)


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="empty"):
        Augmentation(16)(Image.new("RGB", (0, 5)), generator(0, 0, 0))


def test_crops_have_the_area_and_the_ratio_that_they_should_have() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([Augmentation(8)._box(Image.new("RGB", (400, 300)), random) for _ in range(2000)])
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, ratios = wide * high / 120_000, wide / high
    assert 0.19 < areas.min() < 0.22
    assert areas.max() > 0.9
    assert 0.45 < areas.mean() < 0.6
    assert 0.74 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.35
    assert boxes.min() >= 0
    assert (boxes[:, 2].max(), boxes[:, 3].max()) == (400, 300)


def test_half_of_the_views_are_mirrored_and_operations_act_half_of_the_time() -> None:
    left = np.zeros((20, 20, 3), np.uint8)
    left[:, :10] = 255
    plain = Augmentation(20, least_area=0.999, operations=0)
    views = [plain(Image.fromarray(left), generator(0, 0, index)) for index in range(400)]
    assert 160 < sum(view[10, 2, 0] == 0 for view in views) < 240
    shifting = Augmentation(20, least_area=0.999, operations=1, level=10, probability=0.5)
    strong = [shifting(Image.fromarray(left), generator(0, 0, index)) for index in range(400)]
    changed = sum(not np.array_equal(*pair) for pair in zip(views, strong, strict=True))
    assert 80 < changed < 200  # half of those that can change these two colours: 6 of 10


def test_operations_do_what_their_names_say() -> None:
    image = picture(size=(64, 64))
    before = np.asarray(image).astype(int)

    def apply(name: str, strength: float) -> NDArray[np.int64]:
        return np.asarray(OPERATIONS[name](image, strength)).astype(int)

    for name in ("identity", "brightness", "sharpness"):  # at level 5 of 10
        assert np.array_equal(apply(name, 0.5), before)
    assert apply("brightness", 1.0).mean() > before.mean() * 1.2
    assert apply("brightness", -0.1).mean() < before.mean() * 0.5
    assert np.array_equal(apply("translate_x", 0.5)[:, :-5], before[:, 5:])
    assert (apply("translate_x", 0.5)[:, -4:] == 128).all()
    assert np.array_equal(apply("translate_y", -0.5)[5:], before[:-5])
    assert (apply("rotate", 0.5)[0, 0] == 128).all()
    assert np.abs(apply("rotate", 0.5)[32, 32] - before[32, 32]).max() < 12
    sheared = apply("shear_x", 1.0)
    assert (sheared[-1, -10:] == 128).all()
    assert np.abs(sheared[0, :-1] - before[0, :-1]).max() < 12
    assert (apply("shear_y", -1.0)[0, -10:] == 128).all()
    assert apply("autocontrast", 0.5).min() == 0
    assert apply("equalise", 0.5).max() == 255
    assert len(OPERATIONS) == 10


def seen(official: Recipe, image: Image.Image, seed: int, epoch: int, index: int) -> tuple[NDArray[np.uint8], ...]:
    """What the model, and what CLIP sees: the first and the last view, as batches take them."""
    views = [view(image) for view in official.views_of(seed, epoch, index)]
    return views[0], views[-1]


def test_clip_sees_its_own_view_where_the_recipe_says_so() -> None:
    image = picture(size=(300, 260))
    model, clip = seen(PRETRAIN, image, 0, 0, 3)
    assert np.array_equal(model, clip)
    assert model.shape == (224, 224, 3)
    model, clip = seen(FINETUNE, image, 0, 0, 3)
    assert (model.shape, clip.shape) == ((384, 384, 3), (224, 224, 3))
    assert np.abs(model[::12, ::12].mean((0, 1)) - clip[::7, ::7].mean((0, 1))).max() > 0.1
    again = seen(FINETUNE, image, 0, 0, 3)
    assert np.array_equal(again[0], model)
    assert np.array_equal(again[1], clip)


def test_every_image_is_in_one_batch_of_an_epoch_and_any_batch_can_be_made_again() -> None:
    orders = [Order(images=103, batch_size=10, seed=4, rank=rank, processes=2) for rank in range(2)]
    assert [each.steps() for each in orders] == [5, 5]
    epoch = [batch for order in orders for batch in order.epoch(0)]
    seen = np.concatenate(epoch)
    assert len(seen) == len(set(seen.tolist())) == 100
    assert np.array_equal(next(orders[1].epoch(0, start=3)), epoch[5 + 3])
    others = Order(images=103, batch_size=10, seed=5), Order(images=103, batch_size=10, seed=4)
    assert not np.array_equal(next(others[0].epoch(0)), epoch[0])
    assert not np.array_equal(next(others[1].epoch(1)), epoch[0])
    with pytest.raises(TrainingError, match="15 images are fewer than a batch of 10 in each of 2 processes"):
        Order(images=15, batch_size=10, seed=0, processes=2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clip-vit-base-patch16"
    write_tiny_clip(folder)
    return folder


def test_the_teacher_gives_the_vectors_of_clip(clip: Path) -> None:
    teacher, real = ClipTeacher(clip), CLIPModel.from_pretrained(clip).eval()
    views = torch.from_numpy(np.stack([np.asarray(picture(seed, (32, 32))) for seed in range(3)]))
    vectors = teacher.image_vectors(views)
    with torch.no_grad():
        pixels = normalise(views, CLIP_MEAN, CLIP_STD)
        expected = real.visual_projection(real.vision_model(pixel_values=pixels).pooler_output)
    assert torch.allclose(vectors, expected, atol=1e-6)
    assert not vectors.requires_grad
    assert float((vectors.norm(dim=1) - 1).abs().min()) > 0.01  # not normalised
    texts = teacher.text_vectors(["a dog", "", "two cups of coffee " * 40])
    assert (texts.shape, texts.dtype) == ((3, 512), torch.float32)
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(teacher.text_vectors(["a dog"]), texts[:1], atol=1e-5)


def test_clip_is_read_from_the_published_kind_of_file_too(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "clip"
    shutil.copytree(clip, other)
    torch.save(load_file(other / "model.safetensors"), other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    ours, theirs = (ClipTeacher(folder).text_vectors(["a dog"]) for folder in (other, clip))
    assert torch.allclose(ours, theirs, atol=1e-6)
    (other / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights \(model.safetensors or pytorch_model.bin\)"):
        ClipTeacher(other)


def test_the_teacher_in_16_bits_gives_float32_vectors(clip: Path) -> None:
    views = torch.from_numpy(np.asarray(picture(1, (32, 32)))[None].copy())
    half = ClipTeacher(clip, dtype=torch.bfloat16).image_vectors(views)
    whole = ClipTeacher(clip).image_vectors(views)
    assert half.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(half, whole)) > 0.99


def test_the_teacher_says_what_is_missing(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run `ramq models pull clip-vit-base-patch16`"):
        load_teacher(models_dir=tmp_path)
    with pytest.raises(CheckpointError, match="pass `models_dir=`"):
        load_teacher(models_dir=None)
    with pytest.raises(TrainingError, match=r"views are \(1, 64, 64, 3\); CLIP takes \(B, 32, 32, 3\)"):
        load_teacher(models_dir=clip.parent).image_vectors(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))

"""From files to batches: order, resuming, bad images."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ram_core.errors import TrainingError
from ram_core.training.augmentation import Augmentation
from ram_core.training.data import BadImages, ImageBatches, ValidationBatches, open_dataset, write_official
from ram_core.training.data.loader import decode_here
from ram_core.training.recipes import PRETRAIN
from ram_core.transforms import SquashTransform
from tests.training_data import VOCABULARY, entry, write_official_set

if TYPE_CHECKING:
    from pathlib import Path

    from ram_core.training import TrainingBatch

RECIPE = replace(PRETRAIN, image_size=32, batch_size=6, own_clip_view=True, augmentation=Augmentation(32))
BROKEN = (3, 17, 18, 30)
LIMIT = decode_here(max_pixels=2500)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_set(tmp_path_factory.mktemp("data"), 42, BROKEN)


def batches(path: Path, **options: Any) -> ImageBatches:
    dataset = open_dataset(path, vocabulary=VOCABULARY)
    return ImageBatches(dataset, RECIPE, VOCABULARY, **{"seed": 4, "decode": LIMIT, "most_bad": 0.2, **options})


def same(first: TrainingBatch, second: TrainingBatch) -> bool:
    tensors = ("pixels", "tags", "parse_tags")
    return first.captions == second.captions and all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in tensors
    )


def test_an_official_file_is_read_and_written_again(official: Path, tmp_path: Path) -> None:
    dataset = open_dataset(official, vocabulary=VOCABULARY)
    assert len(dataset) == 42
    sample = dataset.samples[21]
    wanted = entry(21)
    assert (sample.name, sample.captions) == (wanted["image_path"], wanted["caption"])
    assert (sample.caption_tags, sample.tags) == (wanted["parse_label_id"], wanted["union_label_id"])
    assert write_official(tmp_path / "again.json", dataset.samples) == 42
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(official.read_text())
    again = open_dataset(tmp_path / "again.json", vocabulary=VOCABULARY, images=official.parent)
    assert again.describe()["sha256"] == dataset.describe()["sha256"]
    assert again.read(5) == dataset.read(5)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_from_any_point_are_those_of_an_uninterrupted_run_whatever_is_bad(official: Path, workers: int) -> None:
    whole = batches(official, workers=0)
    assert whole.steps() == 7
    epochs = [list(whole.epoch(number, 0)) for number in range(2)]
    for number, start in ((0, 0), (0, 4), (1, 1), (1, 5)):
        resumed = list(batches(official, workers=workers).epoch(number, start))
        assert len(resumed) == 7 - start
        assert all(same(*pair) for pair in zip(resumed, epochs[number][start:], strict=True))
    assert all(len(batch) == 6 for epoch in epochs for batch in epoch)
    assert not same(epochs[0][0], epochs[1][0])


def test_bad_images_are_listed_once_with_their_reasons(official: Path, tmp_path: Path) -> None:
    for workers in (0, 3):  # and so a second training that goes on in the folder
        told = batches(official, workers=workers, on_bad=BadImages(tmp_path))
        for number in range(2):
            assert len(list(told.epoch(number, 0))) == 7
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    reasons = {each["name"]: each["reason"] for each in listed}
    assert len(reasons) == len(listed) == len(BROKEN)
    assert reasons["0/3.jpg"] == "it cannot be read: No such file or directory"
    assert "cut short" in reasons["1/17.jpg"]
    assert "not an image" in reasons["1/18.jpg"]
    assert "3,000 x 1 pixels exceed the limit of 2,500" in reasons["3/30.jpg"]


def test_too_many_bad_images_end_the_training_but_one_never_does(official: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="more than 1 images of this epoch cannot be read; the last is"):
        list(batches(official, most_bad=0.03).epoch(0, 0))
    path = write_official_set(tmp_path, 12, (5,))
    assert len(list(batches(path, most_bad=0.0).epoch(0, 0))) == 2


def test_when_every_picture_is_bad_the_training_ends(official: Path) -> None:
    with pytest.raises(TrainingError, match=r"51 images in a row cannot be read; the last is .*exceed the limit"):
        list(batches(official, decode=decode_here(max_pixels=10)).epoch(0, 0))


def test_validation_has_every_good_image_once_as_inference_sees_it(official: Path) -> None:
    dataset = open_dataset(official, vocabulary=VOCABULARY)
    bad: list[str] = []
    found = ValidationBatches(
        dataset,
        VOCABULARY,
        batch_size=16,
        transform=SquashTransform(32),
        decode=LIMIT,
        on_bad=lambda name, _reason: bad.append(name),
    )
    rounds = [list(found) for _ in range(2)]
    assert [len(batch) for batch in rounds[0]] == [15, 13, 10]
    assert all(same(*pair) for pair in zip(*rounds, strict=True))
    assert bad == ["0/3.jpg", "1/17.jpg", "1/18.jpg", "3/30.jpg"] * 2
    assert rounds[0][0].tags[0].tolist() == [1, 0, 1, 0, 0]

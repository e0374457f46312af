"""From files to batches: order, resuming, bad images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ram_core import TagVocabulary
from ram_core.errors import TrainingError
from ram_core.modeling.tiny import write_tiny_checkpoint
from ram_core.training import clean_caption, load_for_training
from ram_core.training.augmentation import Augmentation
from ram_core.training.data import BadImages, ImageBatches, Sample, ValidationBatches, open_dataset, write_official
from ram_core.training.data.loader import decode_here
from ram_core.training.recipes import CLIP_SIZE, PRETRAIN
from ram_core.training.teacher import ClipTeacher
from ram_core.training.trainer import Options, Progress, Trainer, Watch
from ram_core.transforms import SquashTransform
from tests.tiny_clip import write_tiny_clip
from tests.training_data import CAPTION_TAGS, CAPTIONS, VOCABULARY, entry, write_official_set, write_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing
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


def test_a_picture_that_a_library_stumbles_over_is_bad_too(tmp_path: Path) -> None:
    path = write_official_set(tmp_path, 12)
    fatal = (tmp_path / "0/4.jpg").read_bytes()

    def decode(body: bytes, preparations: Sequence[Preprocessing], /) -> Sequence[NDArray[np.uint8]]:
        if body == fatal:
            raise ValueError("conversion from LAB to RGB not supported")
        return LIMIT(body, preparations)

    listed: dict[str, str] = {}
    told = batches(path, decode=decode, on_bad=listed.__setitem__)
    assert len(list(told.epoch(0, 0))) == 2
    assert listed == {"0/4.jpg": "ValueError: conversion from LAB to RGB not supported"}


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


class _StopError(Exception):
    """Ends a training in its middle."""


def test_a_training_on_files_ends_the_same_if_it_is_interrupted(official: Path, tmp_path: Path) -> None:
    write_tiny_clip(tmp_path / "clip", image_size=CLIP_SIZE)
    write_tiny_checkpoint("ram_plus", tmp_path / "start.pth", tags=len(VOCABULARY))
    teacher = ClipTeacher(tmp_path / "clip")
    recipe = replace(RECIPE, epochs=1)
    seen: list[Progress] = []

    def train(folder: str, workers: int, stop: int | None = None) -> Path:
        class See(Watch):
            def stepped(self, progress: Progress) -> None:
                seen.append(progress)
                if progress.step == stop:
                    raise _StopError

        network = load_for_training("ram_plus", checkpoint=tmp_path / "start.pth", vocabulary=VOCABULARY)
        data = batches(official, workers=workers, teacher=teacher)
        trainer = Trainer(network, data, recipe, tmp_path / folder, options=Options(save_every=2), watch=See())
        return trainer.run(resume=True)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several add up in any order
    try:
        whole = train("whole", 0)
        with pytest.raises(_StopError):
            train("stopped", 1, stop=4)
        resumed = train("stopped", 3)
    finally:
        torch.set_num_threads(threads)
    assert [progress.step for progress in seen] == [*range(7), *range(5), 4, 5, 6]
    assert {"tag", "distill", "align", "total"} == set(seen[-1].losses)
    first, second = (torch.load(path, weights_only=True)["model"] for path in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_batches_have_what_the_teacher_says_of_their_views_and_captions(official: Path, tmp_path: Path) -> None:
    write_tiny_clip(tmp_path / "clip", image_size=CLIP_SIZE)
    teacher = ClipTeacher(tmp_path / "clip")
    batch = next(batches(official, teacher=teacher).epoch(0, 0))
    assert batch.clip_image is not None
    assert batch.clip_image.shape == (6, 512)
    assert batch.clip_image.unique(dim=0).shape[0] == 6
    assert batch.caption_text is not None
    assert torch.equal(batch.caption_text, teacher.text_vectors(batch.captions))
    assert next(batches(official).epoch(0, 0)).clip_image is None


def test_each_epoch_takes_one_of_the_captions_cleaned_with_its_tags(tmp_path: Path) -> None:
    path = write_official_set(tmp_path, 12)
    captions: dict[str, set[tuple[int, ...]]] = {}
    firsts = set()
    for number in range(4):
        for batch in batches(path).epoch(number, 0):
            for row, caption in enumerate(batch.captions):
                captions.setdefault(caption, set()).add(tuple(batch.parse_tags[row].nonzero()[:, 0].tolist()))
            firsts.add(tuple(batch.captions))
    wanted = dict(zip(CAPTIONS, CAPTION_TAGS, strict=True))
    assert captions == {clean_caption(each): {tuple(ids)} for each, ids in wanted.items()}
    assert "a dog on a sofa" in captions
    assert len(firsts) == 8


def test_an_image_without_captions_teaches_all_its_tags(tmp_path: Path) -> None:
    write_pictures(tmp_path, 6)
    write_official(tmp_path / "t.json", [Sample(f"0/{number}.jpg", [], [], [1, number % 5]) for number in range(6)])
    (batch,) = batches(tmp_path / "t.json").epoch(0, 0)
    assert batch.captions == [""] * 6
    assert torch.equal(batch.tags, batch.parse_tags)
    (checked,) = ValidationBatches(open_dataset(tmp_path / "t.json", vocabulary=VOCABULARY), VOCABULARY, batch_size=6)
    assert torch.equal(checked.tags, checked.parse_tags)


@pytest.mark.parametrize("model", ["ram", "ram_plus"])
def test_models_learn_tags_of_images_without_captions(model: str, tmp_path: Path) -> None:
    write_pictures(tmp_path, 6)
    write_official(tmp_path / "t.json", [Sample(f"0/{number}.jpg", [], [], [number % 5]) for number in range(6)])
    write_tiny_clip(tmp_path / "clip", image_size=CLIP_SIZE)
    write_tiny_checkpoint(model, tmp_path / "start.pth", tags=len(VOCABULARY), captions=True)
    network = load_for_training(model, checkpoint=tmp_path / "start.pth", vocabulary=VOCABULARY)
    (batch,) = batches(tmp_path / "t.json", teacher=ClipTeacher(tmp_path / "clip")).epoch(0, 0)
    losses = network.losses(batch)
    assert float(losses["t2t" if model == "ram" else "align"].detach()) == 0
    assert float(losses["tag"].detach()) > 0
    losses["total"].backward()
    assert all(each.grad.isfinite().all() for each in network.parameters() if each.grad is not None)


def test_processes_have_other_images(tmp_path: Path) -> None:
    path = write_official_set(tmp_path, 24)
    ranks = [batches(path, rank=rank, processes=2, workers=2) for rank in range(2)]
    pixels = [tuple(image.flatten().tolist()) for each in ranks for batch in each.epoch(0, 0) for image in batch.pixels]
    assert [each.steps() for each in ranks] == [2, 2]
    assert len(set(pixels)) == 24


def test_what_does_not_fit_is_refused(official: Path) -> None:
    other = TagVocabulary.from_names("other", ["dog"])
    dataset = open_dataset(official, vocabulary=VOCABULARY)
    with pytest.raises(TrainingError, match="was opened with 5 tags, but vocabulary 'other' has 1"):
        ImageBatches(dataset, RECIPE, other)
    with pytest.raises(TrainingError, match="42 images are fewer than a batch of 52; use smaller batches"):
        ImageBatches(dataset, PRETRAIN, VOCABULARY)
    for options, complaint in (
        ({"workers": -1}, "workers is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"most_bad": 2}, "most_bad is 2"),
    ):
        with pytest.raises(TrainingError, match=complaint):
            batches(official, **options)
    with pytest.raises(TrainingError, match="batch_size is 0"):
        ValidationBatches(dataset, VOCABULARY, batch_size=0)
    with pytest.raises(TrainingError, match="no image of .* can be read"):  # noqa: RUF043
        list(ValidationBatches(dataset, VOCABULARY, batch_size=9, decode=decode_here(max_pixels=10)))


def test_a_folder_of_images_that_vanishes_ends_the_training_and_lists_nothing(tmp_path: Path) -> None:
    path = write_official_set(tmp_path / "data", 12)
    told = batches(path, workers=2, on_bad=BadImages(tmp_path / "run"))
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(TrainingError, match="the folder of images .* does not exist"):  # noqa: RUF043
        list(told.epoch(0, 0))
    assert not (tmp_path / "run").exists()


def test_a_list_of_bad_images_survives_a_line_cut_short_and_other_writers(tmp_path: Path) -> None:
    first, second = BadImages(tmp_path), BadImages(tmp_path)
    first("a.jpg", "gone")
    second("a.jpg", "gone")
    second("b.jpg", "cut")
    with (tmp_path / "bad.jsonl").open("a") as file:
        file.write('{"name": "c.j')
    for listed in (first, BadImages(tmp_path)):
        for name in ("a.jpg", "b.jpg", "c.jpg", "a.jpg"):
            listed(name, "gone")
    names = [json.loads(line)["name"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert names == ["a.jpg", "b.jpg", "c.jpg"]
    (tmp_path / "bad.jsonl").write_text("[]\n")
    with pytest.raises(TrainingError, match="is no list of bad images"):
        BadImages(tmp_path)("a.jpg", "gone")


def test_decoders_in_other_processes_load_no_torch() -> None:
    program = "import sys, ram_core.training.augmentation as a; a.View; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

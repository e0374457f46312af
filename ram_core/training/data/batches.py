"""Batches of images, for training and for validation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ram_core.errors import TrainingError
from ram_core.training.augmentation import generator
from ram_core.training.batch import TrainingBatch, multi_hot
from ram_core.training.captions import clean_caption
from ram_core.training.data.loader import Loader, decode_here
from ram_core.training.order import Order
from ram_core.transforms import SquashTransform, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ram_core.training.data.dataset import DataSet, Sample
    from ram_core.training.data.loader import Decode, Loaded
    from ram_core.training.recipes import Recipe
    from ram_core.training.teacher import ClipTeacher
    from ram_core.vocabulary import TagVocabulary

    OnBad = Callable[[str, str], None]

WORKERS = 4
MOST_BAD = 0.05
_CAPTION = 2  # the number of the generator, beside those of views


class ImageBatches:
    """Batches of a training, which ``Trainer`` takes. They depend on the data, the seed and their numbers alone.

    In each epoch an image is seen once, in views of its own, with one of its captions. One without captions has the
    caption "" and all its tags as those of the caption. A bad image is listed, and another one takes its place.

    Args:
        dataset: the images.
        recipe: sizes, views, batch size.
        vocabulary: the tags, as the data was opened with.
        seed: of the training.
        rank: number of this process.
        processes: number of processes; each has other images.
        workers: threads that read and decode; 0: none.
        teacher: computes CLIP's vectors, which RAM and RAM++ need; None: batches have none.
        device: where pixels are normalised; batches are there.
        decode: from bytes to pixels; default: in these threads.
        on_bad: is told the name of each bad image, and the reason, whenever it comes up; for example ``BadImages``.
        most_bad: a greater share of bad images, of those of an epoch in this process, ends the training; one image
            never does.

    Raises:
        TrainingError: the vocabulary is not the data's, or there are fewer images than a batch needs.
    """

    def __init__(  # noqa: PLR0913  (three things, and one knob each)
        self,
        dataset: DataSet,
        recipe: Recipe,
        vocabulary: TagVocabulary,
        *,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        workers: int = WORKERS,
        teacher: ClipTeacher | None = None,
        device: torch.device | str = "cpu",
        decode: Decode | None = None,
        on_bad: OnBad | None = None,
        most_bad: float = MOST_BAD,
    ) -> None:
        _check_vocabulary(dataset, vocabulary)
        if seed < 0:
            raise TrainingError(f"seed is {seed}; give 0 or more")
        if not 0 <= most_bad <= 1:
            raise TrainingError(f"most_bad is {most_bad}; give a share from 0 to 1")
        self._dataset, self._recipe, self._tags = dataset, recipe, len(vocabulary)
        self._seed, self._teacher, self._device = seed, teacher, torch.device(device)
        self._order = Order(
            images=len(dataset), batch_size=recipe.batch_size, seed=seed, rank=rank, processes=processes
        )
        self._loader = Loader(dataset, decode or decode_here(), workers)
        self._on_bad = on_bad
        self._most_bad = max(1, math.floor(most_bad * self.steps() * recipe.batch_size))

    def steps(self) -> int:
        """Return the number of batches of an epoch."""
        return self._order.steps()

    def epoch(self, number: int, start: int = 0) -> Iterator[TrainingBatch]:
        """Yield the batches of an epoch from batch ``start`` on.

        Raises:
            TrainingError: too many images are bad.
        """
        groups = (group.tolist() for group in self._order.epoch(number, start))
        bad = 0
        for loaded in self._loader.batches(groups, lambda at: self._load(number, at)):
            for one in loaded:
                bad += bool(one.bad)
                self._report(one, bad)
            yield self._batch(number, loaded)

    def _load(self, epoch: int, index: int) -> Loaded:
        views = self._recipe.views_of(self._seed, epoch, index, clip=self._teacher is not None)
        return self._loader.load_some(index, views, self._seed, epoch)

    def _report(self, loaded: Loaded, bad: int) -> None:
        for name, reason in loaded.bad:
            if self._on_bad is not None:
                self._on_bad(name, reason)
        if loaded.bad and bad > self._most_bad:
            name, reason = loaded.bad[0]
            raise TrainingError(
                f"more than {self._most_bad} images of this epoch cannot be read; the last is {name}: {reason}. Check "
                "where the pictures are, or allow more bad images, and resume"
            )

    def _batch(self, epoch: int, loaded: Sequence[Loaded]) -> TrainingBatch:
        samples = [self._dataset.samples[one.index] for one in loaded]
        chosen = [_choose(each, self._seed, epoch, one.place) for each, one in zip(samples, loaded, strict=True)]
        captions = [clean_caption(caption) for caption, _ in chosen]
        clip_image = caption_text = None
        if self._teacher is not None:
            clip_image = self._teacher.image_vectors(_stacked(one.pixels[-1] for one in loaded))
            caption_text = self._teacher.text_vectors(captions)
        pixels = _stacked(one.pixels[0] for one in loaded).to(self._device, non_blocking=True)
        return TrainingBatch(
            normalise(pixels, self._recipe.mean, self._recipe.std),
            captions,
            multi_hot([each.tags for each in samples], self._tags),
            multi_hot([tags for _, tags in chosen], self._tags),
            clip_image,
            caption_text,
        )


class ValidationBatches:
    """Batches of all images, each once, in order, as inference sees them. Iterate as often as you like.

    Bad images are left out, so batches may be smaller. The caption is the first one.

    Args:
        dataset: the images.
        vocabulary: the tags, as the data was opened with.
        batch_size: images of a batch.
        transform: how a picture is made square and normalised; default: as inference with 384 pixels.
        workers: threads that read and decode; 0: none.
        device: where pixels are normalised; batches are there.
        decode: from bytes to pixels; default: in these threads.
        on_bad: is told the name of each bad image, and the reason.

    Raises:
        TrainingError: the vocabulary is not the data's; while iterating: no image can be read.
    """

    def __init__(  # noqa: PLR0913  (two things, and one knob each)
        self,
        dataset: DataSet,
        vocabulary: TagVocabulary,
        *,
        batch_size: int,
        transform: SquashTransform | None = None,
        workers: int = WORKERS,
        device: torch.device | str = "cpu",
        decode: Decode | None = None,
        on_bad: OnBad | None = None,
    ) -> None:
        _check_vocabulary(dataset, vocabulary)
        if batch_size < 1:
            raise TrainingError(f"batch_size is {batch_size}; give at least 1")
        self._dataset, self._tags, self._batch_size = dataset, len(vocabulary), batch_size
        self._transform, self._device = transform or SquashTransform(), torch.device(device)
        self._loader = Loader(dataset, decode or decode_here(), workers)
        self._on_bad = on_bad

    def __len__(self) -> int:
        return math.ceil(len(self._dataset) / self._batch_size)

    def __iter__(self) -> Iterator[TrainingBatch]:
        count, found = len(self._dataset), False
        groups = (range(at, min(at + self._batch_size, count)) for at in range(0, count, self._batch_size))
        for loaded in self._loader.batches(groups, lambda at: self._loader.load(at, [self._transform])):
            for name, reason in (bad for one in loaded for bad in one.bad):
                if self._on_bad is not None:
                    self._on_bad(name, reason)
            if good := [one for one in loaded if one.pixels]:
                found = True
                yield self._batch(good)
        if not found:
            raise TrainingError(f"no image of {self._dataset.name} can be read; check where the pictures are")

    def _batch(self, loaded: Sequence[Loaded]) -> TrainingBatch:
        samples = [self._dataset.samples[one.index] for one in loaded]
        pixels = _stacked(one.pixels[0] for one in loaded).to(self._device, non_blocking=True)
        firsts = [each.caption_tags[0] if each.captions else each.tags for each in samples]
        return TrainingBatch(
            normalise(pixels, self._transform.mean, self._transform.std),
            [clean_caption(each.captions[0]) if each.captions else "" for each in samples],
            multi_hot([each.tags for each in samples], self._tags),
            multi_hot(firsts, self._tags),
        )


def _choose(sample: Sample, seed: int, epoch: int, image: int) -> tuple[str, list[int]]:
    """Return one caption of an image with its tags."""
    if not sample.captions:
        return "", sample.tags
    at = int(generator(seed, epoch, image, _CAPTION).integers(len(sample.captions)))
    return sample.captions[at], sample.caption_tags[at]


def _stacked(pixels: Iterator[NDArray[np.uint8]]) -> torch.Tensor:
    """Return (B, S, S, 3) uint8."""
    return torch.from_numpy(np.stack(list(pixels)))


def _check_vocabulary(dataset: DataSet, vocabulary: TagVocabulary) -> None:
    if dataset.samples.tag_count != len(vocabulary):
        raise TrainingError(
            f"{dataset.name} was opened with {dataset.samples.tag_count} tags, but vocabulary {vocabulary.name!r} has "
            f"{len(vocabulary)}; open it with this vocabulary"
        )

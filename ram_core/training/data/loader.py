"""Reading and decoding ahead of a training, in threads; results come in order, however many threads there are.

Threads, because most of the time passes in Pillow and in reading, which run in parallel, and because a data set of
millions of images is then in memory once. ``decode`` may hand the bytes to other processes, which a damaged picture may
crash without harm.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ram_core.errors import ImageError, TrainingError
from ram_core.pictures import MAX_PIXELS, decode_for_all
from ram_core.training.augmentation import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing
    from ram_core.training.data.dataset import DataSet

AHEAD = 2
"""Batches that are loaded before they are asked for."""
_TRIES = 50
_NONE: Sequence[int] = ()
_REPLACEMENT = 3  # the number of the generator, beside those of views and captions


class Decode(Protocol):
    """From the bytes of a picture to pixels. May be called from several threads."""

    def __call__(self, body: bytes, preparations: Sequence[Preprocessing], /) -> Sequence[NDArray[np.uint8]]:
        """Return the pixels that each preparation makes. Raises ``ImageError``."""


def decode_here(max_pixels: int = MAX_PIXELS) -> Decode:
    """Return a decoder in this process, as recognition decodes: formats, limit, orientation.

    Args:
        max_pixels: pictures with more pixels are bad images.
    """

    def decode(body: bytes, preparations: Sequence[Preprocessing], /) -> list[NDArray[np.uint8]]:
        return [each.pixels for each in decode_for_all(body, preparations, max_pixels)]

    return decode


@dataclass(frozen=True, slots=True)
class Loaded:
    """One place of a batch.

    Attributes:
        place: index of the image that should have it. What is random is this image's.
        index: of the image that has it.
        pixels: what each preparation made of it; empty if there is no image.
        bad: names of images that could not have it, and why.
    """

    place: int
    index: int
    pixels: Sequence[NDArray[np.uint8]]
    bad: tuple[tuple[str, str], ...] = ()


class Loader:
    """Loads images.

    Args:
        dataset: the images.
        decode: from bytes to pixels.
        workers: threads; 0: none, each image is loaded when it is asked for.

    Raises:
        TrainingError: the number of threads is negative.
    """

    def __init__(self, dataset: DataSet, decode: Decode, workers: int) -> None:
        if workers < 0:
            raise TrainingError(f"workers is {workers}; give 0 or more")
        self.dataset = dataset
        self._decode = decode
        self._workers = workers

    def load(self, index: int, preparations: Sequence[Preprocessing]) -> Loaded:
        """Load one image; without pixels if it is bad."""
        try:
            body = self.dataset.read(index)
        except ImageError as error:
            return self._bad(index, str(error))
        try:
            return Loaded(index, index, self._decode(body, preparations))
        except TrainingError:
            raise
        except ImageError as error:
            return self._bad(index, str(error))
        # Libraries raise almost anything on odd pictures, and one must not end a training. A fault of ours is in the
        # list of bad images, and ends it because every image has it.
        except Exception as error:  # noqa: BLE001
            return self._bad(index, f"{type(error).__name__}: {error}")

    def _bad(self, index: int, reason: str) -> Loaded:
        return Loaded(index, index, (), ((self.dataset.samples.name(index), reason),))

    def load_some(self, index: int, preparations: Sequence[Preprocessing], seed: int, epoch: int) -> Loaded:
        """Load an image, or in the place of a bad one another, which depends on the image, seed and epoch alone.

        Raises:
            TrainingError: one image after the other is bad.
        """
        loaded = self.load(index, preparations)
        bad = list(loaded.bad)
        if not bad:
            return loaded
        random = generator(seed, epoch, index, _REPLACEMENT)
        for _ in range(_TRIES):
            loaded = self.load(int(random.integers(len(self.dataset))), preparations)
            if not loaded.bad:
                return Loaded(index, loaded.index, loaded.pixels, tuple(bad))
            bad += loaded.bad
        name, reason = bad[-1]
        raise TrainingError(
            f"{len(bad)} images in a row cannot be read; the last is {name}: {reason}. Check where the pictures are, "
            "and resume"
        )

    def batches(self, groups: Iterable[Sequence[int]], load: Callable[[int], Loaded]) -> Iterator[list[Loaded]]:
        """Yield what ``load`` returns for each group of images, in order, some groups ahead."""
        if not self._workers:
            for group in groups:
                yield [load(int(index)) for index in group]
            return
        left: Iterator[Sequence[int]] = iter(groups)
        waiting: deque[list[Future[Loaded]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="training-data")
        try:
            while True:
                while len(waiting) < AHEAD and (group := next(left, _NONE)) is not _NONE:
                    waiting.append([pool.submit(load, int(index)) for index in group])
                if not waiting:
                    return
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)

"""Which images are in which batch: by seed, epoch and number of the batch alone, so that it can be made again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A random order of images in every epoch. As officially, an incomplete last batch is left out.

    Attributes:
        images: number of images.
        batch_size: images of a batch.
        seed: of the training.
        rank: number of this process.
        processes: number of processes; each has other images.

    Raises:
        TrainingError: there are fewer images than one batch of each process needs.
    """

    images: int
    batch_size: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not self.steps():
            each = f" in each of {self.processes} processes" if self.processes > 1 else ""
            raise TrainingError(
                f"{self.images} images are fewer than a batch of {self.batch_size}{each}; use smaller batches"
            )

    def steps(self) -> int:
        """Return the number of batches of an epoch, the same in every process."""
        return self.images // (self.batch_size * self.processes)

    def epoch(self, number: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """Yield (batch_size,) positions of images, for the batches of an epoch from batch ``start`` on."""
        order = np.random.default_rng((self.seed, number)).permutation(self.images)
        for step in range(start, self.steps()):
            first = (step * self.processes + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]

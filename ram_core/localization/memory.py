"""Run a batch in halves when it does not fit into memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class Batches:
    """Runs batches, and remembers the size that fitted.

    Args:
        most: items of a batch at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def run(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Return what ``work`` gives for the items, in their order. It is called with parts of them.

        Raises:
            torch.OutOfMemoryError: one item alone does not fit.
        """
        done: list[R] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + self.most]
            try:
                done += work(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self.most = len(part) // 2
                # Outside of this handler nothing refers to the failed batch, so its memory can go.
            else:
                continue
            _log.warning("%d do not fit into the memory of the device; going on with %d", len(part), self.most)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return done

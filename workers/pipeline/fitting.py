"""How many images of a model fit into memory at once: learnt from batches that did not fit."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

log = structlog.get_logger()

KEPT_SECONDS = 300.0
"""After this time, twice as many images are tried again: what took the memory may have gone."""


class Fitting:
    """Sizes that fit, by model. For one step, and only its thread: two steps may have models of the same name.

    Args:
        release: unloads what other models take, and returns whether there was any. Given the name of the model that
            needs room.
    """

    def __init__(self, release: Callable[[str], bool]) -> None:
        self._release = release
        self._most: dict[str, tuple[int, float]] = {}

    def parts(self, model: str, items: Sequence[T]) -> list[Sequence[T]]:
        """Return the items in parts that are known to fit."""
        most = self._size(model) or len(items)
        return [items[start : start + most] for start in range(0, len(items), most)] if items else []

    def note(self, model: str, failed: int) -> None:
        """Record that so many images did not fit. Half of them are tried next."""
        size = max(1, failed // 2)
        self._most[model] = (size, time.monotonic() + KEPT_SECONDS)
        log.warning("out of memory: smaller batches for a while", model=model, images=size)

    def make_room(self, model: str) -> bool:
        """Free memory. Return whether other models were unloaded, so that the same batch may fit now."""
        released = self._release(model)
        torch = sys.modules.get("torch")  # without it, nothing is on a GPU
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return released

    def _size(self, model: str) -> int | None:
        known = self._most.get(model)
        if known is None:
            return None
        size, until = known
        if time.monotonic() > until:
            size *= 2
            self._most[model] = (size, time.monotonic() + KEPT_SECONDS)
        return size

"""Batches of ``lite`` on a CPU: each core runs a few images of its own.

The layers are small. If all cores share each of them, they wait for each other some sixty times for every few images,
and for whatever else runs on a core meanwhile, such as decoders.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

T = TypeVar("T")

MOST = 4
"""Images that run together. One alone would read the weights of every layer just for itself. With many, the numbers
between two layers would no longer fit a core's cache, and small batches would leave cores idle."""

_lock = threading.Lock()
"""While threads start, torch's number of threads is 1 for all: another ``Cores`` would take that for the default."""


class Cores:
    """Threads that run the parts of a batch, one core each.

    Args:
        count: number of threads; default: as many as torch uses, which ``OMP_NUM_THREADS`` says.
    """

    def __init__(self, count: int | None = None) -> None:
        with _lock:
            default = torch.get_num_threads()
            self._count = count or default
            self._threads = _single_threads(self._count, default) if self._count > 1 else None

    def run(self, call: Callable[[Tensor], T], batch: Tensor) -> list[T]:
        """Return what ``call`` makes of each part of a batch, in order."""
        parts = torch.split(batch, max(1, min(MOST, math.ceil(len(batch) / self._count))))
        if self._threads is None or len(parts) == 1:
            return [call(part) for part in parts]
        return list(self._threads.map(torch.inference_mode()(call), parts))


def _single_threads(count: int, default: int) -> ThreadPoolExecutor:
    """Start threads in which torch uses one core. ``default`` is torch's number for all other threads.

    torch keeps a number for each thread, and one for all from which a thread takes its own when it first needs it.

    Raises:
        RuntimeError: the system has no more threads.
    """
    have_begun = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # takes the number for all, which would replace this thread's own later
        torch.set_num_threads(1)
        with suppress(threading.BrokenBarrierError):  # another one could not start: all end
            have_begun.wait()

    threads = ThreadPoolExecutor(count, thread_name_prefix="lite", initializer=begin)
    try:
        for _ in range(count):
            threads.submit(torch.get_num_threads)
        have_begun.wait()
    except BaseException:
        have_begun.abort()
        threads.shutdown()
        raise
    finally:
        torch.set_num_threads(default)
    return threads

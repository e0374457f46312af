"""CUDA graphs: what a GPU is to do with a batch, recorded once and started with one call.

A batch of RAM++ is more than a thousand calls. Python gives each of them to the GPU by itself, and other threads of the
same process hold it up at each. A recording is started by one call, and so keeps the GPU busy whatever they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

# Some of it has no type hints.
_cuda: Any = torch.cuda


class RecordingError(RuntimeError):
    """The work does something that cannot be recorded, such as waiting for the GPU."""


class Recorded(Generic[R]):
    """Records what a function does with pixels, and replays it. Holds one recording: that of the last shape.

    On a CPU it calls the function. One thread at a time may call it.

    Args:
        work: takes pixels on the device and returns a tensor or a tuple of tensors. It must not wait for the device.
            No autocast may be active around it: weights that were cast for that are gone when a recording is replayed.
        device: where it runs.
    """

    def __init__(self, work: Callable[[torch.Tensor], R], device: torch.device) -> None:
        self._work = work
        self._device = device
        self._made: tuple[Any, torch.Tensor, R] | None = None

    def __call__(self, pixels: torch.Tensor) -> R:
        """Return the result, in memory that the next call writes to.

        Raises:
            RecordingError: the work cannot be recorded.
            torch.OutOfMemoryError: there is no room for a batch of this size.
        """
        if self._device.type != "cuda":
            return self._work(pixels)
        if self._made is None or self._made[1].shape != pixels.shape:
            self._made = None  # its memory may be needed for the next one
            self._made = self._record(pixels)
        graph, given, result = self._made
        given.copy_(pixels)
        graph.replay()
        return result

    def _record(self, pixels: torch.Tensor) -> tuple[Any, torch.Tensor, R]:
        given = pixels.clone()
        aside, current = _cuda.Stream(self._device), _cuda.current_stream(self._device)
        aside.wait_stream(current)
        with _cuda.stream(aside):
            for _ in range(3):  # libraries allocate at their first calls, which a recording must not contain
                self._work(given)
        current.wait_stream(aside)
        graph = _cuda.CUDAGraph()
        try:
            # What other threads do on the GPU meanwhile is their own, and no error of this recording.
            with _cuda.graph(graph, capture_error_mode="thread_local"):
                result = self._work(given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RecordingError(str(error).strip().splitlines()[0]) from error
        return graph, given, result

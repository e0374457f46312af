"""A network replayed as a CUDA graph: one launch in place of some hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class Graphed:
    """Records what a function does with pixels, once for each shape, and replays it.

    On a CPU it calls the function, so that a benchmark can be tried there.

    Args:
        work: takes pixels on the device and returns a tensor. It must not wait for the device.
        device: where it runs.
    """

    def __init__(self, work: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> None:
        self._work = work
        self._device = device
        self._recorded: dict[torch.Size, tuple[Any, torch.Tensor, torch.Tensor]] = {}

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the result, in memory that the next call of this shape writes to."""
        if self._device.type != "cuda":
            return self._work(pixels)
        if pixels.shape not in self._recorded:
            self._recorded[pixels.shape] = self._record(pixels)
        graph, given, result = self._recorded[pixels.shape]
        given.copy_(pixels)
        graph.replay()
        return result

    def _record(self, pixels: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor]:
        given = pixels.clone()
        aside = torch.cuda.Stream(self._device)
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(3):  # libraries allocate at their first calls, which a recording must not contain
                self._work(given)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._work(given)
        return graph, given, result

"""Pixels on their way to a device that computes meanwhile, and results on their way back.

A GPU does what it is given in queues (CUDA calls them streams), while the host goes on. Pixels travel in a queue of
their own, from memory that the GPU can read by itself. There are two such buffers, so that the host fills one while the
GPU reads the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

# Some of it has no type hints.
_cuda: Any = torch.cuda

BUFFERS = 2


class Mark(Protocol):
    """A place in a queue."""

    def is_past(self) -> bool:
        """Return whether everything before it is done."""

    def wait(self) -> None:
        """Let the host wait until everything before it is done."""


class Queue(Protocol):
    """What a device does one after the other."""

    def run(self, work: Callable[[], T]) -> T:
        """Append work. It may be done later, but what it returns can be used in the same queue."""

    def mark(self) -> Mark:
        """Return the current end."""

    def wait_for(self, mark: Mark) -> None:
        """Let what is appended from now on wait until everything before a mark of another queue is done."""


class CudaQueue:
    """A stream of CUDA.

    Args:
        device: a GPU.
        stream: one of it; None: that which is current in the thread that calls.
    """

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self._device = device
        self._own = stream

    @property
    def _stream(self) -> torch.cuda.Stream:
        return self._own or torch.cuda.current_stream(self._device)

    def run(self, work: Callable[[], T]) -> T:
        """Append work."""
        with torch.cuda.stream(self._stream):
            return work()

    def mark(self) -> CudaMark:
        """Return the current end."""
        event = _cuda.Event(blocking=True)  # the host's core is free for decoding meanwhile
        event.record(self._stream)
        return CudaMark(event)

    def wait_for(self, mark: Mark) -> None:
        """Wait on the device."""
        assert isinstance(mark, CudaMark)
        self._stream.wait_event(mark.event)


@dataclass(frozen=True, slots=True)
class CudaMark:
    """An event of CUDA."""

    event: Any

    def is_past(self) -> bool:
        """Return whether the event has happened."""
        return bool(self.event.query())

    def wait(self) -> None:
        """Wait for the event."""
        self.event.synchronize()


@dataclass(slots=True)
class _Buffer:
    """A batch of pixels twice: where the host fills it in, and on the device.

    Attributes:
        host: (B, S, S, 3) uint8, in memory that the device can read by itself.
        device: the same, on the device.
        sent: when the last copy out of ``host`` is done; None: there was none.
        read: when the working queue has read what was last in ``device``.
    """

    host: torch.Tensor
    device: torch.Tensor
    read: Mark
    sent: Mark | None = None


@dataclass(slots=True)
class Uploads:
    """Sends batches of pixels to a device. One thread at a time.

    Attributes:
        device: where to.
        copies: the queue that copies.
        work: the queue that computes.
        pins: whether the host's buffers are pinned, as CUDA needs to copy while the host goes on.
    """

    device: torch.device
    copies: Queue
    work: Queue
    pins: bool = True
    _buffers: list[_Buffer] = field(default_factory=list)

    @classmethod
    def to(cls, device: torch.device) -> Uploads | None:
        """Return the uploads to a GPU; None for a CPU, which has nothing to copy."""
        if device.type != "cuda":
            return None
        return cls(device, CudaQueue(device, _cuda.Stream(device)), CudaQueue(device))

    def send(self, pixels: torch.Tensor, use: Callable[[torch.Tensor], T]) -> T:
        """Copy (B, S, S, 3) uint8 pixels and return what ``use`` makes of them on the device.

        ``use`` must not return a view of them: they are replaced by the next batch but one.
        """
        buffer, count = self._next(pixels), len(pixels)
        if buffer.sent is not None:
            buffer.sent.wait()
        buffer.host[:count].copy_(pixels)
        self.copies.wait_for(buffer.read)
        self.copies.run(lambda: buffer.device[:count].copy_(buffer.host[:count], non_blocking=True))
        buffer.sent = self.copies.mark()
        self.work.wait_for(buffer.sent)
        used = self.work.run(lambda: use(buffer.device[:count]))
        buffer.read = self.work.mark()
        return used

    def fetch(self, tensors: Sequence[torch.Tensor]) -> Fetched:
        """Begin to copy results of the working queue to the host."""
        pinned = [torch.empty(each.shape, dtype=each.dtype, pin_memory=self.pins) for each in tensors]

        def copy() -> None:
            for host, each in zip(pinned, tensors, strict=True):
                host.copy_(each, non_blocking=True)

        self.work.run(copy)
        return Fetched(pinned, self.work.mark())

    def _next(self, pixels: torch.Tensor) -> _Buffer:
        """Return the buffer that was used longest ago, in place of one that is too small for this batch."""
        if len(self._buffers) < BUFFERS:
            buffer = self._made(pixels)
        else:
            buffer = self._buffers.pop(0)
            if buffer.host.shape[0] < len(pixels) or buffer.host.shape[1:] != pixels.shape[1:]:
                buffer.read.wait()  # and so, as the working queue waits for it, the copy too
                buffer = self._made(pixels)
        self._buffers.append(buffer)
        return buffer

    def _made(self, pixels: torch.Tensor) -> _Buffer:
        host = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=self.pins)
        device = torch.empty(pixels.shape, dtype=torch.uint8, device=self.device)
        # The memory may be that of results which the working queue has still to read.
        return _Buffer(host, device, read=self.work.mark())


@dataclass(frozen=True, slots=True)
class Fetched:
    """Results that may still be on their way to the host.

    Attributes:
        tensors: where they arrive.
        arrived: when they have; None: they have.
    """

    tensors: list[torch.Tensor]
    arrived: Mark | None = None

    def is_here(self) -> bool:
        """Return whether reading them does not wait."""
        return self.arrived is None or self.arrived.is_past()

    def wait(self) -> list[torch.Tensor]:
        """Return them, on the host."""
        if self.arrived is not None:
            self.arrived.wait()
        return self.tensors

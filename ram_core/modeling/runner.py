"""Runs a network on its device, in its number format, as fast as the device allows."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

import torch

from ram_core.errors import CheckpointError, DeviceError
from ram_core.modeling.ram import Tagged, Tagger
from ram_core.modeling.recorded import Recorded, RecordingError
from ram_core.modeling.uploads import Fetched, Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

N = TypeVar("N", bound=Tagger)

_log = logging.getLogger(__name__)

NUMBER_FORMATS = (torch.float32, torch.float16, torch.bfloat16)
# Pairs of image and tag that a CPU decodes at once, together with encoding one image. Larger products are no faster,
# and memory stays under 300 MB for any batch.
CPU_CHUNK = 2048

LEAST_FIXED = 8
"""Images of a batch that is worth compiling or recording for."""
LEAST_FILLED = 0.75
"""Share of a padded batch that must be images. Compiled, a batch takes about that share of its time."""


class Started(NamedTuple):
    """What a runner has begun to compute.

    Attributes:
        pixels: (B, 3, S, S) float32 input.
        tagged: the result, unless it is not finite.
        finite: (B,) bool, whether it is, on the device.
    """

    pixels: torch.Tensor
    tagged: Tagged
    finite: torch.Tensor


class Runner(Generic[N]):
    """A prepared network.

    In 16 bits, products run in ``dtype`` while norms, softmax and logits stay float32 (autocast). An image whose
    numbers exceed the range of float16 is computed again in bfloat16. The results of other images do not change.

    Args:
        network: loaded, on any device.
        device: where to run.
        dtype: float32, float16 or bfloat16.
        compiled: fuse the network with torch.compile.
        recorded: on a GPU, replay it as a CUDA graph. Either is done for the size of the largest batch so far. Batches
            that are nearly as large are padded to it. Smaller ones are computed as if neither was set.

    Raises:
        DeviceError: the number format is not available on the device.
    """

    def __init__(
        self, network: N, device: torch.device, dtype: torch.dtype, *, compiled: bool = False, recorded: bool = False
    ) -> None:
        if dtype not in NUMBER_FORMATS:
            raise DeviceError(f"{dtype} is not a number format of this model; use float32, float16 or bfloat16")
        if device.type == "cpu" and dtype == torch.float16:
            raise DeviceError("float16 is not available on the CPU; use float32 there, or a GPU")
        self.device = device
        self.dtype = dtype
        self.compiled = compiled
        self.recorded = recorded
        self.network = network.to(device)
        self.network.prepare(dtype)
        self.uploads = Uploads.to(device)
        self.reset()

    @property
    def precision(self) -> str:
        """The name of the number format that tags are computed in; see ``ram_core.tag_precision``."""
        return str(self.dtype).removeprefix("torch.")

    def exact(self) -> Runner[N]:
        """Return a runner of the same weights whose logits are all of one format. Here it is this one."""
        return self

    def with_network(self, network: N) -> Self:
        """Return a runner for a prepared network, with the same device and number format."""
        other = copy.copy(self)
        other.network = network
        other.reset()
        return other

    def reset(self) -> None:
        """Compile and record again, after the network was replaced."""
        self._fixed = self._fixed_size() if self.compiled or self.recorded else None
        self._size = 0  # images that it is for

    def __call__(self, pixels: torch.Tensor, limits: torch.Tensor | None = None) -> Tagged:
        """Tag (B, 3, S, S) float32 normalised pixels on any device. ``limits``: see ``start``.

        Raises:
            CheckpointError: the network computes values that are not finite, even in the widest format.
        """
        started = self.start(pixels, limits)
        return self.finish(started, started.finite.cpu())

    @torch.inference_mode()
    def send(self, pixels: torch.Tensor, use: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return what ``use`` makes of (B, S, S, 3) uint8 pixels of the host, on the device. See ``Uploads.send``."""
        return use(pixels.to(self.device)) if self.uploads is None else self.uploads.send(pixels, use)

    def fetch(self, tensors: Sequence[torch.Tensor]) -> Fetched:
        """Begin to copy tensors to the host."""
        return Fetched([each.cpu() for each in tensors]) if self.uploads is None else self.uploads.fetch(tensors)

    @torch.inference_mode()
    def start(self, pixels: torch.Tensor, limits: torch.Tensor | None = None) -> Started:
        """Begin to tag (B, 3, S, S) float32 normalised pixels. On a GPU this returns before the GPU has computed.

        ``limits`` are the (T,) logits of the thresholds, if it only matters which logits are above. All are equally
        good here.
        """
        del limits
        pixels = pixels.to(self.device, torch.float32, non_blocking=True)
        tagged = self._plain(pixels) if self._fixed is None else self._tag_fixed(self._fixed, pixels)
        finite = tagged.logits.isfinite().all(dim=1) & tagged.tokens[:, 0].isfinite().all(dim=1)
        return Started(pixels, tagged, finite)

    @torch.inference_mode()
    def finish(self, started: Started, finite: torch.Tensor) -> Tagged:
        """Return the result of ``start``, where ``finite`` is that of it, on the host.

        Raises:
            CheckpointError: the network computes values that are not finite, even in the widest format.
        """
        if bool(finite.all()):
            return started.tagged
        return self._rescued(started.pixels, started.tagged, ~started.finite)

    @torch.inference_mode()
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, 1 + N, E) image tokens of (B, 3, S, S) pixels, without tagging."""
        with self._autocast(self.dtype):
            tokens: torch.Tensor = self.network.embed(pixels.to(self.device, torch.float32, non_blocking=True))
        return tokens

    @torch.inference_mode()
    def decode(self, tokens: torch.Tensor) -> Tagged:
        """Tag (B, 1 + N, E) image tokens that ``embed`` computed before.

        Raises:
            CheckpointError: the network computes values that are not finite.
        """
        tokens = tokens.to(self.device, torch.float32)
        with self._autocast(self.dtype):
            logits = self.network.decode(tokens, self.network.tags)
        if not bool(logits.isfinite().all()):
            raise CheckpointError("the network gives values that are not finite; its checkpoint is damaged: verify it")
        return Tagged(logits, tokens)

    def autocast(self) -> torch.autocast:
        """Return the context for running other parts of the network in the same number format."""
        return self._autocast(self.dtype)

    def _autocast(self, dtype: torch.dtype) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def _plain(self, pixels: torch.Tensor) -> Tagged:
        return self._run(self.network, pixels)

    def _run(self, network: Callable[[torch.Tensor], Tagged], pixels: torch.Tensor) -> Tagged:
        with self._autocast(self.dtype):
            return network(pixels)

    def _fixed_size(self) -> Callable[[torch.Tensor], Tagged]:
        work = partial(self._run, torch.compile(self.network, dynamic=False) if self.compiled else self.network)
        return Recorded(work, self.device) if self.recorded else work

    def _tag_fixed(self, fixed: Callable[[torch.Tensor], Tagged], pixels: torch.Tensor) -> Tagged:
        count = pixels.shape[0]
        if count < LEAST_FIXED or count < LEAST_FILLED * self._size:
            return self._plain(pixels)
        size = max(count, self._size)
        filled = torch.cat([pixels, pixels.new_zeros(size - count, *pixels.shape[1:])]) if size > count else pixels
        try:
            tagged = fixed(filled)
        except (torch._dynamo.exc.TorchDynamoException, RecordingError) as error:  # noqa: SLF001  (has no public name)
            reason = " ".join(str(error).split("\n\n")[0].split())  # such as: there is no C compiler
            _log.warning("the network cannot be compiled or recorded here, so it runs as it is: %s", reason)
            self._fixed = None
            return self._plain(pixels)
        self._size = size
        # A recording writes its next results into the same memory.
        return Tagged(tagged.logits[:count].clone(), tagged.tokens[:count].clone())

    def _rescued(self, pixels: torch.Tensor, tagged: Tagged, broken: torch.Tensor) -> Tagged:
        """Compute the failed images again, in a format with the range of float32."""
        if self.dtype == torch.float16:
            _log.warning("%d images exceeded the range of float16; computed again in bfloat16", int(broken.sum()))
            with self._autocast(torch.bfloat16):
                again = self.network(pixels[broken])
            if bool(again.logits.isfinite().all()) and bool(again.tokens[:, 0].isfinite().all()):
                logits, tokens = tagged.logits.clone(), tagged.tokens.clone()
                logits[broken], tokens[broken] = again.logits, again.tokens.to(tokens.dtype)
                return Tagged(logits, tokens)
        raise CheckpointError("the network gives values that are not finite; its checkpoint is damaged: verify it")

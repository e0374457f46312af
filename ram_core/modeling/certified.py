"""The tags of float32 at less than its price: a CPU computes in bfloat16, and again where that might give other tags.

Most scores are far from their threshold, so a small error moves none of them across it. The error has two parts:

* that of the tagging decoder is the larger one, and cheap to remove: the scores nearest to their thresholds are decoded
  again in float32, a few of thousands;
* that of the image encoder is smaller. An image with a score that is still too near is encoded again in float32.

How large each part is depends on the weights, so it is measured on them: on the first images, which are computed in
both formats, and on every one that is computed again.
"""

from __future__ import annotations

import copy
import logging
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import nn
from typing_extensions import override

from ram_core.modeling.ram import Tagged, Tagger
from ram_core.modeling.runner import Runner, Started

if TYPE_CHECKING:
    from collections.abc import Callable

N = TypeVar("N", bound=Tagger)
D = TypeVar("D")

_log = logging.getLogger(__name__)

FIRST = 16
"""Images that are computed in both formats, to measure errors and times."""
NEAREST = 32
"""Tags of each image that are decoded again in float32. If more of them are too near, the image is computed again."""
MARGIN = 3.0
"""Scores that are nearer to their threshold than this many times the root mean square of the error are in doubt."""
_PART = 4  # images of which the time is taken together
_ENOUGH = 64  # images after which it is known how many of them have to be computed again


class Error:
    """The error of logits, measured as images go by."""

    def __init__(self) -> None:
        self._squares = 0.0
        self._count = 0

    def see(self, apart: torch.Tensor) -> None:
        """Take note of errors, of any shape."""
        finite = apart[apart.isfinite()]
        self._squares += float(finite.double().square().sum())
        self._count += finite.numel()

    @property
    def margin(self) -> float:
        """The distance from its threshold, in logits, at which a score is not in doubt. Infinite: nothing is known."""
        return MARGIN * (self._squares / self._count) ** 0.5 if self._count else float("inf")


class CertifiedRunner(Runner[N]):
    """Runs a network in float32, but tags with a rounded copy of it where that makes no difference.

    Without ``limits`` it is a float32 runner. The copy takes half as much memory as the network.

    Args:
        network: loaded, not prepared.
        device: where to run.
    """

    def __init__(self, network: N, device: torch.device) -> None:
        self._rounded: Runner[N] | None = Runner(_copy(network), device, torch.bfloat16)
        super().__init__(network, device, torch.float32)
        self._forget()

    @property
    @override
    def precision(self) -> str:
        return "float32" if self._rounded is None else "certified"

    @property
    def margins(self) -> tuple[float, float]:
        """The margins of the tagging decoder and of the image encoder, in logits."""
        return self._decoding.margin, self._encoding.margin

    @property
    def computed_again(self) -> float:
        """The share of images that were encoded again, of those after the first ones."""
        return self._again / self._seen if self._seen else 0.0

    @override
    def exact(self) -> Self:
        other = copy.copy(self)
        other._rounded = None  # noqa: SLF001  (its own class)
        return other

    @override
    def with_network(self, network: N) -> Self:
        other = super().with_network(network)
        if self._rounded is not None:
            rounded: Any = self._rounded.network
            other._rounded = self._rounded.with_network(rounded.with_labels_of(network, torch.bfloat16))  # noqa: SLF001
        other._forget()  # noqa: SLF001
        return other

    @override
    @torch.inference_mode()
    def start(self, pixels: torch.Tensor, limits: torch.Tensor | None = None) -> Started:
        if limits is None or self._rounded is None:
            return super().start(pixels)
        return Started(pixels, self._tag(pixels, limits), torch.ones(len(pixels), dtype=torch.bool))

    def _tag(self, pixels: torch.Tensor, limits: torch.Tensor) -> Tagged:
        """Tag pixels. Each logit is on that side of its limit on which float32 has it."""
        parts, start = [], 0
        while start < len(pixels):
            is_first = self._first < FIRST
            stop = start + min(_PART, FIRST - self._first) if is_first else len(pixels)
            part = pixels[start:stop]
            parts.append((self._measure if is_first else self._certify)(part, limits))
            start += len(part)
        if len(parts) == 1:
            return parts[0]
        return Tagged(torch.cat([one.logits for one in parts]), torch.cat([one.tokens for one in parts]))

    def _forget(self) -> None:
        self._encoding, self._decoding = Error(), Error()
        self._first = self._seen = self._again = 0
        self._seconds = [float("inf")] * 3  # least per image: rounded, exact, encoded again

    def _measure(self, pixels: torch.Tensor, limits: torch.Tensor) -> Tagged:
        """Compute images in both formats. Return the results of float32."""
        if self._rounded is None:
            return self(pixels)
        rounded = self._timed(0, len(pixels), lambda: self._tagged_in_16_bits(pixels))
        tagged = self._timed(1, len(pixels), lambda: self(pixels))
        self._first += len(pixels)
        near = _nearest(tagged.logits, limits)
        decoded = self._decoded(rounded.tokens, near)
        self._decoding.see(rounded.logits.gather(1, near) - decoded)
        again = self._timed(2, len(pixels), lambda: self._decoded(self.embed(pixels), near))
        self._encoding.see(decoded - again)
        return tagged

    def _certify(self, pixels: torch.Tensor, limits: torch.Tensor) -> Tagged:
        """Compute images in bfloat16, and the scores that are in doubt in float32."""
        if self._rounded is None:
            return self(pixels)
        logits, tokens = (each.float() for each in self._tagged_in_16_bits(pixels))
        near = _nearest(logits, limits)
        decoded = self._decoded(tokens, near)
        self._decoding.see(logits.gather(1, near) - decoded)
        # Those that are not decoded again have both errors.
        least = (logits.gather(1, near[:, -1:]) - limits[near[:, -1:]]).abs().squeeze(1)
        is_too_close = (least <= sum(self.margins)) & (near.shape[1] < logits.shape[1])
        is_in_doubt = (decoded - limits[near]).abs().amin(dim=1) <= self._encoding.margin
        logits.scatter_(1, near, decoded)
        again = is_in_doubt & ~is_too_close
        if bool(again.any()):
            tokens[again] = self.embed(pixels[again])
            exact = self._decoded(tokens[again], near[again])
            self._encoding.see(decoded[again] - exact)
            logits[again] = logits[again].scatter(1, near[again], exact)
        if bool(is_too_close.any()):
            logits[is_too_close], tokens[is_too_close] = self(pixels[is_too_close])
        self._count(len(pixels), int(again.sum()), int(is_too_close.sum()))
        return Tagged(logits, tokens)

    def _tagged_in_16_bits(self, pixels: torch.Tensor) -> Tagged:
        assert self._rounded is not None
        return self._rounded(pixels)

    def _decoded(self, tokens: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """Return (B, K) float32 logits of (B, K) tags, from (B, 1 + N, E) tokens."""
        tokens = tokens.float()
        return torch.cat([self.network.decode_some(one[None], which) for one, which in zip(tokens, near, strict=True)])

    def _count(self, images: int, encoded: int, computed: int) -> None:
        """Stop computing in bfloat16 if too many images have to be computed again."""
        self._seen += images
        self._again += encoded + computed
        rounded, exact, again = self._seconds
        if self._seen >= _ENOUGH and rounded + self.computed_again * again > exact:
            _log.warning(
                "%.0f %% of images have a score too near to its threshold for bfloat16: float32 from now on",
                100 * self.computed_again,
            )
            self._rounded = None

    def _timed(self, which: int, images: int, job: Callable[[], D]) -> D:
        start = time.perf_counter()
        done = job()
        self._seconds[which] = min(self._seconds[which], (time.perf_counter() - start) / images)
        return done


def _nearest(logits: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Return (B, K) ids of the tags that are nearest to their thresholds, nearest first."""
    gaps = (logits - limits).abs()
    return gaps.topk(min(NEAREST, gaps.shape[1]), largest=False, sorted=True).indices


def _copy(network: N) -> N:
    """Copy a network. The copy shares the numbers of all parameters, until it replaces them."""
    shared = {id(each): nn.Parameter(each.data, requires_grad=False) for each in network.parameters()}
    copied: N = copy.deepcopy(network, shared)
    return copied

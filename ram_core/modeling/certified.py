"""Nearly always the tags of float32, at less than its price: a CPU computes in bfloat16, and again what is in doubt.

Most scores are far from their threshold, so a small error moves none of them across it. The error has two parts:

* that of the tagging decoder is the larger one, and cheap to remove: the scores nearest to their thresholds are decoded
  again in float32, a few of thousands;
* that of the image encoder is smaller. An image with a score that is still too near is encoded again in float32.

How large each part is depends on weights and images. So one image of ``EVERY``, chosen by chance, is an audit, for as
long as the network is in use: it is computed in both formats and gets the tags of float32. Audits measure the error of
the encoder, count images whose tags would have been others, and tell whether bfloat16 pays.

The method is statistical: an error beyond the margin moves a tag unseen. ``benchmarks/bench_precision.py`` measures how
often.
"""

from __future__ import annotations

import copy
import logging
import random
import time
from collections import deque
from math import sqrt
from statistics import fmean, median
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import nn
from typing_extensions import override

from ram_core.modeling.ram import Tagged, Tagger
from ram_core.modeling.runner import Runner, Started

N = TypeVar("N", bound=Tagger)

_log = logging.getLogger(__name__)

EVERY = 32
"""One image of so many is an audit. A choice: audits cost about 1/32 of what float32 costs."""
WINDOW = 16
"""The last audits, which tell whether bfloat16 pays. With 16 of them no single disturbed moment decides."""
NEAREST = 32
"""Tags of each image that are decoded again in float32. A choice that matters for speed, not for tags: they are under
1 % of RAM's 4,585, and an image with more of them too near is computed again."""
MARGIN = 3.0
"""Scores that are nearer to their threshold than this many times the root mean square of the error are in doubt. Of
normally distributed errors 0.3 % are larger. ``bench_precision`` tries other values."""
LEAST_DECODER_ERROR = 0.033
LEAST_ENCODER_ERROR = 0.024
"""The least root mean square in logits that is reckoned with, so that images on which bfloat16 makes no error, such as
blank scans, do not hide that of others. Each is what it was on the full-size network with made-up weights, whose logits
spread by 4.8 (``bench_precision --parts tags``)."""


class LogitError:
    """The error of logits, measured on images as they go by.

    Args:
        least: root mean square that is reckoned with at least, in logits.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._squares = 0.0
        self._images = 0

    def add(self, apart: torch.Tensor) -> None:
        """Take note of the (B, K) errors of K tags of images. Each image counts once: its tags share much of it."""
        finite = apart[apart.isfinite().all(dim=1)].double()
        self._squares += float(finite.square().mean(dim=1).sum())
        self._images += len(finite)

    @property
    def margin(self) -> float:
        """The distance from its threshold, in logits, at which a score is not in doubt.

        It is wider by the standard error of a root mean square of so many images.
        """
        images = max(1, self._images)
        return MARGIN * max(self._least, sqrt(self._squares / images)) * (1 + 1 / sqrt(2 * images))


class Rounded(NamedTuple):
    """What bfloat16 made of images.

    Attributes:
        logits: (B, T) float32. Those of ``near`` were decoded again in float32.
        tokens: (B, 1 + N, E) float32.
        near: (B, K) ids of the tags that are nearest to their thresholds.
        is_in_doubt: (B,) whether the error of the image encoder may move one of them.
        is_crowded: (B,) whether other tags are in doubt too.
    """

    logits: torch.Tensor
    tokens: torch.Tensor
    near: torch.Tensor
    is_in_doubt: torch.Tensor
    is_crowded: torch.Tensor


class Audit(NamedTuple):
    """Seconds that an image took, and whether it would have been computed again."""

    rounded: float
    encoded: float
    decoded: float
    is_again: bool


class CertifiedRunner(Runner[N]):
    """Runs a network in float32, but tags with a rounded copy of it where that makes no difference, nearly always.

    Without ``limits`` it is a float32 runner. The copy takes half as much memory as the network.

    Args:
        network: loaded, not prepared.
        device: where to run.

    Attributes:
        audited: images that were computed in both formats.
        missed: those of them whose tags would have been others than those of float32.
    """

    def __init__(self, network: N, device: torch.device) -> None:
        self._rounded: Runner[N] | None = Runner(_copy(network), device, torch.bfloat16)
        super().__init__(network, device, torch.float32)
        self._forget()

    @property
    @override
    def precision(self) -> str:
        """What the next batch is computed in. Only tagging a batch changes it."""
        return "certified" if self._rounded is not None and self._pays else "float32"

    @property
    def margins(self) -> tuple[float, float]:
        """The margins of the tagging decoder and of the image encoder, in logits."""
        return self._decoding.margin, self._encoding.margin

    @property
    def computed_again(self) -> float:
        """The share of images that were encoded again, of those that were tagged in bfloat16."""
        return self._repeated / self._certified if self._certified else 0.0

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
        """Tag pixels. Each logit is, nearly always, on that side of its limit on which float32 has it."""
        is_audit = self._chosen(len(pixels))
        audits, others = (each.nonzero()[:, 0] for each in (is_audit, ~is_audit))
        # One by one: their times are compared with each other.
        parts = [self._audit(pixels[each : each + 1], limits) for each in audits.tolist()]
        if len(others):
            parts.append(self._certify(pixels[others], limits) if self._pays else self(pixels[others]))
        if len(audits):
            self._review()
        if len(parts) == 1:
            return parts[0]
        back = torch.cat([audits, others]).argsort()
        return Tagged(torch.cat([one.logits for one in parts])[back], torch.cat([one.tokens for one in parts])[back])

    def _forget(self) -> None:
        self._decoding, self._encoding = LogitError(LEAST_DECODER_ERROR), LogitError(LEAST_ENCODER_ERROR)
        self._next_audit, self._chance = 0, random.Random(0)  # noqa: S311  (a sample, no secret)
        self._images = self._certified = self._repeated = self.audited = self.missed = 0
        self._window: deque[Audit] = deque(maxlen=WINDOW)
        self._pays = True

    def _chosen(self, count: int) -> torch.Tensor:
        """Return which of the next images are audits: the very first one, and one of each ``EVERY``.

        By chance: archives in which kinds of pictures take turns would otherwise always have the same kind audited.
        """
        found = torch.zeros(count, dtype=torch.bool)
        while self._next_audit < self._images + count:
            found[self._next_audit - self._images] = True
            block = self._next_audit // EVERY + 1
            self._next_audit = block * EVERY + self._chance.randrange(EVERY)
        self._images += count
        return found

    def _audit(self, pixels: torch.Tensor, limits: torch.Tensor) -> Tagged:
        """Compute one image in both formats. Return the results of float32."""
        start = self._now()
        rounded = self._round(pixels, limits)
        rounded_at = self._now()
        tokens = self.embed(pixels)
        encoded_at = self._now()
        exact = self.decode(tokens)
        decoded_at = self._now()
        self._encoding.add((rounded.logits - exact.logits).gather(1, rounded.near))
        is_again = bool((rounded.is_in_doubt | rounded.is_crowded).any())
        self._window.append(Audit(rounded_at - start, encoded_at - rounded_at, decoded_at - encoded_at, is_again))
        self.audited += 1
        if not is_again and not torch.equal(rounded.logits > limits, exact.logits > limits):
            self.missed += 1
            _log.warning(
                "bfloat16 would have given other tags to %d of %d images that were computed in both formats",
                self.missed,
                self.audited,
            )
        return exact

    def _certify(self, pixels: torch.Tensor, limits: torch.Tensor) -> Tagged:
        """Compute images in bfloat16, and the scores that are in doubt in float32."""
        logits, tokens, near, is_in_doubt, is_crowded = self._round(pixels, limits)
        encode = is_in_doubt & ~is_crowded
        if bool(encode.any()):
            tokens[encode] = self.embed(pixels[encode])
            logits[encode] = logits[encode].scatter(1, near[encode], self._decoded(tokens[encode], near[encode]))
        if bool(is_crowded.any()):
            logits[is_crowded], tokens[is_crowded] = self(pixels[is_crowded])
        self._certified += len(pixels)
        self._repeated += int((is_in_doubt | is_crowded).sum())
        return Tagged(logits, tokens)

    def _round(self, pixels: torch.Tensor, limits: torch.Tensor) -> Rounded:
        """Compute images in bfloat16, and decode the scores that are nearest to their limits again."""
        logits, tokens = (each.float() for each in self._tagged_in_16_bits(pixels))
        near = _nearest(logits, limits)
        decoded = self._decoded(tokens, near)
        self._decoding.add(logits.gather(1, near) - decoded)
        # Those that are not decoded again have both errors.
        least = (logits.gather(1, near[:, -1:]) - limits[near[:, -1:]]).abs().squeeze(1)
        is_crowded = (least <= sum(self.margins)) & (near.shape[1] < logits.shape[1])
        is_in_doubt = (decoded - limits[near]).abs().amin(dim=1) <= self._encoding.margin
        return Rounded(logits.scatter(1, near, decoded), tokens, near, is_in_doubt, is_crowded)

    def _tagged_in_16_bits(self, pixels: torch.Tensor) -> Tagged:
        assert self._rounded is not None
        return self._rounded(pixels)

    def _decoded(self, tokens: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """Return (B, K) float32 logits of (B, K) tags, from (B, 1 + N, E) tokens."""
        return torch.cat([self.network.decode_some(one[None], which) for one, which in zip(tokens, near, strict=True)])

    def _now(self) -> float:
        return time.perf_counter()

    def _review(self) -> None:
        """Change to float32, or back, if the last audits say that it takes less time.

        Both ways are timed on the same images, one at a time. What it takes to encode an image again is the time of the
        encoder.
        """
        if len(self._window) < WINDOW:
            return
        rounded, encoded, decoded, doubt = zip(*self._window, strict=True)
        exact = median(encoded) + median(decoded)
        again = fmean(doubt)
        pays = median(rounded) + again * median(encoded) < exact
        if pays != self._pays:
            self._pays = pays
            _log.warning(
                "%.0f %% of images have a score too near to its threshold for bfloat16, which takes %.2f of the time "
                "of float32: %s from now on",
                100 * again,
                median(rounded) / exact,
                self.precision,
            )


def _nearest(logits: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Return (B, K) ids of the tags that are nearest to their thresholds, nearest first."""
    gaps = (logits - limits).abs()
    return gaps.topk(min(NEAREST, gaps.shape[1]), largest=False, sorted=True).indices


def _copy(network: N) -> N:
    """Copy a network. The copy shares the numbers of all parameters, until it replaces them."""
    shared = {id(each): nn.Parameter(each.data, requires_grad=False) for each in network.parameters()}
    copied: N = copy.deepcopy(network, shared)
    return copied

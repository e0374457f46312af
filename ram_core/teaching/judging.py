"""What a threshold does in a whole archive, of which a sample was looked at and a few pictures are named.

Each unnamed picture stands for ``weight`` images. Some of those that get the tag are right, and nobody said which. The
estimate takes the pictures named yes as typical of the kind: if half of them score above some level, so does half of
the kind. So there are at most twice as many of the kind in the sample as unnamed pictures above it, and the level that
allows the fewest is taken (as Blanchard, Lee and Scott, JMLR 2010, estimate a share of novelties). Its count is lowered
by its own uncertainty, so that a few look-alikes are no evidence.

That the best unnamed pictures are of the kind at all cannot be seen without asking somebody. So the interval of the
precision begins where none of them is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ram_core.teaching.logistic import NO, UNNAMED, YES
from ram_core.teaching.measures import CONFIDENCE, Measure, Share, average_precision, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_RECALL = 0.5
"""If no threshold has the wanted precision, the most precise one is taken that finds this share of the pictures."""
_TELLING_SHARE = 0.5
"""How many of the kind are in the sample is told by levels that at least this share of the pictures named yes reach."""
_DEVIATIONS = 1.0
"""By how many standard deviations the number of the kind in the sample is lowered. See benchmarks/bench_teach.py."""
_UNSEEN = 0.5
"""Where a sample shows some pictures with the tag, other images have it as if there were so many more of them."""


def weight_of(labels: NDArray[np.int8], others: int | None) -> float:
    """Return for how many images an unnamed picture stands: 1 if all were looked at.

    Args:
        labels: (N,).
        others: the images of the archive that nobody named; None: the unnamed pictures are all of them.
    """
    sampled = int((labels == UNNAMED).sum())
    return 1.0 if others is None or not sampled else max(1.0, others / sampled)


def calibrate(
    scores: NDArray[np.float32], labels: NDArray[np.int8], precision: float, weight: float = 1.0
) -> tuple[float, bool]:
    """Return the lowest threshold with this precision, and whether there is one. It lies between two scores.

    If there is none, return the one with the highest precision that finds half of the pictures named yes.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, of = scores[order], labels[order]
    found, wrong, unnamed = (np.cumsum(of == label) for label in (YES, NO, UNNAMED))
    hidden = np.minimum(unnamed, _hidden(scores, labels) * found / found[-1])
    right = found + weight * hidden
    passed = found + wrong + weight * unnamed + (weight - 1) * _UNSEEN
    # The mean of a precision of which nothing else is known (Jeffreys): one picture that is right shows very little.
    shares = (right + 0.5) / (passed + 1)
    lower = np.append(ranked[1:], ranked[-1] - 1)
    ends = np.flatnonzero((of == YES) & (ranked > lower))
    enough = ends[shares[ends] >= precision]
    if not len(enough):
        half = ends[found[ends] >= _LEAST_RECALL * found[-1]]
        if not len(half):  # the last pictures named yes score the same as others
            return float(ranked[-1]) - 1, False
        enough = half[[np.argmax(shares[half])]]
    at = int(enough[-1])
    return float((ranked[at] + lower[at]) / 2), bool(shares[at] >= precision)


def measure(
    passed: NDArray[np.bool_],
    scores: NDArray[np.float32],
    labels: NDArray[np.int8],
    weight: float,
    among: NDArray[np.bool_],
    groups: NDArray[np.int64],
) -> Measure:
    """Measure what gets the tag.

    Args:
        passed: (N,) the pictures that get it.
        scores: (N,) higher ones are more likely to.
        labels: (N,).
        weight: for how many images an unnamed picture stands.
        among: (N,) the pictures to look at. One at least is named yes.
        groups: (N,) the same number for copies, which count once in intervals.
    """
    passed, scores, labels, groups = passed[among], scores[among], labels[among], groups[among]
    found, wrong, unnamed = (int((passed & (labels == label)).sum()) for label in (YES, NO, UNNAMED))
    kind, sampled = int((labels == YES).sum()), int((labels == UNNAMED).sum())
    hidden = min(unnamed, _hidden(scores, labels) * found / kind)
    tagged = found + wrong + weight * unnamed + (weight - 1) * _UNSEEN
    most = _most(unnamed, sampled) * weight if weight > 1 else float(unnamed)
    differ = _differ(groups[passed & (labels != UNNAMED)])
    none_right = share(found, found + wrong + most, differ)
    all_right = share(found + unnamed, found + unnamed + wrong, differ)
    value = (found + weight * hidden) / tagged if found + wrong + unnamed else None
    return Measure(
        Share(value, none_right.low, all_right.high),
        share(found, kind, _differ(groups[labels == YES])),
        round(average_precision(labels == YES, scores), 4),
        round(found + wrong + weight * unnamed),
        round(found + wrong + most),
        round(len(labels) - sampled + weight * sampled),
        found + wrong,
    )


def _differ(groups: NDArray[np.int64]) -> float:
    """Return the share of pictures that are no copies of others."""
    return len(np.unique(groups)) / len(groups) if len(groups) else 1.0


def _hidden(scores: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """Return a cautious estimate of how many unnamed pictures are of the kind."""
    levels = np.sort(scores[labels == YES])[::-1]
    unnamed = np.sort(scores[labels == UNNAMED])
    reached = np.searchsorted(-levels, -levels, side="right") / len(levels)
    above = len(unnamed) - np.searchsorted(unnamed, levels, side="left")
    telling = reached >= _TELLING_SHARE
    counts = above[telling]
    return float((np.maximum(0, counts - _DEVIATIONS * np.sqrt(counts)) / reached[telling]).min())


def _most(part: int, whole: int) -> float:
    """Return how many of ``whole`` are expected to be so at most, where ``part`` were (Clopper and Pearson)."""
    from scipy.stats import beta  # noqa: PLC0415  (slow to load, and only teaching needs it)

    return whole * float(beta.ppf(1 - (1 - CONFIDENCE) / 2, part + 1, whole - part)) if part < whole else float(whole)

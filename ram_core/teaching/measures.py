"""Precision and recall on pictures that were held out, with exact intervals, and what they tell a person."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """A share, and the interval in which it lies with a confidence of 95 % (Clopper and Pearson, 1934).

    ``value`` is None if there was nothing to count.
    """

    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measure:
    """What a score and a threshold do on held-out pictures.

    Attributes:
        precision: of those that got the tag, the share that were right.
        recall: of those that should have the tag, the share that got it.
        average_precision: of the order by score; 1: all that should have the tag come first.
    """

    precision: Share
    recall: Share
    average_precision: float


def share(part: float, whole: float, differ: float = 1.0) -> Share:
    """Return ``part / whole`` with its interval. ``whole - part`` may have halves, which are rounded up for it.

    ``differ`` is the share of the pictures that are no copies of others, above 0 to 1: copies make nothing surer.
    """
    from scipy.stats import beta  # noqa: PLC0415  (slow to load, and only teaching needs it)

    if whole <= 0:
        return Share(None, 0.0, 1.0)
    others, sure = differ * math.ceil(whole - part), differ * part
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, sure, others + 1)) if part > 0 else 0.0
    high = float(beta.ppf(1 - tail, sure + 1, others)) if others > 0 else 1.0
    return Share(float(part / whole), low, high)


def average_precision(is_yes: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Return the average precision of (N,) scores. Of equal scores, those that are no come first."""
    order = np.lexsort((is_yes, -scores))
    found = is_yes[order]
    ranks = np.arange(1, len(found) + 1)
    return float((np.cumsum(found) / ranks)[found].mean()) if found.any() else 0.0


def needed(precision: float) -> int:
    """Return how many pictures, all of them right, show that a precision is at least this (confidence 95 %)."""
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(precision))


def advice(after: Measure, yes: int, asked: float, *, differing: int, is_reached: bool) -> str:
    """Return one line: how sure the precision is, and how many more pictures would show the one that was asked for.

    ``differing`` of the ``yes`` pictures are no copies of others.
    """
    pictures = f"{yes} picture{'' if yes == 1 else 's'}"
    if differing < yes:
        pictures += f", {differing} without copies"
    between = f"{pictures}: the precision is between {after.precision.low:.2f} and {after.precision.high:.2f}"
    if not is_reached:
        return (
            f"{between}, and no threshold reaches {asked:g} on pictures that were held out; label more, also some that "
            "only look similar (--no), or ask for a lower precision"
        )
    if after.precision.low >= asked:
        return f"{between}; that is enough"
    more = max(5, needed(asked) - differing)
    return f"{between}; label {more} more to be sure of {asked:g}"

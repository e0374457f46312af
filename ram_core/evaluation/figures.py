"""Precision, recall, F1 and average precision of tags, with confidence intervals of 95 %.

A tag is assigned at a score strictly above its threshold, as in recognition.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ram_core.errors import TrainingError
from ram_core.metrics import average_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.evaluation.scoring import Scored
    from ram_core.vocabulary import TagVocabulary

ENOUGH = 10
"""Images that a tag needs, so that its figures say something."""
_Z = 1.959964  # the 97.5 % quantile of the normal distribution
_DRAWS = 1000
_SEED = 0


class Interval(NamedTuple):
    """A confidence interval of 95 %, in 0..1."""

    low: float
    high: float


def wilson(hits: int, total: int) -> Interval:
    """Return the interval of a share, after Wilson (1927), which holds for few examples too. 0 to 1 without any."""
    if not total:
        return Interval(0.0, 1.0)
    share, weight = hits / total, _Z * _Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    # Exact at the ends, where rounding would leave the share itself just outside.
    return Interval(middle - half if hits else 0.0, middle + half if hits < total else 1.0)


@dataclass(frozen=True, slots=True)
class Counts:
    """How a tag was assigned.

    Attributes:
        images: images that have the tag.
        assigned: images to which it is assigned.
        hits: those of them that have it.
    """

    images: int
    assigned: int
    hits: int

    @classmethod
    def of(cls, assigned: NDArray[np.bool_], targets: NDArray[np.bool_]) -> Counts:
        """Count (N,) assignments to images."""
        return cls(int(targets.sum()), int(assigned.sum()), int((assigned & targets).sum()))

    @property
    def precision(self) -> float | None:
        """The share of its images that have it; None if it is assigned to none."""
        return self.hits / self.assigned if self.assigned else None

    @property
    def recall(self) -> float | None:
        """The share of the images with the tag that it is assigned to; None if none has it."""
        return self.hits / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None if no image has the tag."""
        return 2 * self.hits / (self.images + self.assigned) if self.images else None


@dataclass(frozen=True, slots=True)
class TagFigures:
    """The figures of a tag. ``average_precision`` is None if no image has it."""

    tag_id: int
    name: str
    threshold: float
    counts: Counts
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class Means:
    """Means over tags that images have (macro). A tag that is never assigned has a precision of 0."""

    tags: int
    average_precision: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Together:
    """Figures of all assignments of some tags together (micro). ``f1_interval`` and so on are of 95 %."""

    precision: float
    recall: float
    f1: float
    precision_interval: Interval
    recall_interval: Interval
    f1_interval: Interval


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        images: images with scores.
        tags: the figures of each tag, by id.
        enough: images that a tag needs to be one of ``firm``.
        means: over the tags that some image has.
        firm: over those that enough images have.
        together: of the tags that some image has.
        elsewhere: assignments of tags that no image has; they are in none of the means.
    """

    images: int
    tags: tuple[TagFigures, ...]
    enough: int
    means: Means
    firm: Means
    together: Together
    elsewhere: int


class Pool:
    """Counts of assignments by image, for figures of many tags together.

    Images differ more than single assignments do, so the intervals are those of images drawn anew (bootstrap).

    Args:
        images: number of images N.
    """

    def __init__(self, images: int) -> None:
        self._counts = np.zeros((3, images), dtype=np.int64)  # hits, assigned, having

    def add(self, assigned: NDArray[np.bool_], targets: NDArray[np.bool_]) -> None:
        """Add a tag: (N,) to which images it is assigned, and which have it."""
        self._counts += np.stack([assigned & targets, assigned, targets])

    def together(self) -> Together:
        """Return the figures of all tags that were added."""
        images = self._counts.shape[1]
        random = np.random.default_rng(_SEED)
        drawn = np.stack(
            [self._counts @ np.bincount(random.integers(images, size=images), minlength=images) for _ in range(_DRAWS)]
        )
        values = _shares(self._counts.sum(axis=1)[None])[0]
        low, high = np.percentile(_shares(drawn), (2.5, 97.5), axis=0)
        intervals = [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]
        precision, recall, f1 = (float(value) for value in values)
        return Together(precision, recall, f1, *intervals)


def evaluate(scored: Scored, vocabulary: TagVocabulary, enough: int = ENOUGH) -> Evaluation:
    """Compute all figures.

    Args:
        scored: images with scores and tags.
        vocabulary: names and thresholds of the tags.
        enough: images that a tag needs, so that its figures say something.

    Raises:
        TrainingError: no image has a tag.
    """
    pool, tags, elsewhere = Pool(len(scored)), [], 0
    for tag_id, scores, targets in scored.columns():
        assigned = scores > vocabulary.thresholds[tag_id]
        counts = Counts.of(assigned, targets)
        if counts.images:
            pool.add(assigned, targets)
        else:
            elsewhere += counts.assigned
        found = average_precision(scores, targets) if counts.images else None
        threshold = float(str(vocabulary.thresholds[tag_id]))
        tags.append(TagFigures(tag_id, vocabulary.names[tag_id], threshold, counts, found))
    present = [tag for tag in tags if tag.counts.images]
    if not present:
        raise TrainingError(
            f"no image has a tag of vocabulary {vocabulary.name!r}, so there is nothing to compare; give the "
            "vocabulary of the data's tags, or other data"
        )
    firm = [tag for tag in present if tag.counts.images >= enough]
    return Evaluation(len(scored), tuple(tags), enough, _means(present), _means(firm), pool.together(), elsewhere)


def _means(tags: Sequence[TagFigures]) -> Means:
    values = [
        (tag.average_precision or 0.0, tag.counts.precision or 0.0, tag.counts.recall or 0.0, tag.counts.f1 or 0.0)
        for tag in tags
    ]
    means = np.mean(values, axis=0) if values else np.zeros(4)
    return Means(len(tags), *(float(value) for value in means))


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (D, 3) precision, recall and F1 of (D, 3) hits, assigned and having; 0 divided by 0 is 0."""
    hits, assigned, having = counts.T.astype(np.float64)
    parts = ((hits, assigned), (hits, having), (2 * hits, assigned + having))
    return np.stack([np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for a, b in parts], axis=1)

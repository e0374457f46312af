"""Metrics of tag scores: average precision, precision, recall, F1, following the official evaluation.

N images, C classes. As in the official code, a class that no image has gets an average precision of 0, and 0 divided by
0 is 0. To make such classes visible, the mean over the occurring classes is given next to the official one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ClassMetrics:
    """Per class, each (C,) float64 in 0..1, or counts of images (C,) int64."""

    average_precision: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    positives: NDArray[np.int64]
    assigned: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """All figures, in 0..1.

    Attributes:
        images: N.
        mean_average_precision: over all classes (mAP).
        mean_average_precision_present: over the classes that at least one image has.
        overall_precision: of all assignments together (OP).
        overall_recall: likewise (OR).
        overall_f1: harmonic mean of the two (OF1).
        class_precision: mean over all classes (CP).
        class_recall: likewise (CR).
        class_f1: harmonic mean of the two (CF1), which is not the mean of the classes' F1.
        classes: the figures of each class.
    """

    images: int
    mean_average_precision: float
    mean_average_precision_present: float
    overall_precision: float
    overall_recall: float
    overall_f1: float
    class_precision: float
    class_recall: float
    class_f1: float
    classes: ClassMetrics


def average_precision(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> float:
    """Return the area under the precision-recall steps of one class, not interpolated.

    Images with equal scores count as one step: their order is arbitrary and must not change the result.

    Args:
        scores: (N,) of the images.
        targets: (N,) True for images that have the tag.

    Returns:
        In 0..1; 0 if no image has the tag.
    """
    positives = int(targets.sum())
    if not positives:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_step = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(targets[order])[last_of_step]
    precision = found / (last_of_step + 1)
    gained = np.diff(found, prepend=0)
    return float((precision * gained).sum() / positives)


def measure(
    scores: NDArray[np.floating], targets: NDArray[np.bool_], thresholds: NDArray[np.floating] | float
) -> Metrics:
    """Compute all figures.

    Args:
        scores: (N, C).
        targets: (N, C) True if the image has the tag.
        thresholds: (C,) or one for all; a tag counts as assigned at a score at or above it. This is how the official
            evaluation (not the official inference) compares.

    Raises:
        ValueError: the shapes differ, there is nothing to measure, or a score is not finite.
    """
    if scores.shape != targets.shape or scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores are {scores.shape}, targets {targets.shape}; both must be (N, C), N and C above 0")
    if not np.isfinite(scores).all():
        raise ValueError("scores contain values that are not finite")
    precisions = np.array([average_precision(scores[:, c], targets[:, c]) for c in range(scores.shape[1])])
    assigned = scores >= thresholds
    hits = (assigned & targets).sum(axis=0)
    counted, wanted = assigned.sum(axis=0), targets.sum(axis=0)
    precision, recall = _ratio(hits, counted), _ratio(hits, wanted)
    overall = _ratio(np.array([hits.sum(), hits.sum()]), np.array([counted.sum(), wanted.sum()]))
    present = precisions[wanted > 0]
    return Metrics(
        images=len(scores),
        mean_average_precision=float(precisions.mean()),
        mean_average_precision_present=float(present.mean()) if present.size else 0.0,
        overall_precision=float(overall[0]),
        overall_recall=float(overall[1]),
        overall_f1=float(_harmonic(overall[0], overall[1])),
        class_precision=float(precision.mean()),
        class_recall=float(recall.mean()),
        class_f1=float(_harmonic(precision.mean(), recall.mean())),
        classes=ClassMetrics(precisions, precision, recall, _harmonic(precision, recall), wanted, counted),
    )


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _harmonic(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.asarray(a + b)
    return np.divide(2 * a * b, total, out=np.zeros(total.shape), where=total > 0)

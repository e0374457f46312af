"""From the regions of a tag to a verdict on each of its images."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.cleaning.outliers import measure_regions
from ram_core.errors import CleaningError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ram_core.cleaning.outliers import Distances
    from ram_core.cleaning.scale import FeatureScale
    from ram_core.cleaning.settings import CleaningSettings

_NOTHING_KNOWN = 0.5
_LEAST = 1e-4  # keeps the sign of a verdict of which nothing is sure


class Reason(StrEnum):
    """Why an image loses a tag."""

    OUTLIER = "outlier"
    CONTRADICTED = "contradicted"
    NO_REGION = "no_region"


@dataclass(frozen=True, slots=True, eq=False)
class TagRegions:
    """All regions of a tag, in any order.

    Attributes:
        blocks: (n, D) features, any floating type, N rows together. Iterated over twice, so no iterator.
        image_ids: (N,) integers: in which image each region is.
        scores: (N,) in 0..1: the baseline model's score of the tag for each region; NaN where it was not asked. None:
            it was asked about none.
        labelled: (M,) integers: the images that have the tag, each once; images of regions are among them. None: those
            of the regions.
    """

    blocks: Iterable[NDArray[np.floating[Any]]]
    image_ids: NDArray[np.integer[Any]]
    scores: NDArray[np.floating[Any]] | None = None
    labelled: NDArray[np.integer[Any]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageVerdicts:
    """What becomes of the tag in each of its M images.

    Attributes:
        image_ids: (M,) int64, ascending.
        reasons: M reasons why the image loses the tag; None where it keeps it.
        certainty: (M,) float32 in 0..1: how far the verdict is from the opposite one; 0.5 where nothing is known of it,
            as without a region.
        region: (M,) int64: the number of the region that decided; -1 without one.
    """

    image_ids: NDArray[np.int64]
    reasons: list[Reason | None]
    certainty: NDArray[np.float32]
    region: NDArray[np.int64]

    @property
    def is_dropped(self) -> NDArray[np.bool_]:
        """Return (M,) bool: whether the image loses the tag."""
        return np.array([reason is not None for reason in self.reasons], np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class CleanedTag:
    """A tag after cleaning.

    Attributes:
        regions: clusters, distances, outliers and typical ones.
        is_contradicted: (N,) bool: whether the baseline model was asked about the region and does not see the tag.
        images: what becomes of each image.
    """

    regions: Distances
    is_contradicted: NDArray[np.bool_]
    images: ImageVerdicts


def clean_tag(
    regions: TagRegions, settings: CleaningSettings, *, threshold: float = 0.5, scale: FeatureScale | None = None
) -> CleanedTag:
    """Find the regions of a tag that are outliers or contradict it, and the images that lose the tag for it.

    Args:
        regions: its regions.
        settings: how.
        threshold: the tag's own threshold, 0 to 1, if ``settings`` have none. The model sees the tag at a score at or
            above it.
        scale: mean and deviation of the features of all tags; see ``FeatureScale``.

    Raises:
        CleaningError: numbers of rows, images and scores do not fit each other, or a feature is not finite.
    """
    image_ids = np.asarray(regions.image_ids, np.int64)
    labelled = np.unique(image_ids if regions.labelled is None else np.asarray(regions.labelled, np.int64))
    scores = np.full(len(image_ids), np.nan) if regions.scores is None else np.asarray(regions.scores, np.float64)
    _check(image_ids, labelled, scores)
    limit = threshold if settings.threshold is None else settings.threshold
    measured = measure_regions(regions.blocks, len(image_ids), settings, scale)
    is_contradicted = settings.contradiction & (scores < limit)  # NaN is not below anything
    sure = _sureness(measured, scores, limit, settings)
    images = _verdicts(image_ids, labelled, measured, is_contradicted, sure, settings)
    return CleanedTag(measured, is_contradicted, images)


def _check(image_ids: NDArray[np.int64], labelled: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
    if image_ids.ndim != 1 or scores.shape != image_ids.shape:
        raise CleaningError(f"{scores.shape} scores for {image_ids.shape} regions; both must be (N,)")
    if (scores < 0).any() or (scores > 1).any():
        raise CleaningError("scores of regions are not in 0..1")
    stray = np.setdiff1d(image_ids, labelled)
    if stray.size:
        raise CleaningError(f"image {stray[0]} has regions of the tag, but not the tag")


def _sureness(
    measured: Distances, scores: NDArray[np.float64], limit: float, settings: CleaningSettings
) -> NDArray[np.float64]:
    """Return (N,) in -1..1, not 0: below 0 for outliers and contradicted regions; farther from 0 if it is surer."""
    count = len(scores)
    both = np.full((2, count), np.nan)
    if settings.outlier_share and count >= settings.min_regions:
        cut = 1 - settings.outlier_share
        rank = measured.rank.astype(np.float64)
        inside = np.where(rank < cut, (cut - rank) / cut, 0)
        both[0] = np.where(measured.is_outlier, -_above((rank - cut) / settings.outlier_share), _above(inside))
    if settings.contradiction:
        below = -_above((limit - scores) / max(limit, _LEAST))
        both[1] = np.where(scores < limit, below, _above((scores - limit) / max(1 - limit, _LEAST)))
    # The surest reason to drop it; where there is none, the weakest reason to keep it. Both are the smallest number.
    sure = np.fmin(both[0], both[1])
    return np.where(np.isnan(sure), _NOTHING_KNOWN, sure)


def _above(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a share in 0..1 as one that is not 0."""
    return share.clip(_LEAST, 1)


def _verdicts(
    image_ids: NDArray[np.int64],
    labelled: NDArray[np.int64],
    measured: Distances,
    is_contradicted: NDArray[np.bool_],
    sure: NDArray[np.float64],
    settings: CleaningSettings,
) -> ImageVerdicts:
    """Let one region of each image decide: the most typical one, or with ``any`` the least."""
    order = np.lexsort((np.arange(len(sure)), sure if settings.several_regions == "all" else -sure, image_ids))
    last = np.append(np.diff(image_ids[order]) != 0, np.True_)[: len(order)]
    deciding = order[last]  # of each image with regions, ascending
    region = np.full(len(labelled), -1, np.int64)
    region[np.searchsorted(labelled, image_ids[deciding])] = deciding
    reasons: list[Reason | None] = []
    certainty = np.full(len(labelled), _NOTHING_KNOWN, np.float32)
    for number, decided in enumerate(region.tolist()):
        if decided < 0:
            reasons.append(Reason.NO_REGION if settings.no_region == "drop" else None)
            continue
        certainty[number] = abs(sure[decided])
        if is_contradicted[decided]:
            reasons.append(Reason.CONTRADICTED)
        else:
            reasons.append(Reason.OUTLIER if measured.is_outlier[decided] else None)
    return ImageVerdicts(labelled, reasons, certainty, region)

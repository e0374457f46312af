"""What cleaning can be told. Names and default values are those of the paper where it has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from ram_core.errors import CleaningError

if TYPE_CHECKING:
    from collections.abc import Mapping

NoRegion = Literal["drop", "keep"]
Several = Literal["all", "any"]
Regions = Literal["located", "whole"]


@dataclass(frozen=True, slots=True)
class CleaningSettings:
    """How labels are cleaned. Hashable, and equal settings give equal results.

    Attributes:
        regions: ``located``: a detector cuts the regions of a tag out of its images, as in the paper. ``whole``: each
            image is its own region.
        outlier_share: share of a tag's regions that are outliers, 0 to 0.5; 0.1 in the paper. 0: none.
        clusters: K of K-Means++; None: one for each ``regions_per_cluster`` regions, and at most ``max_clusters``.
        regions_per_cluster: how many regions need a further cluster.
        max_clusters: clusters at most.
        min_regions: a tag with fewer regions loses none as outliers: there is nothing to be far from.
        contradiction: whether regions in which the baseline model does not see the tag contradict it.
        threshold: the score, 0 to 1, below which the baseline model does not see a tag; None: the tag's own.
        no_region: whether an image without any region of a tag loses it (``drop``) or not (``keep``).
        several_regions: of an image with several regions of a tag, whether it loses the tag if ``all`` of them are
            outliers or contradict it, or if ``any`` does.
        folds: parts of the images for a baseline that is taught here, each judged by what the others taught.
        sample: regions at most from which centres are computed; all are measured.
        typical: regions that are named as typical ones of a tag.
        seed: of all random choices.
    """

    regions: Regions = "located"
    outlier_share: float = 0.1
    clusters: int | None = None
    regions_per_cluster: int = 100
    max_clusters: int = 32
    min_regions: int = 10
    contradiction: bool = True
    threshold: float | None = None
    no_region: NoRegion = "drop"
    several_regions: Several = "all"
    folds: int = 5
    sample: int = 16_384
    typical: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("regions", Regions), ("no_region", NoRegion), ("several_regions", Several)):
            if getattr(self, name) not in get_args(choices):
                raise CleaningError(f"{name} {getattr(self, name)!r} is unknown; use {' or '.join(get_args(choices))}")
        _check_number("outlier_share", self.outlier_share, 0, 0.5)
        if self.threshold is not None:
            _check_number("threshold", self.threshold, 0, 1)
        if self.clusters is not None:
            _check_count("clusters", self.clusters, 1, 1000)
        _check_count("regions_per_cluster", self.regions_per_cluster, 1, 10**9)
        _check_count("max_clusters", self.max_clusters, 1, 1000)
        _check_count("min_regions", self.min_regions, 2, 10**9)
        _check_count("folds", self.folds, 2, 100)
        _check_count("sample", self.sample, 1000, 10**6)
        _check_count("typical", self.typical, 0, 1000)
        _check_count("seed", self.seed, 0, 2**32 - 1)
        if not isinstance(self.contradiction, bool):
            raise CleaningError(f"contradiction {self.contradiction!r} is neither true nor false")

    def clusters_of(self, regions: int) -> int:
        """Return the number of clusters for a tag with so many regions; at least 1."""
        wanted = self.clusters or min(self.max_clusters, round(regions / self.regions_per_cluster))
        return max(1, min(wanted, regions))

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CleaningSettings:
        """Return the settings of what ``as_json`` returned; what is missing has its default.

        Raises:
            CleaningError: a name is unknown, or a value is out of its range.
        """
        known = [each.name for each in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise CleaningError(f"unknown setting {unknown[0]!r}; there are {', '.join(known)}")
        return cls(**values)


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise CleaningError(f"{name} {value!r} is not a number from {low:g} to {high:g}")


def _check_count(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CleaningError(f"{name} {value!r} is not a whole number from {low:,} to {high:,}")

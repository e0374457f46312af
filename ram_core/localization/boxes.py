"""From many candidates to few regions: non-maximum suppression in each tag, then between tags of one kind, then limits.

Other tags at the same place stay: a picture may have a person and a shirt there. Numbers are float32, boxes are (…, 4)
left, top, right, bottom, as fractions.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from ram_core.localization.parts import Candidates

_LEAST_SIDE = 1e-5  # of a picture; thinner boxes, for example those outside of it, are none


@dataclass(frozen=True, slots=True)
class Rules:
    """When a candidate is a region.

    Attributes:
        threshold: least score, 0..1; None: the detector's own.
        overlap: two boxes of one tag that overlap (IoU) more than this are one thing; the better one stays.
        related: the same for a tag and a more general one, where the more special one stays.
        per_tag: most regions of a tag in a picture.
        per_picture: most regions of a picture.

    Raises:
        ModelError: a value is out of its range.
    """

    threshold: float | None = None
    overlap: float = 0.5  # the RAM authors' demo has the same, but over all tags
    related: float = 0.5
    per_tag: int = 50
    per_picture: int = 300

    def __post_init__(self) -> None:
        shares = (self.overlap, self.related, *(() if self.threshold is None else (self.threshold,)))
        if not all(0 <= share <= 1 for share in shares):
            raise ModelError(f"threshold and overlaps are numbers from 0 to 1, not {shares}")
        if self.per_tag < 1 or self.per_picture < 1:
            raise ModelError("at least one region must be allowed for a tag and for a picture")

    @property
    def name(self) -> str:
        """The rules in a locator's fingerprint."""
        least = "own" if self.threshold is None else f"{self.threshold:g}"
        return f"score {least}, overlap {self.overlap:g}/{self.related:g}, most {self.per_tag}/{self.per_picture}"


@dataclass(frozen=True, slots=True)
class Kept:
    """The candidates that are left.

    Attributes:
        boxes: (K, 4) float32.
        tags: (K,) positions in the list of tags.
        scores: (K,) float32, highest first.
        is_cut: a limit dropped some.
    """

    boxes: NDArray[np.float32]
    tags: NDArray[np.int64]
    scores: NDArray[np.float32]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Kinds:
    """Which tag is a kind of which.

    Args:
        more_general: tag -> tags that are more general than it, directly or not: ``{"poodle": ["dog"]}``.
    """

    more_general: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The hierarchy in a locator's fingerprint."""
        if not self.more_general:
            return ""
        told = sorted((tag, sorted(general)) for tag, general in self.more_general.items())
        return f"; kinds {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"

    def above(self, tag: str) -> frozenset[str]:
        """Return all tags that are more general than a tag, however many steps away. Circles are allowed."""
        found: set[str] = set()
        ahead = [tag]
        while ahead:
            new = set(self.more_general.get(ahead.pop(), ())) - found - {tag}
            found |= new
            ahead += new
        return frozenset(found)


def choose(candidates: Candidates, tags: Sequence[str], rules: Rules, kinds: Kinds) -> Kept:
    """Choose the regions of one picture.

    Args:
        candidates: what the detector found, above the threshold.
        tags: the tags that ``candidates.tags`` point to.
        rules: overlaps and limits.
        kinds: which tag is a kind of which.
    """
    boxes = np.clip(candidates.boxes, 0, 1).astype(np.float32)
    sound: NDArray[np.bool_] = np.min(boxes[:, 2:] - boxes[:, :2], axis=1) > _LEAST_SIDE
    # Equal scores keep the order of the detector, so that equal pictures have equal regions.
    order = np.argsort(-candidates.scores, kind="stable")
    order = order[sound[order]]
    kept: list[int] = []
    is_cut = False
    for tag in np.unique(candidates.tags[order]).tolist():
        own = order[candidates.tags[order] == tag]
        chosen, more = suppress(boxes[own], rules.overlap, rules.per_tag)
        kept += own[chosen].tolist()
        is_cut |= more
    kept = _special_ones(kept, candidates, boxes, [kinds.above(tag) for tag in tags], (tags, rules.related))
    kept.sort(key=lambda at: (-candidates.scores[at], at))
    is_cut |= len(kept) > rules.per_picture
    left = np.array(kept[: rules.per_picture], dtype=np.int64)
    return Kept(boxes[left], candidates.tags[left], candidates.scores[left], is_cut)


def suppress(boxes: NDArray[np.float32], overlap: float, most: int) -> tuple[NDArray[np.int64], bool]:
    """Greedy non-maximum suppression that stops when it has enough, so its cost is bounded.

    Args:
        boxes: (N, 4), best first.
        overlap: a box that overlaps (IoU) a better one more than this is dropped.
        most: boxes to keep at most.

    Returns:
        Positions of the kept boxes, ascending; and whether further ones would have been kept.
    """
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[iou(boxes[best], boxes[left]) <= overlap]
    return np.array(kept, dtype=np.int64), bool(len(left))


def iou(one: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the overlap of a box (4,) with others (N, 4): (N,) intersection over union, 0..1."""
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    union = (one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    shares: NDArray[np.float32] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares


def _special_ones(
    kept: list[int],
    candidates: Candidates,
    boxes: NDArray[np.float32],
    above: Sequence[frozenset[str]],
    other: tuple[Sequence[str], float],
) -> list[int]:
    """Drop a box where a more special tag has nearly the same one.

    The tags with most above them come first, so that a dropped box drops no other. Of tags that are each a kind of the
    other (synonyms), the better box stays.
    """
    tags, overlap = other
    order = sorted(kept, key=lambda at: (-len(above[int(candidates.tags[at])]), -candidates.scores[at], at))
    below: dict[str, list[int]] = defaultdict(list)  # tag -> boxes of more special tags that stay
    left = []
    for at in order:
        tag = int(candidates.tags[at])
        rivals = below[tags[tag]]
        if rivals and bool((iou(boxes[at], boxes[rivals]) > overlap).any()):
            continue
        left.append(at)
        for general in above[tag]:
            below[general].append(at)
    return left

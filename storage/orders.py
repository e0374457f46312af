"""The orders in which a search puts the images that match: by tags, by likeness, by text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from storage import query as queries
from storage.models import SCORE_SCALE
from storage.ranking import FUSION_DEPTH, fuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.evaluate import Terms
    from storage.index.selection import Selection


@dataclass(frozen=True, slots=True)
class Ranked:
    """An image in its place. ``after`` is where the next page begins if this image is the last of its own."""

    image_id: int
    score: float
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """Some images of an order.

    Attributes:
        images: in their order.
        total: how many the whole order has; None where looking so far did not tell.
        below: how many more match, but are too unlike the text; None where that is not known or there is no floor.
    """

    images: list[Ranked]
    total: int | None
    below: int | None = None


class Order(Protocol):
    """An order of the images that match."""

    cursor_length: ClassVar[int]
    """How many numbers there are in ``Ranked.after``."""

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return up to ``k`` images behind the place ``after`` (None: from the first on), fewer only at the end."""


@dataclass(frozen=True, slots=True)
class ByTags:
    """By the mean of the best scores of the terms; equal ones, and all without terms, the newest first."""

    cursor_length: ClassVar[int] = 2
    found: Selection
    terms: Terms

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images; the place is the score and the id of the last one."""
        ids, sums = self.found.best_by_tags(self.terms, k, (after[0], after[1]) if after else None)
        images = [
            Ranked(image_id, mean_score(total, self.terms), (total, image_id))
            for image_id, total in zip(ids.tolist(), sums.tolist(), strict=True)
        ]
        return Taken(images, len(self.found))


@dataclass(frozen=True, slots=True)
class ByVector:
    """By likeness to a vector, ``queries.MAX_OFFSET`` images deep; less one image, which would be its own nearest."""

    cursor_length: ClassVar[int] = 1
    found: Selection
    vector: NDArray[np.float32]
    without: int | None

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images; the place is how many came before."""
        total = len(self.found) - (self.without is not None and self.without in self.found)
        begin, end = _window(after, k)
        if begin >= end:
            return Taken([], total)
        ids, scores = self.found.nearest(self.vector, end + 1)
        others = ids != self.without
        return Taken(_placed(ids[others][begin:end], scores[others][begin:end], begin), total)


@dataclass(frozen=True, slots=True)
class ByText:
    """By likeness to a text and by the tags that it names, down to a floor; ``queries.MAX_OFFSET`` images deep.

    The first ``FUSION_DEPTH`` of both rankings are fused, then the nearest follow alone. An image with all the tags of
    a text that names tags and nothing else matches, however unlike its vector is: such images come last.

    Attributes:
        found: images.
        vector: (D,) of length 1, of the text.
        floor: cosine that is near enough; below it are images that have nothing to do with the text.
        named: ids of the images with all tags that the text names, best first, ``queries.MAX_OFFSET`` at most.
        is_whole: whether the text says nothing but those tags.
    """

    cursor_length: ClassVar[int] = 1
    found: Selection
    vector: NDArray[np.float32]
    floor: float
    named: NDArray[np.int64]
    is_whole: bool

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images, scored by cosine, which is nearly their order; the place is how many came before."""
        begin, end = _window(after, k)
        listed, is_complete = self._listed(end)
        shown = listed[begin:end]
        images = _placed(shown, self.found.cosines(self.vector, shown), begin)
        if self.floor == -np.inf:
            return Taken(images, len(self.found))
        if not is_complete:
            return Taken(images, None)
        return Taken(images, len(listed), len(self.found) - len(listed))

    def _listed(self, count: int) -> tuple[NDArray[np.int64], bool]:
        """Return the first ``count`` images or more, and whether they are all."""
        asked = max(count, FUSION_DEPTH) if len(self.named) else count
        ids, cosines = self.found.nearest(self.vector, max(1, asked))
        near = ids[cosines >= self.floor]
        is_complete = len(near) < len(ids) or len(ids) == len(self.found)
        if not len(self.named):
            return near, is_complete
        top, by_tags = near[:FUSION_DEPTH], self.named[:FUSION_DEPTH]
        first = fuse(top, by_tags if self.is_whole else by_tags[np.isin(by_tags, top)])
        listed = np.concatenate([first, near[~np.isin(near, first)]])
        if self.is_whole and is_complete:
            listed = np.concatenate([listed, self.named[~np.isin(self.named, listed)]])
        return listed, is_complete


def mean_score(total: int, terms: Terms) -> float:
    """Return the score, 0 to 1, of an image whose best scores of the terms add up to ``total`` units."""
    return total / (SCORE_SCALE * len(terms)) if terms else 0.0


def _window(after: tuple[int, ...] | None, k: int) -> tuple[int, int]:
    begin = after[0] if after else 0
    return begin, min(begin + k, queries.MAX_OFFSET)


def _placed(ids: NDArray[np.int64], scores: NDArray[np.float32], begin: int) -> list[Ranked]:
    return [
        Ranked(image_id, score, (place,))
        for place, (image_id, score) in enumerate(zip(ids.tolist(), scores.tolist(), strict=True), start=begin + 1)
    ]

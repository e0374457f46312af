"""The orders in which a search puts the images that match: by tags, by similarity, by text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import merge
from typing import TYPE_CHECKING, ClassVar, Protocol, overload

import numpy as np

from storage.index import kept_lists
from storage.search import positions
from storage.search import query as queries
from storage.search.listed import Listed
from storage.search.ranking import TAG_WEIGHT
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from storage.index.evaluate import Terms
    from storage.index.selection import Selection
    from storage.search.listed import Sure
    from storage.search.views import FoundIn

_FIRST_LOOK = 1_000
"""Most results of a text are shorter."""

_NEXT_PAGES = 200
"""So far the pages after the first one look. Few people go further."""

COUNTED = queries.MAX_OFFSET
"""If no more images match, a page looks so far (``_FIRST_LOOK``) that most totals are known. All are scanned anyway."""

MAX_READ = 1_000
"""Images that come first because all words of a text stand in them, the newest ones. If there are more, the words are
too common to say what is meant."""

READ_BONUS = np.float32(1)
"""What no cosine is above."""

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Ranked:
    """An image at its position in an order.

    Attributes:
        image_id: the image.
        score: the number that ranks; it never increases along an order.
        after: the position after this image, for the next page.
        similarity: the cosine, in an order by a vector.
        is_read: whether it is there because all words of the text stand in it.
        is_told: likewise, because they stand in its keywords, title and description.
        spaces: the spaces by which it is ranked.
    """

    image_id: int
    score: float
    after: tuple[int, ...]
    similarity: float | None = None
    is_read: bool = False
    is_told: bool = False
    spaces: tuple[FoundIn, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """Some images of an order.

    Attributes:
        images: in their order.
        total: number of images in the whole order; None if not yet known.
        below: number of further matches that are too dissimilar to the text; None if unknown or if there is no floor.
    """

    images: list[Ranked]
    total: int | None
    below: int | None = None


class Order(Protocol):
    """An order of the images that match."""

    cursor_length: ClassVar[int]
    """Number of integers in ``Ranked.after``."""

    @property
    def found(self) -> Selection:
        """The images that match."""

    @property
    def ranked_by(self) -> tuple[tuple[str, str, int], ...]:
        """What ranks, as (space, of, generation), if vectors do; positions are only valid for the same."""

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return up to ``k`` images after the position ``after`` (None: the first ones), fewer only at the end."""


@dataclass(frozen=True, slots=True)
class ByTags:
    """By the mean of the best scores of the terms. Equal images, and all without terms, are newest first."""

    cursor_length: ClassVar[int] = 2
    ranked_by: ClassVar[tuple[tuple[str, str, int], ...]] = ()
    found: Selection
    terms: Terms

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images. The position is the score and the id of the last one."""
        ids, sums = self.found.best_by_tags(self.terms, k, (after[0], after[1]) if after else None)
        images = [
            Ranked(image_id, mean_score(total, self.terms), (total, image_id))
            for image_id, total in zip(ids.tolist(), sums.tolist(), strict=True)
        ]
        return Taken(images, len(self.found))


@dataclass(frozen=True, slots=True)
class ByReading:
    """First the images in which the wanted words stand, then those in which a reader may have misread them.

    Within both, by tags, as ``ByTags``. Half of the score is for the words, and half for the tags: it is 0.5 to 1 for
    the first images, and 0 to 0.5 for the others. Without tags it is 1 or 0.5.

    Attributes:
        found: the images that match.
        exact: those of them that match without misread words.
        misread: the others; None: there are none.
        terms: as of ``ByTags``.
    """

    cursor_length: ClassVar[int] = 3
    ranked_by: ClassVar[tuple[tuple[str, str, int], ...]] = ()
    found: Selection
    exact: Selection
    misread: Selection | None
    terms: Terms

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images. The position is 0 or 1 (misread), and the score and the id of the last image."""
        images: list[Ranked] = []
        part = after[0] if after else 0
        within = (after[1], after[2]) if after else None
        for number, selection in enumerate((self.exact, self.misread)):
            if number < part or selection is None or len(images) == k:
                continue
            ids, sums = selection.best_by_tags(self.terms, k - len(images), within if number == part else None)
            images += [
                Ranked(image_id, self._score(total, number), (number, total, image_id))
                for image_id, total in zip(ids.tolist(), sums.tolist(), strict=True)
            ]
        return Taken(images, len(self.found))

    def by_id(self) -> Iterator[tuple[int, float]]:
        """Yield every (image id, score), ids ascending, in bounded memory."""
        parts = [
            self._scored(number, each) for number, each in enumerate((self.exact, self.misread)) if each is not None
        ]
        yield from merge(*parts)

    def _scored(self, number: int, selection: Selection) -> Iterator[tuple[int, float]]:
        for image_id, total in selection.by_id(self.terms):
            yield image_id, self._score(total, number)

    def _score(self, total: int, number: int) -> float:
        return ((mean_score(total, self.terms) if self.terms else 1.0) + (number == 0)) / 2


@dataclass(frozen=True, slots=True)
class ByVector:
    """By similarity to a vector, at most ``queries.MAX_OFFSET`` images. Excludes the image that the vector is of.

    Attributes:
        found: the images that match.
        vector: (D,) of length 1.
        without: the image to exclude.
        floor: minimum cosine.
        last: ids, ascending, of images that are behind all others, however similar; below a floor they are left out.
    """

    cursor_length: ClassVar[int] = positions.LENGTH
    found: Selection
    vector: NDArray[np.float32]
    without: int | None
    floor: float = -np.inf
    last: NDArray[np.int64] = field(default_factory=lambda: _NONE)

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images; see ``positions``."""
        total = self.found.total
        if total is not None:
            total -= self.without is not None and self.without in self.found
        if _room(after, k) == 0 and self.floor == -np.inf:
            return Taken([], total)
        listed, begin = _continued(self, after, k)
        images = _placed(listed, after, begin, k)
        if self.floor == -np.inf:
            return Taken(images, total)
        if not listed.is_complete:
            return Taken(images, None)
        return Taken(images, len(listed.ids), None if total is None else total - len(listed.ids))

    def hits(self) -> NDArray[np.int64] | None:
        """Return the ids of all images of the order, best first; None if these are all that match: see ``ByText``."""
        return None if self.floor == -np.inf else self.listed(queries.MAX_OFFSET).ids

    def listed(self, count: int) -> Listed:
        """Return at least the first ``count`` images, or all."""
        searched = self.found.without(self.last) if len(self.last) else self.found
        ids, cosines = _nearest(searched, self.vector, count + 1)
        is_complete = not len(ids) or len(ids) == searched.total or bool(cosines[-1] < self.floor)
        is_hit = (ids != self.without) & (cosines >= self.floor)
        listed = Listed(ids[is_hit], cosines[is_hit], cosines[is_hit], is_complete)
        return listed.before(self.found, self.vector, self.last) if self.floor == -np.inf else listed


@dataclass(frozen=True, slots=True)
class ByText:
    """By similarity to a text and by the tags that it names, down to a floor; at most ``queries.MAX_OFFSET`` images.

    The score of an image is its cosine. If the image has all the tags that the text names, ``ranking.TAG_WEIGHT`` times
    their mean score is added. If the text consists only of tags, an image that has all of them matches, however
    dissimilar its vector is. An image in which all words of the text stand matches too, and ``READ_BONUS`` is added to
    its score (in which its cosine then is at least 0), so that such images come first. So does an image that has the
    tags because a person said so, before those that merely resemble the text. What stands in keywords, titles and
    descriptions counts as what stands in the image.

    Attributes:
        found: the images that match.
        vector: (D,) of length 1, of the text.
        floor: minimum cosine; images below it have nothing to do with the text.
        named: ids of the images with all tags that the text names, best first, at most ``queries.MAX_OFFSET``.
        named_scores: (N,) the mean scores of these tags, 0 to 1.
        is_whole: whether the text consists only of those tags.
        read: ids, ascending, of the images in which all words of the text stand, at most ``MAX_READ``.
        told: the same of those in whose keywords, titles and descriptions they stand.
        sure: the images that have the tags because a person said so; they are in ``named`` too.
        refuted: ids, ascending, of the images in ``found`` from which a person removed what the text names. They are
            behind all others; below a floor they are left out. What is read in them counts nevertheless.
    """

    cursor_length: ClassVar[int] = positions.LENGTH
    found: Selection
    vector: NDArray[np.float32]
    floor: float
    named: NDArray[np.int64]
    named_scores: NDArray[np.float64]
    is_whole: bool
    read: NDArray[np.int64] = field(default_factory=lambda: _NONE)
    told: NDArray[np.int64] = field(default_factory=lambda: _NONE)
    sure: Sure | None = None
    refuted: NDArray[np.int64] = field(default_factory=lambda: _NONE)

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images; see ``positions``."""
        listed, begin = _continued(self, after, k)
        images = _placed(listed, after, begin, k)
        ids = [image.image_id for image in images]
        found = zip(images, np.isin(ids, self.read).tolist(), np.isin(ids, self.told).tolist(), strict=True)
        images = [replace(image, is_read=read, is_told=told) for image, read, told in found]
        if self.floor == -np.inf:
            return Taken(images, self.found.total)
        if not listed.is_complete:
            return Taken(images, None)
        count = len(listed.ids)
        return Taken(images, count, None if self.found.total is None else self.found.total - count)

    def hits(self) -> NDArray[np.int64] | None:
        """Return the ids of all images of the order, best first; None if these are all that match.

        If the order is longer than ``queries.MAX_OFFSET``, return at least that many from its start.
        """
        if self.floor == -np.inf:
            return None
        for count in (_FIRST_LOOK, queries.MAX_OFFSET):
            listed, _, _, is_complete = self.listed(count)
            if is_complete:
                break
        return listed

    def listed(self, count: int) -> Listed:
        """Return at least the first ``count`` images, or all."""
        searched = self.found.without(self.refuted) if len(self.refuted) else self.found
        ids, cosines = kept_lists.nearest(searched, self.vector, max(1, count))
        is_all = not len(ids) or len(ids) == searched.total
        in_words = np.union1d(self.read, self.told)
        others = np.setdiff1d(np.union1d(self.named, in_words), ids)
        is_complete = is_all or bool(cosines[-1] < self.floor)
        # All other images are less similar than the last one, and get nothing for tags or words.
        least = -np.inf if is_all else float(cosines[-1])
        ids = np.concatenate([ids, others])
        cosines = np.concatenate([cosines, self.found.cosines(self.vector, others)])
        is_read = np.isin(ids, in_words)
        is_hit = (cosines >= self.floor) | is_read
        counted = cosines
        if self.is_whole:
            is_hit |= np.isin(ids, self.named)
        if self.sure is not None:
            is_sure = np.isin(ids, self.sure.ids)
            is_hit |= is_sure
            counted = np.where(is_sure, np.maximum(cosines, np.float32(self.sure.least)), cosines)
        scores = np.where(is_read, READ_BONUS + np.maximum(counted, 0), counted) + self._shares(ids)
        if not is_complete:
            is_hit &= scores >= least
        ids, scores, cosines = ids[is_hit], scores[is_hit], cosines[is_hit]
        order = np.lexsort((ids, -cosines, -scores))
        listed = Listed(ids[order], scores[order], cosines[order], is_complete)
        return listed.before(self.found, self.vector, self.refuted) if self.floor == -np.inf else listed

    def _shares(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (N,) how much the tags that the text names add to the scores of images."""
        shares = np.zeros(len(ids), dtype=np.float32)
        if len(self.named):
            by_id = np.argsort(self.named)
            places = np.minimum(np.searchsorted(self.named[by_id], ids), len(by_id) - 1)
            is_named = self.named[by_id][places] == ids
            shares[is_named] = TAG_WEIGHT * self.named_scores[by_id][places[is_named]]
        return shares


@overload
def mean_score(total: int, terms: Terms) -> float: ...
@overload
def mean_score(total: NDArray[np.int64], terms: Terms) -> NDArray[np.float64]: ...
def mean_score(total: int | NDArray[np.int64], terms: Terms) -> float | NDArray[np.float64]:
    """Return the score, 0 to 1, of an image whose best scores of the terms add up to ``total`` units."""
    return total / (SCORE_SCALE * max(1, len(terms)))


def _nearest(
    found: Selection, vector: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return at least the ``count`` nearest, and all that are as near as the last of them.

    Which of equal ones are left out at the end is a matter of chance. Pages that end among them would overlap.
    """
    asked = count + 1
    while True:
        ids, scores = kept_lists.nearest(found, vector, asked)
        if len(ids) < asked or scores[-1] < scores[count - 1] or asked >= 2 * queries.MAX_OFFSET:
            return ids, scores
        asked = 2 * asked


def _continued(order: ByVector | ByText, after: tuple[int, ...] | None, k: int) -> tuple[Listed, int]:
    """Return the first images of an order, and where among them the page of ``k`` images after a position begins.

    The first page looks only as far as it must. The next ones look further at once, for the pages that follow too: a
    long list is kept (``kept_lists``), and all pages from one list fit together.
    """
    if after is None:
        first = _FIRST_LOOK if order.floor != -np.inf and not order.found.is_cut and len(order.found) <= COUNTED else k
        return order.listed(max(k, first)), 0
    room = _room(after, k)
    end = after[0] + room
    # The last one is for images that came before the position since.
    for depth in (_NEXT_PAGES, _FIRST_LOOK, queries.MAX_OFFSET, 2 * queries.MAX_OFFSET):
        if depth < end:
            continue
        listed = order.listed(depth)
        begin = positions.begin(after, listed.ids, listed.scores, listed.cosines)
        if listed.is_complete or len(listed.ids) - begin >= room:
            break
    return listed, begin


def _room(after: tuple[int, ...] | None, k: int) -> int:
    """Return how many of ``k`` images after a position are within ``queries.MAX_OFFSET``."""
    return max(0, min(k, queries.MAX_OFFSET - (after[0] if after else 0)))


def _placed(listed: Listed, after: tuple[int, ...] | None, begin: int, k: int) -> list[Ranked]:
    """Return the ``k`` images of a list from ``begin`` on, each with its position; ``after``: where that is.

    Places count what is before them now, so that ``positions.begin`` can compare the next list with them.
    """
    shown = slice(begin, begin + _room(after, k))
    rows = zip(listed.ids[shown].tolist(), listed.scores[shown].tolist(), listed.cosines[shown].tolist(), strict=True)
    return [
        Ranked(
            image_id,
            score,
            positions.position(min(place, queries.MAX_OFFSET), score, cosine, image_id),
            similarity=cosine,
        )
        for place, (image_id, score, cosine) in enumerate(rows, start=begin + 1)
    ]

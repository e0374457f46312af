"""Orders by the vectors of spaces, and several of them as one, by the ranks that they give.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): an image scores the sum of 1 / (60 + rank) over the
orders in which it is. Similarities of different spaces cannot be compared with each other, ranks can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from storage.index.selection import MOST_LISTED
from storage.search import positions
from storage.search import query as queries
from storage.search.orders import ByText, ByVector, Ranked, Taken
from storage.search.views import FoundIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from storage.index.selection import Selection
    from storage.search.orders import Order

K = 60
"""Chosen by the authors on TREC's data; other values near it were hardly worse (section 2)."""


FUSED_FIRST = 1_000
"""So many images of each order are fused for a page. Each page looks for them again, and more would take longer."""

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class InSpace:
    """An order by the vectors of one space.

    Attributes:
        found: the images that match, in the index of recognition, which has their tags.
        order: of those of them that have a vector in the space.
        space: the space.
        of: what their vectors are compared with.
        generation_id: of these vectors.
    """

    cursor_length: ClassVar[int] = positions.LENGTH
    found: Selection
    order: ByText | ByVector
    space: str
    of: Literal["text", "image", "both"]
    generation_id: int

    @property
    def ranked_by(self) -> tuple[tuple[str, str, int], ...]:
        """See ``Order``."""
        return ((self.space, self.of, self.generation_id),)

    @property
    def unranked(self) -> int:
        """The number of images that match, but have no vector in the space; 0 if unknown."""
        ranked = self.order.found.total
        return 0 if ranked is None else max(0, len(self.found) - ranked)

    @property
    def ranks_all(self) -> bool:
        """Whether all images that match have a vector in the space, as far as it is known."""
        return not self.order.found.is_cut and not self.unranked

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images; see ``positions``."""
        taken = self.order.take(after, k)
        images = []
        for image in taken.images:
            assert image.similarity is not None
            images.append(replace(image, spaces=(FoundIn(self.space, self.of, image.after[0], image.similarity),)))
        return replace(taken, images=images)


@dataclass(frozen=True, slots=True)
class Fused:
    """Several orders as one, best first.

    Only the first images of each order are there. An image that an order does not have there gets nothing
    for it. The score is a share of what an image gets that is the first of each: 0 to 1.

    Attributes:
        found: the images that match.
        orders: R orders.
        ids: (N,) the images.
        scores: (N,) never increasing.
        places: (N, R) the rank in each order, from 1; 0: it is not there.
        similarities: (N, R) the cosine in each order; only where it has a rank.
        below: the number of further images that match and have a vector in one of the spaces, but are too dissimilar
            in each; None if unknown.
        is_all: whether all images that match are there.
    """

    cursor_length: ClassVar[int] = positions.LENGTH
    found: Selection
    orders: tuple[InSpace, ...]
    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    places: NDArray[np.int64]
    similarities: NDArray[np.float32]
    below: int | None
    is_all: bool

    @classmethod
    def of(cls, found: Selection, orders: Sequence[InSpace], without: int | None, first: int = FUSED_FIRST) -> Fused:
        """Fuse the ``first`` images of each of some orders of the images ``found``. Exclude the image ``without``."""
        listed = [order.order.listed(first).without(without) for order in orders]
        ids = np.unique(np.concatenate([part.ids[:first] for part in listed]))
        places = np.zeros((len(ids), len(listed)), dtype=np.int64)
        similarities = np.zeros((len(ids), len(listed)), dtype=np.float32)
        for column, part in enumerate(listed):
            rows = np.searchsorted(ids, part.ids[:first])
            places[rows, column] = np.arange(1, len(rows) + 1)
            similarities[rows, column] = part.cosines[: len(rows)]
        scores = np.where(places > 0, (K + 1) / (K + places), 0).mean(axis=1)
        best = np.lexsort((ids, -scores))
        has_listed = [part.is_complete and len(part.ids) <= first for part in listed]
        is_all = any(
            has_all and order.order.floor == -np.inf and order.ranks_all
            for has_all, order in zip(has_listed, orders, strict=True)
        )
        below = None
        if all(has_listed) and (ranked := _ranked(found, orders, without)) is not None:
            below = ranked - len(ids)
        return cls(found, tuple(orders), ids[best], scores[best], places[best], similarities[best], below, is_all)

    @property
    def ranked_by(self) -> tuple[tuple[str, str, int], ...]:
        """See ``Order``."""
        return tuple(by for order in self.orders for by in order.ranked_by)

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images; see ``positions``. Scores depend on other images, so they may change."""
        begin = 0 if after is None else positions.begin(after, self.ids, self.scores, None)
        before = after[0] if after else 0
        shown = self.ids[begin : begin + min(k, max(0, queries.MAX_OFFSET - before))]
        texts = [order.order for order in self.orders if isinstance(order.order, ByText)]
        is_read = np.isin(shown, np.concatenate([_NONE, *(text.read for text in texts)]))
        is_told = np.isin(shown, np.concatenate([_NONE, *(text.told for text in texts)]))
        images = [
            Ranked(
                image_id,
                float(self.scores[row]),
                positions.position(before + row - begin + 1, float(self.scores[row]), 0, image_id),
                is_read=bool(is_read[row - begin]),
                is_told=bool(is_told[row - begin]),
                spaces=tuple(
                    FoundIn(order.space, order.of, int(place), float(similarity))
                    for order, place, similarity in zip(
                        self.orders, self.places[row], self.similarities[row], strict=True
                    )
                    if place
                ),
            )
            for row, image_id in enumerate(shown.tolist(), start=begin)
        ]
        return Taken(images, len(self.ids), self.below)

    def hits(self) -> NDArray[np.int64] | None:
        """Return the ids of the images of the order, best first; None if all that match are in it: see ``ByText``."""
        return None if self.is_all else self.ids


def _ranked(found: Selection, orders: Sequence[InSpace], without: int | None) -> int | None:
    """Return how many of the images ``found``, but ``without``, have a vector in one of the spaces; None if unknown."""
    if any(order.ranks_all for order in orders):
        return len(found) - (without is not None and without in found)
    parts = [order.order.found for order in orders]
    if any(part.is_cut or (part.remote is not None and len(part) > MOST_LISTED) for part in parts):
        return None
    ids = np.unique(np.concatenate([part.ids() for part in parts]))
    return len(ids) - (without in ids)


def chosen_by(order: Order) -> NDArray[np.int64] | None:
    """Return the ids of all images of an order; None if these are all that match: see ``ByText.hits``."""
    if isinstance(order, Fused):
        return order.hits()
    if not isinstance(order, InSpace):
        return None
    hits = order.order.hits()
    ranked = order.order.found
    if hits is None and order.of == "text" and not order.ranks_all and ranked.remote is None:
        return ranked.ids()  # the others have no vector to compare the text with
    return hits


def spaces_of(order: Order) -> tuple[InSpace, ...]:
    """Return the orders by vectors of which an order is made."""
    if isinstance(order, InSpace):
        return (order,)
    return order.orders if isinstance(order, Fused) else ()

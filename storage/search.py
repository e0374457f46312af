"""Search: the index answers what matches and in which order, Postgres gives the page of hits its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from ramq.kit.errors import NotFoundError
from storage import query as queries
from storage.condition import HasTag
from storage.index.selection import Selection
from storage.models import SCORE_SCALE
from storage.repositories import generations, results, tags
from storage.views import Facet, Hit, ImageView, Page, SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.evaluate import Terms
    from storage.index.index import VectorIndex
    from storage.models import Generation
    from storage.query import Match
    from storage.repositories.tags import Names


@dataclass(frozen=True, slots=True)
class Ranked:
    """An image in its place. ``after`` is where the next page begins if this image is the last of its own."""

    image_id: int
    score: float
    after: tuple[int, ...]


class Ranking(Protocol):
    """An order of the images that match."""

    cursor_length: ClassVar[int]
    """How many numbers there are in ``Ranked.after``."""

    def take(self, after: tuple[int, ...] | None, k: int) -> list[Ranked]:
        """Return up to ``k`` images behind the place ``after`` (None: from the first on), fewer only at the end."""


@dataclass(frozen=True, slots=True)
class ByTags:
    """By the mean of the best scores of the terms; equal ones, and all without terms, the newest first."""

    cursor_length: ClassVar[int] = 2
    found: Selection
    terms: Terms

    def take(self, after: tuple[int, ...] | None, k: int) -> list[Ranked]:
        """Return the next images; the place is the score and the id of the last one."""
        ids, sums = self.found.best_by_tags(self.terms, k, (after[0], after[1]) if after else None)
        return [
            Ranked(image_id, _mean(total, self.terms), (total, image_id))
            for image_id, total in zip(ids.tolist(), sums.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class ByVector:
    """By likeness to a vector, ``queries.MAX_OFFSET`` images deep; less one image, which would be its own nearest."""

    cursor_length: ClassVar[int] = 1
    found: Selection
    vector: NDArray[np.float32]
    without: int | None

    def take(self, after: tuple[int, ...] | None, k: int) -> list[Ranked]:
        """Return the next images; the place is how many came before."""
        begin = after[0] if after else 0
        end = min(begin + k, queries.MAX_OFFSET)
        if begin >= end:
            return []
        ids, scores = self.found.nearest(self.vector, end + 1)
        others = [
            (image_id, score)
            for image_id, score in zip(ids.tolist(), scores.tolist(), strict=True)
            if image_id != self.without
        ]
        return [
            Ranked(image_id, score, (place,))
            for place, (image_id, score) in enumerate(others[begin:end], start=begin + 1)
        ]


class Search:
    """Answers queries. Thread-safe.

    Args:
        index: gives the index of this process; called when something is first searched for.
    """

    def __init__(self, index: Callable[[], VectorIndex]) -> None:
        self._index = index
        self._names: dict[int, Names] = {}

    def vocabulary(self, session: Session, vocabulary_id: int) -> Names:
        """Return a vocabulary, kept in memory from its first use on."""
        if vocabulary_id not in self._names:
            self._names[vocabulary_id] = tags.load(session, vocabulary_id)
        return self._names[vocabulary_id]

    def page(self, session: Session, query: SearchQuery, vector: NDArray[np.float32] | None = None) -> Page[Hit]:
        """Return a page of hits, best first, and how many images match.

        Args:
            session: a transaction.
            query: what to look for.
            vector: (D,) of length 1, in the space of the vectors of ``queries.generation``: the text or the picture.
                Made by the caller, before the transaction, because that may take a model.

        Raises:
            UsageError: see ``storage.query.resolve``; the image to be similar to is not there or has no vector.
        """
        match = self._match(session, query, vector)
        if match is None:
            return Page([], total=0)
        found, ranking = self._ranked(session, query, match, vector)
        after = queries.decode_cursor(query.cursor, ranking.cursor_length) if query.cursor else None
        hits: list[Hit] = []
        while True:
            missing = query.limit - len(hits)
            ranked = ranking.take(after, missing + 1)
            shown = ranked[:missing]
            # What was deleted since the view was taken is left out, and others take its place.
            hits += self.hits(session, match, query, {image.image_id: image.score for image in shown})
            is_last = len(ranked) <= missing
            after = shown[-1].after if shown else after
            if is_last or len(hits) == query.limit:
                break
        total = len(found) - (query.like is not None and query.like in found)
        return Page(hits, None if is_last or after is None else queries.encode_cursor(after), total)

    def everything(
        self, session: Session, query: SearchQuery, vector: NDArray[np.float32] | None = None
    ) -> tuple[Match, Iterator[tuple[int, float]]] | None:
        """Return all that ``page`` would, on all its pages, as (image id, score); None while nothing was recorded.

        By id, except where a vector ranks. All of it is of one moment and asks for no transaction; ``hits`` gives it
        content. Memory does not grow with the number of images.
        """
        match = self._match(session, query, vector)
        if match is None:
            return None
        found, ranking = self._ranked(session, query, match, vector)
        if isinstance(ranking, ByTags):
            return match, ((image_id, _mean(total, match.terms)) for image_id, total in found.by_id(match.terms))
        return match, ((image.image_id, image.score) for image in ranking.take(None, queries.MAX_OFFSET))

    def hits(self, session: Session, match: Match, query: SearchQuery, scores: dict[int, float]) -> list[Hit]:
        """Return hits for images with scores, in this order; deleted images are left out."""
        return results.hits(session, match.generation.id, scores, match.names, query.threshold)

    def facets(self, session: Session, query: SearchQuery, limit: int) -> list[Facet]:
        """Count the tags of all images that match the query's tags and filters; its text does not narrow.

        The most frequent first, ``limit`` at most; what no image has is left out.
        """
        match = queries.resolve(session, query, self.vocabulary)
        if match is None:
            return []
        counts = self._selection(session, match).count_tags(match.names.all_units(query.threshold))
        most = np.argsort(-counts, kind="stable")[:limit]
        return [_facet(match.names, tag_id, int(counts[tag_id])) for tag_id in most.tolist() if counts[tag_id]]

    def suggest(self, session: Session, prefix: str, limit: int) -> list[Facet]:
        """Return tags whose name begins with ``prefix``, with how many images have them."""
        generation = generations.default(session)
        if generation is None or not prefix.strip():
            return []
        names = self.vocabulary(session, generation.vocabulary_id)
        ids = tags.completions(session, generation.vocabulary_id, prefix, limit)

        def count(tag_id: int) -> int:
            has = HasTag(((tag_id, names.units(tag_id, None)),))
            return len(self._selection(session, queries.Match(generation, names, has, ())))

        return [_facet(names, tag_id, count(tag_id)) for tag_id in ids]

    def image(self, session: Session, image_id: int) -> ImageView:
        """Return one image. Raises ``NotFoundError``."""
        return results.image(session, image_id, self.vocabulary)

    def _match(self, session: Session, query: SearchQuery, vector: NDArray[np.float32] | None) -> Match | None:
        if query.text and vector is None:
            return None  # the caller saw no generation yet whose text encoder to take
        return queries.resolve(session, query, self.vocabulary)

    def _selection(self, session: Session, match: Match) -> Selection:
        return Selection.of(self._index().view(session, match.generation.id), match.condition)

    def _ranked(
        self, session: Session, query: SearchQuery, match: Match, vector: NDArray[np.float32] | None
    ) -> tuple[Selection, Ranking]:
        if vector is None and query.like is not None:
            vector = self._vector_of(session, match.generation, query.like)
        found = self._selection(session, match)
        return found, ByTags(found, match.terms) if vector is None else ByVector(found, vector, query.like)

    def _vector_of(self, session: Session, generation: Generation, image_id: int) -> NDArray[np.float32]:
        results.place(session, image_id)
        vector = self._index().vector_of(session, generation.id, image_id)
        if vector is None:
            raise NotFoundError(f"image {image_id} has no vector of {generation.model} to compare with")
        return vector


def _mean(total: int, terms: Terms) -> float:
    return total / (SCORE_SCALE * len(terms)) if terms else 0.0


def _facet(names: Names, tag_id: int, count: int) -> Facet:
    return Facet(tag_id, names.names[tag_id], names.names_zh[tag_id], count)

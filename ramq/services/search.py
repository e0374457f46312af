"""Searching."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ramq.services import captions
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import generations
from storage.search import query as queries
from storage.search.language import wanted_tags
from storage.search.search import Search, between
from storage.search.views import Facet, HitPage, SearchQuery, asking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ramq.services.query_models import QueryModels
    from storage.search.orders import Ranked
    from storage.search.views import Hit

EXAMPLES = ("castle", "palace", "daisy")
"""Tags that most vocabularies have, for examples of queries."""


class _WithVectors(NamedTuple):
    """A query, the vector (D,) of its text, and vectors (M, D) of some names of tags; None without a text."""

    query: SearchQuery
    text: NDArray[np.float32] | None
    names: NDArray[np.float32] | None


class SearchClient:
    """Searches. Thread-safe.

    Args:
        engine: the database that is searched: the database itself, or a standby of it.
        search: its reader.
        models: encode texts and uploaded pictures.
    """

    def __init__(
        self,
        engine: Engine,
        search: Search,
        models: QueryModels,
    ) -> None:
        self._engine = engine
        self._search = search
        self._models = models

    def read(self, query: SearchQuery, text: str | None, *, is_strict: bool = False) -> SearchQuery:
        """Return ``query``, narrowed further by what a person typed, to be searched for.

        What cannot be read as tags and filters is searched as words, and the query's ``notes`` say so. So are tags
        beside words if no image has them.

        Args:
            query: what is asked for beside the text.
            text: in the query language, or anything else.
            is_strict: whether the text is a program's: what cannot be read is an error then.

        Raises:
            UsageError: ``query`` names what is not there; with ``is_strict`` also ``text``.
        """
        if is_strict:
            return asking(query, text)
        if not text or not text.strip():
            return query
        with unit_of_work(self._engine) as session:
            asked = queries.read(session, query, text, self._search.vocabulary)
            if not asked.text or next(wanted_tags(asked.where), None) is None or self._search.count(session, asked):
                return asked
            # "We are #1" names tag 1 by accident: words that find something are better than no hits at all.
            as_words = queries.read(session, query, text, self._search.vocabulary, are_tags_words=True)
            return as_words if self._search.count(session, as_words) else asked

    def page(self, query: SearchQuery) -> HitPage:
        """Return a page of hits, best first. Raises ``UsageError`` and its kin for what the query names wrongly."""
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self._engine) as session:
            page = self._search.page(session, query, *vectors)
        return _shown(page, query)

    def page_with_facets(self, query: SearchQuery, facets: int) -> tuple[HitPage, list[Facet]]:
        """Return what ``page`` does, a text's hits counted, and the ``facets`` most frequent tags of all hits."""
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self._engine) as session:
            page, counted = self._search.page_with_facets(session, query, facets, *vectors)
        return _shown(page, query), counted

    def export(self, query: SearchQuery) -> tuple[queries.Match | None, Iterator[Hit]]:
        """Return what all hits were made by, and the hits on all pages, by id, or best first where a vector ranks.

        What was found when it was called, with the content of when it is read; what is deleted until then is left out.
        Memory does not grow with their number. Nothing has made any while nothing was recorded.
        """
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self._engine) as session:
            found = self._search.all_hits(session, query, *vectors)
        return (None, iter(())) if found is None else (found[0], self._contents(query, *found))

    def _contents(self, query: SearchQuery, match: queries.Match, found: Iterable[Ranked]) -> Iterator[Hit]:
        left = iter(found)
        while images := list(islice(left, queries.MAX_LIMIT)):
            # A transaction for each, since whoever takes the hits may take their time.
            with unit_of_work(self._engine) as session:
                hits = self._search.hits(session, match, query, images)
            yield from map(captions.as_corrected, hits)

    def _with_vectors_of_text(self, query: SearchQuery) -> _WithVectors:
        """Return the query, the vector of its text, and those of some tags' names, which tell how near is near.

        The query is bound to the generation that they are of: another may serve before the search begins.
        """
        if not query.text:
            return _WithVectors(query, None, None)
        queries.check(query)
        with unit_of_work(self._engine) as session:
            generation = queries.generation(session, query)
            if generation is None:
                return _WithVectors(query, None, None)
            vocabulary = self._search.vocabulary(session, generation.vocabulary_id)
        return _WithVectors(
            replace(query, read_for=generation.id),
            self._models.encode_text(generation.model, query.text),
            self._models.encode_names(generation.model, vocabulary),
        )

    def by_image(self, picture: bytes, query: SearchQuery) -> HitPage:
        """Return the images nearest to a picture, and to the query's text if it has one.

        Raises:
            UsageError: it is no picture; the query wants neighbours of another one as well.
        """
        if query.like is not None:
            raise UsageError("search by a picture or by an image of the archive, not by both")
        with unit_of_work(self._engine) as session:
            generation = queries.generation(session, query)
        if generation is None:
            return HitPage([])
        vector = self._models.encode_picture(picture, generation)
        query, text, _ = self._with_vectors_of_text(replace(query, read_for=generation.id))
        if text is not None:
            vector = between(vector, text)
        with unit_of_work(self._engine) as session:
            page = self._search.page(session, replace(query, text=None), vector)
        return _shown(page, query)

    def facets(self, query: SearchQuery, limit: int = 50) -> list[Facet]:
        """Count the tags of the images that a search finds, the most frequent first."""
        query, *vectors = self._with_vectors_of_text(query)
        with unit_of_work(self._engine) as session:
            return self._search.facets(session, query, limit, *vectors)

    def suggest_tags(self, prefix: str, limit: int = 10) -> list[Facet]:
        """Return tags whose name begins with ``prefix``, with how many images have them."""
        with unit_of_work(self._engine) as session:
            return self._search.suggest(session, prefix, limit)

    def example_tags(self) -> list[str]:
        """Return three names of tags that the generation in use has, for examples of queries."""
        with unit_of_work(self._engine) as session:
            generation = generations.default(session)
            names = None if generation is None else self._search.vocabulary(session, generation.vocabulary_id)
        return list(EXAMPLES) if names is None else names.examples(EXAMPLES)


def _shown(page: HitPage, query: SearchQuery) -> HitPage:
    """Return a page as people see it: with captions that fit the tags, and how the query was read."""
    return replace(page, items=[captions.as_corrected(hit) for hit in page.items], notes=query.notes)

"""Search by text, tags and similarity."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ramq.services import captions
from ramq.services.region_warmer import RegionWarmer
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import generations
from storage.results.spaces import TEXT
from storage.search import compared as comparing
from storage.search import query as queries
from storage.search.compared import Compared
from storage.search.counted_regions import regions_of
from storage.search.language import wanted_tags
from storage.search.notes import noting
from storage.search.views import Completion, Facet, HitPage, RegionFacets, SearchQuery, asking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.query_models import QueryModels
    from storage.search.orders import Ranked
    from storage.search.search import Search
    from storage.search.views import Hit, ReadMatch, RegionMatch

EXAMPLES = ("castle", "palace", "daisy")
"""Tags of most vocabularies, for example queries."""


class _Encoded(NamedTuple):
    """A query, and its text and picture as vectors, in each space that compares them."""

    query: SearchQuery
    compared: Sequence[Compared]


class SearchClient:
    """Searches. Thread-safe.

    Args:
        engine: the database to search: the database itself, or a standby of it.
        search: its reader.
        models: the models that encode texts and uploaded pictures.
        text_spaces: the spaces in which texts are compared if a query names none.
    """

    def __init__(
        self, engine: Engine, search: Search, models: QueryModels, text_spaces: Sequence[str] = (TEXT,)
    ) -> None:
        self._engine = engine
        self._search = search
        self._models = models
        self._text_spaces = text_spaces
        self.region_warmer = RegionWarmer(engine, lambda: search.regions)

    def read(self, query: SearchQuery, text: str | None, *, is_strict: bool = False) -> SearchQuery:
        """Return ``query``, narrowed further by the typed text.

        Text that is not valid in the query language is searched as words, and the query's ``notes`` say so. The same
        happens to tags next to words, if no image matches them.

        Args:
            query: the other terms of the search.
            text: a text in the query language, or any other text.
            is_strict: raise an error if the text is not valid, which is useful for programs.

        Raises:
            UsageError: ``query`` names something that does not exist, or, with ``is_strict``, ``text`` is not valid.
        """
        if is_strict:
            query, text = asking(query, text), None
        with unit_of_work(self._engine) as session:
            asked = self._read(session, query, text) if text and text.strip() else query
            return noting(session, asked, self._search.vocabulary)

    def _read(self, session: Session, query: SearchQuery, text: str) -> SearchQuery:
        asked = queries.read(session, query, text, self._search.vocabulary)
        if not asked.text or next(wanted_tags(asked.where), None) is None or self._search.count(session, asked):
            return asked
        # "We are #1" names tag 1 only by accident. Hits for the words are better than no hits at all.
        as_words = queries.read(session, query, text, self._search.vocabulary, are_tags_words=True)
        return as_words if self._search.count(session, as_words) else asked

    def page(self, query: SearchQuery) -> HitPage:
        """Return a page of hits, best first. Raises ``UsageError`` if the query names something that does not exist."""
        query, compared = self._encoded(query)
        with unit_of_work(self._engine) as session:
            page = self._search.page(session, query, compared)
        self.region_warmer.wake()
        return _shown(page, query)

    def page_with_facets(
        self, query: SearchQuery, facets: int, picture: bytes | None = None
    ) -> tuple[HitPage, list[Facet], RegionFacets | None]:
        """Return a page, and what ``facets`` and ``region_facets`` return, whose hits are counted.

        With a ``picture``, the page is that of ``by_image``.
        """
        query, compared = self._encoded(query, picture)
        with unit_of_work(self._engine) as session:
            page, counted, located = self._search.page_with_facets(session, query, facets, compared)
        self.region_warmer.wake()
        return _shown(page, query), counted, located

    def by_image(self, picture: bytes, query: SearchQuery) -> HitPage:
        """Return the images most similar to a picture, and to the query's text if it has one.

        Raises:
            UsageError: the file is not a picture, or the query also asks for images similar to another one.
        """
        query, compared = self._encoded(query, picture)
        with unit_of_work(self._engine) as session:
            page = self._search.page(session, query, compared)
        return _shown(page, query)

    def lines(self, query: SearchQuery, image_id: int) -> list[ReadMatch]:
        """Return the lines of text in one image that match a query. Raises ``UsageError``: see ``page``."""
        with unit_of_work(self._engine) as session:
            return self._search.lines(session, query, image_id)

    def regions(self, query: SearchQuery, image_id: int) -> list[RegionMatch]:
        """Return the regions in one image that a query is about, as ``Hit.regions`` has them.

        The image need not be a hit: other parts of the query may exclude it. Raises ``UsageError``: see ``page``.
        """
        with unit_of_work(self._engine) as session:
            generation = queries.generation(session, query)
            if generation is None:
                return []
            names = self._search.vocabulary(session, generation.vocabulary_id)
            return regions_of(session, query.where, names, [image_id]).get(image_id, [])

    def export(self, query: SearchQuery) -> tuple[queries.Match | None, Iterator[Hit]]:
        """Return the generation and vocabulary of the hits, and an iterator over all hits.

        The generation is None if nothing is recorded. Hits are ordered by id, or best first if a vector ranks them.
        The set of hits is fixed when this is called. Their content is read later, during the iteration, and hits that
        were deleted until then are skipped. Memory use does not grow with the number of hits.
        """
        query, compared = self._encoded(query)
        with unit_of_work(self._engine) as session:
            found = self._search.all_hits(session, query, compared)
        return (None, iter(())) if found is None else (found[0], self._contents(query, *found))

    def image_ids(self, query: SearchQuery) -> list[int]:
        """Return the ids of all hits that ``export`` returns."""
        query, compared = self._encoded(query)
        with unit_of_work(self._engine) as session:
            found = self._search.all_hits(session, query, compared)
        return [] if found is None else [ranked.image_id for ranked in found[1]]

    def _contents(self, query: SearchQuery, match: queries.Match, found: Iterable[Ranked]) -> Iterator[Hit]:
        left = iter(found)
        while images := list(islice(left, queries.MAX_LIMIT)):
            # One transaction for each batch, because the consumer of the iterator may be slow.
            with unit_of_work(self._engine) as session:
                hits = self._search.hits(session, match, query, images)
            yield from map(captions.as_corrected, hits)

    def _encoded(self, query: SearchQuery, picture: bytes | None = None) -> _Encoded:
        """Return the query, and its text and the picture as vectors, which are made outside of a transaction.

        The query is bound to the generation of these vectors, because another one may be in use when the search starts.
        """
        if picture is not None and (query.like is not None or query.like_region is not None):
            raise UsageError("cannot search by a picture and by one of the archive at once; omit one of them")
        if not query.text and picture is None:
            return _Encoded(query, ())
        queries.check(query)
        with unit_of_work(self._engine) as session:
            recognised = queries.generation(session, query)
            if recognised is None:
                return _Encoded(query, ())
            texts = comparing.of_text(session, query, self._text_spaces, self._models.compares_texts)
            pictures = {} if picture is None else comparing.of_picture(session, query)
            vocabulary = self._search.vocabulary(session, recognised.vocabulary_id) if texts else None
        # Beside an image there is a cutoff only if it is asked for.
        has_floor = query.relevance != 0 if picture is None and query.like is None else bool(query.relevance)
        compared = [
            Compared(
                space,
                "text",
                self._models.encode_text(query.text or "", generation),
                generation.id,
                self._models.encode_names(vocabulary, generation) if has_floor and vocabulary else None,
            )
            for space, generation in texts.items()
        ]
        if picture is not None:
            vectors = self._models.encode_picture(picture, list(pictures.values()))
            compared += [
                Compared(space, "image", vector, generation.id)
                for (space, generation), vector in zip(pictures.items(), vectors, strict=True)
            ]
        return _Encoded(replace(query, read_for=recognised.id), compared)

    def spaces(self) -> tuple[str, ...]:
        """Return the spaces that images have vectors in; ``text`` is always one of them."""
        with unit_of_work(self._engine) as session:
            return comparing.serving(session)

    def facets(self, query: SearchQuery, limit: int = 50) -> list[Facet]:
        """Return the tags of the images that a search finds with their counts, most frequent first."""
        query, compared = self._encoded(query)
        with unit_of_work(self._engine) as session:
            return self._search.facets(session, query, limit, compared)

    def region_facets(self, query: SearchQuery) -> RegionFacets | None:
        """Return the located tags of the images whose tags ``facets`` counts; None if they are too many to count."""
        query, compared = self._encoded(query)
        with unit_of_work(self._engine) as session:
            found = self._search.region_facets(session, query, compared)
        self.region_warmer.wake()
        return found

    def suggest_tags(self, prefix: str, limit: int = 10) -> list[Completion]:
        """Return tags whose names start with ``prefix``, with the numbers of their images."""
        with unit_of_work(self._engine) as session:
            return self._search.suggest(session, prefix, limit)

    def example_tags(self) -> list[str]:
        """Return the names of three tags of the generation in use, for example queries."""
        with unit_of_work(self._engine) as session:
            generation = generations.default(session)
            names = None if generation is None else self._search.vocabulary(session, generation.vocabulary_id)
        return list(EXAMPLES) if names is None else names.examples(EXAMPLES)


def _shown(page: HitPage, query: SearchQuery) -> HitPage:
    """Return a page for display, with captions that match the corrected tags, and the notes of the query."""
    return replace(page, items=[captions.as_corrected(hit) for hit in page.items], notes=query.notes)

"""Search by text, tags and similarity."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ramq.services.offers import Offers
from ramq.services.region_warmer import RegionWarmer
from storage.batches import batched
from storage.errors import ModelMissingError, NoGenerationError, UsageError
from storage.page import Page
from storage.remembered import read_only
from storage.results import generations
from storage.results.spaces import TEXT, made_by
from storage.search import compared as comparing
from storage.search import query as queries
from storage.search.compared import Compared
from storage.search.counted_regions import regions_of
from storage.search.cursors import decode_cursor, encode_cursor
from storage.search.language import wanted_tags
from storage.search.language.reading import Note
from storage.search.notes import noting
from storage.search.views import (
    Completion,
    Facet,
    Faceted,
    FileFacet,
    FileFacets,
    HitPage,
    RegionFacets,
    SearchQuery,
    asking,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.query_models import QueryModels
    from ramq.services.search_readers import SearchReaders
    from storage.results.tags import Names
    from storage.search.orders import Ranked
    from storage.search.search import Search
    from storage.search.views import Hit, ReadMatch, RegionMatch
    from storage.tables import Generation

EXAMPLES = ("castle", "palace", "daisy")
"""Tags of most vocabularies, for example queries."""

_OF_TAGS = "tags"
"""What cursors of tags are bound to, so that searches refuse them."""

_TRIES = 3
"""So often a search begins again because somebody dropped a generation while it ran."""

Found = TypeVar("Found")


class _Encoded(NamedTuple):
    """A query, and its text and picture as vectors, in each space that compares them."""

    query: SearchQuery
    compared: Sequence[Compared]


class SearchClient:
    """Searches. Thread-safe.

    Args:
        readers: of the databases that searches read.
        models: the models that encode texts and uploaded pictures.
        text_spaces: the spaces in which texts are compared if a query names none.
        answered: is told of each search for a page, and what its text and picture are compared with. It must be quick.
    """

    def __init__(
        self,
        readers: SearchReaders,
        models: QueryModels,
        text_spaces: Sequence[str] = (TEXT,),
        answered: Callable[[SearchQuery, Sequence[Compared]], None] = lambda *_: None,
    ) -> None:
        self._readers = readers
        self._models = models
        self._text_spaces = text_spaces
        self._answered = answered
        self.region_warmer = RegionWarmer(readers.warmed)

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

        def read(session: Session, search: Search) -> SearchQuery:
            asked = _read(session, search, query, text) if text and text.strip() else query
            return noting(session, asked, search.vocabulary)

        return self._readers.look(read)

    def page(self, query: SearchQuery) -> HitPage:
        """Return a page of hits, best first. Raises ``UsageError`` if the query names something that does not exist."""
        page = self._answer(query, self._page)
        self.region_warmer.wake()
        return page

    def page_with_facets(self, query: SearchQuery, facets: int, picture: bytes | None = None) -> Faceted:
        """Return a page, and what all its facets return, whose hits are counted.

        With a ``picture``, the page is that of ``by_image``.
        """

        def find(session: Session, search: Search, asked: _Encoded) -> Faceted:
            found = search.page_with_facets(session, asked.query, facets, asked.compared)
            self._answered(asked.query, asked.compared)
            return found._replace(page=self._shown(session, search, found.page, asked.query))

        found = self._answer(query, find, picture)
        self.region_warmer.wake()
        return found

    def by_image(self, picture: bytes, query: SearchQuery) -> HitPage:
        """Return the images most similar to a picture, and to the query's text if it has one.

        Raises:
            UsageError: the file is not a picture, or the query also asks for images similar to another one.
        """
        return self._answer(query, self._page, picture)

    def _page(self, session: Session, search: Search, asked: _Encoded) -> HitPage:
        page = search.page(session, *asked)
        self._answered(*asked)
        return self._shown(session, search, page, asked.query)

    def _shown(self, session: Session, search: Search, page: HitPage, query: SearchQuery) -> HitPage:
        """Return a page for display, with captions that fit what people said, and all notes."""
        notes = (*query.notes, *page.notes, *([] if page.ended is None else [page.ended]))
        return replace(page, items=self._readers.as_corrected(session, search, page.items), notes=notes)

    def lines(self, query: SearchQuery, image_id: int) -> list[ReadMatch]:
        """Return the lines of text in one image that match a query. Raises ``UsageError``: see ``page``."""
        return self._readers.look(lambda session, search: search.lines(session, query, image_id))

    def regions(self, query: SearchQuery, image_id: int) -> list[RegionMatch]:
        """Return the regions in one image that a query is about, as ``Hit.regions`` has them.

        The image need not be a hit: other parts of the query may exclude it. Raises ``UsageError``: see ``page``.
        """

        def find(session: Session, search: Search) -> list[RegionMatch]:
            generation = queries.generation(session, query)
            if generation is None:
                return []
            names = search.vocabulary(session, generation.vocabulary_id)
            return regions_of(session, query.where, names, [image_id]).get(image_id, [])

        return self._readers.look(find)

    def export(self, query: SearchQuery) -> tuple[queries.Match | None, Iterator[Hit]]:
        """Return the generation and vocabulary of the hits, and an iterator over all hits.

        The generation is None if nothing is recorded. Hits are ordered by id, or best first if a vector ranks them.
        The set of hits is fixed when this is called. Their content is read later, during the iteration, and hits that
        were deleted until then are skipped. Memory use does not grow with the number of hits.
        """
        found = self._all_hits(query)
        return (None, iter(())) if found is None else (found[0], self._contents(query, *found))

    def _all_hits(self, query: SearchQuery) -> tuple[queries.Match, Iterable[Ranked]] | None:
        return self._answer(query, lambda session, search, asked: search.all_hits(session, *asked), is_strict=True)

    def image_ids(self, query: SearchQuery) -> list[int]:
        """Return the ids of all hits that ``export`` returns."""
        found = self._all_hits(query)
        return [] if found is None else [ranked.image_id for ranked in found[1]]

    def id_batches(self, query: SearchQuery, size: int) -> Iterator[list[int]]:
        """Yield the ids of all hits that ``export`` returns, ``size`` at a time.

        They are those of the moment of the call. Memory use does not grow with their number.
        """
        found = self._all_hits(query)
        return ([ranked.image_id for ranked in some] for some in batched(() if found is None else found[1], size))

    def _contents(self, query: SearchQuery, match: queries.Match, found: Iterable[Ranked]) -> Iterator[Hit]:
        for images in batched(found, queries.MAX_LIMIT):
            # One transaction for each batch, because the consumer of the iterator may be slow.
            yield from self._readers.look(partial(self._content, match, query, images))

    def _content(
        self, match: queries.Match, query: SearchQuery, images: Sequence[Ranked], session: Session, search: Search
    ) -> list[Hit]:
        return self._readers.as_corrected(session, search, search.hits(session, match, query, images))

    def _answer(
        self,
        query: SearchQuery,
        find: Callable[[Session, Search, _Encoded], Found],
        picture: bytes | None = None,
        *,
        is_strict: bool = False,
    ) -> Found:
        """Return what ``find`` finds. Begin again if a generation that the search began with was dropped meanwhile."""

        def answer(engine: Engine) -> Found:
            tried = query
            for left in reversed(range(_TRIES)):
                try:
                    asked = self._encoded(engine, tried, picture, is_strict=is_strict)
                    with read_only(engine) as session:
                        return find(session, self._readers.search_of(engine), asked)
                except NoGenerationError:
                    if not left:
                        raise
                    tried = replace(tried, read_for=None)
            raise AssertionError  # the last round returned or raised

        return self._readers.read(answer)

    def _encoded(self, engine: Engine, query: SearchQuery, picture: bytes | None, *, is_strict: bool) -> _Encoded:
        """Return the query, and its text and the picture as vectors, which are made outside of a transaction.

        The query is bound to the generation of these vectors, because another one may be in use when the search starts.
        A space that the query does not name is left out, with a note, if this machine lacks its model, unless
        ``is_strict``.
        """
        if picture is not None and (query.like is not None or query.like_region is not None):
            raise UsageError("cannot search by a picture and by one of the archive at once; omit one of them")
        if not query.text and picture is None:
            return _Encoded(query, ())
        queries.check(query)
        with read_only(engine) as session:
            recognised = queries.generation(session, query)
            if recognised is None:
                return _Encoded(query, ())
            texts = comparing.of_text(session, query, self._text_spaces, self._models.compares_texts)
            pictures = {} if picture is None else comparing.of_picture(session, query)
            vocabulary = (
                self._readers.search_of(engine).vocabulary(session, recognised.vocabulary_id) if texts else None
            )
        # Beside an image there is a cutoff only if it is asked for.
        has_floor = query.relevance != 0 if picture is None and query.like is None else bool(query.relevance)
        may_leave_out = not (query.space or is_strict)

        def texts_in(places: dict[str, Generation]) -> list[Compared]:
            return [self._text_in(query, *place, vocabulary if has_floor else None) for place in places.items()]

        compared, notes = _in_each(texts_in, texts, recognised, may_leave_out=may_leave_out)
        if picture is not None:
            pictured, further = _in_each(
                lambda places: self._pictured(picture, places), pictures, recognised, may_leave_out=may_leave_out
            )
            compared, notes = [*compared, *pictured], [*notes, *further]
        return _Encoded(replace(query, read_for=recognised.id, notes=(*query.notes, *notes)), compared)

    def _text_in(self, query: SearchQuery, space: str, generation: Generation, names: Names | None) -> Compared:
        vector = self._models.encode_text(query.text or "", generation)
        named = None if names is None else self._models.encode_names(names, generation)
        return Compared(space, "text", vector, generation.id, named)

    def _pictured(self, picture: bytes, places: dict[str, Generation]) -> list[Compared]:
        vectors = self._models.encode_picture(picture, list(places.values()))
        return [
            Compared(space, "image", vector, generation.id)
            for (space, generation), vector in zip(places.items(), vectors, strict=True)
        ]

    def spaces(self) -> tuple[str, ...]:
        """Return the spaces that images have vectors in; ``text`` is always one of them."""
        return self._readers.look(lambda session, _: comparing.serving(session))

    def offers(self) -> Offers:
        """Return what a form for a search can offer."""

        def find(session: Session, search: Search) -> Offers:
            generation = generations.default(session)
            names = None if generation is None else search.vocabulary(session, generation.vocabulary_id)
            return Offers(
                tuple(EXAMPLES if names is None else names.examples(EXAMPLES)),
                comparing.serving(session),
                comparing.comparing_texts(session, self._models.compares_texts),
            )

        return self._readers.look(find)

    def made_by(self, space: str) -> str:
        """Return the command that makes further vectors in a space, by the model whose vectors are in use."""
        generation = self._readers.look(lambda session, _: generations.default(session, space))
        return made_by(space, None if generation is None else generation.model)

    def facets(self, query: SearchQuery, limit: int = 50) -> list[Facet]:
        """Return the tags of the images that a search finds with their counts, most frequent first."""
        return self.facet_page(query, limit=limit).items

    def facet_page(self, query: SearchQuery, *, limit: int = 50, cursor: str | None = None) -> Page[Facet]:
        """Return a page of ``facets``.

        Nothing comes twice, and nothing is left out, but tags whose count changes between two pages.

        Args:
            query: whose hits are counted.
            limit: at most so many tags.
            cursor: ``next_cursor`` of the page before.

        Raises:
            UsageError: the cursor is of another list.
        """
        after = None
        if cursor:
            count, tag_id = decode_cursor(cursor, 2, _OF_TAGS)
            after = tag_id, count
        found = self._answer(
            query,
            lambda session, search, asked: search.facets(session, asked.query, limit + 1, asked.compared, after),
        )
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        return Page(found[:limit], encode_cursor((last.count, last.id), _OF_TAGS))

    def region_facets(self, query: SearchQuery) -> RegionFacets | None:
        """Return the located tags of the images whose tags ``facets`` counts; None if they are too many to count."""
        found = self._answer(query, lambda session, search, asked: search.region_facets(session, *asked))
        self.region_warmer.wake()
        return found

    def file_facets(self, query: SearchQuery, limit: int = 20) -> FileFacets:
        """Return the images whose tags ``facets`` counts by date, camera, archive and folder; ``limit`` of each."""
        return self._answer(
            query, lambda session, search, asked: search.file_facets(session, asked.query, limit, asked.compared)
        )

    def suggest_keywords(self, typed: str, limit: int = 10) -> list[FileFacet]:
        """Return keywords of people and of files that begin as a typed text, the most frequent first.

        None if there are too many keywords to look through.
        """
        try:
            return self._readers.look(lambda session, search: search.keywords.beginning(session, typed, limit))
        except UsageError:
            return []

    def suggest_tags(self, prefix: str, limit: int = 10) -> list[Completion]:
        """Return tags whose names start with ``prefix``, with the numbers of their images."""
        return self._readers.look(lambda session, search: search.suggest(session, prefix, limit))


def _read(session: Session, search: Search, query: SearchQuery, text: str) -> SearchQuery:
    asked = queries.read(session, query, text, search.vocabulary)
    if not asked.text or next(wanted_tags(asked.where), None) is None or search.count(session, asked):
        return asked
    # "We are #1" names tag 1 only by accident. Hits for the words are better than no hits at all.
    as_words = queries.read(session, query, text, search.vocabulary, are_tags_words=True)
    return as_words if search.count(session, as_words) else asked


def _in_each(
    of: Callable[[dict[str, Generation]], list[Compared]],
    places: dict[str, Generation],
    recognised: Generation,
    *,
    may_leave_out: bool,
) -> tuple[list[Compared], list[Note]]:
    """Return what ``of`` gives for spaces, and a note for each that was left out because its model is missing here.

    If none is left, the space of recognition is taken. Raises ``ModelMissingError`` if that is missing too.
    """
    try:
        return of(places), []
    except ModelMissingError:
        if not may_leave_out:
            raise
    found: list[Compared] = []
    notes: list[Note] = []
    for space, generation in places.items():
        try:
            found += of({space: generation})
        except ModelMissingError as error:
            notes.append(Note(f"The space {space} was left out: {error}."))
    return (found or of({TEXT: recognised})), notes

"""Search: the index returns matching images in order, PostgreSQL the content of a page of hits."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.index.condition import All, InArchive, Not, OneOf
from storage.index.selection import Selection, is_following, most_common
from storage.results import copies, generations, lookup, metadata, near_copies, policies, regions, tags, vocabularies
from storage.results.reading_search import Having
from storage.search import query as queries
from storage.search.by_date import ByDate
from storage.search.counted_regions import regions_of
from storage.search.file_facets import file_facets
from storage.search.fusion import chosen_by
from storage.search.having import having
from storage.search.hits import hits_of, lines_of
from storage.search.kept_images import KeptImages
from storage.search.kept_keywords import KeptKeywords
from storage.search.kept_metadata import KeptMetadata
from storage.search.kept_regions import FEW, KeptRegions
from storage.search.like_region import LikeRegion
from storage.search.ordering import Ordering
from storage.search.orders import ByReading, ByTags, Ranked, mean_score
from storage.search.pages import page_of
from storage.search.phrases import all_of, words_of_text
from storage.search.region_facets import by_rules, region_facets
from storage.search.special_tags import most_special
from storage.search.text_in_pictures import TextInPictures
from storage.search.told import with_told
from storage.search.views import (
    Completion,
    Facet,
    Faceted,
    FileFacets,
    Hit,
    HitPage,
    ReadMatch,
    RegionFacets,
    SearchQuery,
)
from storage.search.why import why_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.index.index import VectorIndex
    from storage.results.copies import Copies
    from storage.results.naming import Hierarchy
    from storage.results.tags import Names
    from storage.results.views import ImageView
    from storage.search.compared import Compared
    from storage.search.orders import Order
    from storage.search.query import Match

_CANDIDATES = 4
"""Number of names to count for each one that is suggested."""

LOCATED_TAGS = 12
"""Number of located tags that are counted."""

MOST_OF_FILES = 20
"""Cameras, archives and folders that are counted for a page, each."""


class Search:
    """Answers queries. Thread-safe.

    Args:
        index: returns the index of this process; called at the first search.
        hierarchy: knows which tags are kinds of others; None: no tag is.
    """

    def __init__(self, index: Callable[[], VectorIndex], hierarchy: Hierarchy | None = None) -> None:
        self._index = index
        self._hierarchy = hierarchy
        self._names: dict[int, tuple[int, Names]] = {}
        self._kept = KeptImages()
        self._ordering = Ordering(index, self._kept)
        self._metadata = KeptMetadata()
        self.keywords = KeptKeywords()
        self.regions = KeptRegions()

    def vocabulary(self, session: Session, vocabulary_id: int) -> Names:
        """Return a vocabulary. It is cached after its first use, until its synonyms change."""
        edition = vocabularies.edition(session, vocabulary_id)
        kept = self._names.get(vocabulary_id)
        if kept is None or kept[0] != edition:
            kept = self._names[vocabulary_id] = (edition, tags.load(session, vocabulary_id, self._hierarchy))
        return kept[1]

    def names_of(self, session: Session, generation_id: int) -> Names:
        """Return the vocabulary of a generation. Raises ``NoGenerationError``."""
        return self.vocabulary(session, generations.get(session, generation_id).vocabulary_id)

    def over(self, index: Callable[[], VectorIndex]) -> Search:
        """Return the same searches over another index. What is kept of the database is shared."""
        other = copy(self)
        vars(other).update(_index=index, _ordering=Ordering(index, self._kept))
        return other

    def page(self, session: Session, query: SearchQuery, compared: Sequence[Compared] = ()) -> HitPage:
        """Return a page of hits, best first, and the total number of hits.

        Args:
            session: a transaction.
            query: what to look for.
            compared: the query's text and then its picture, in each space that compares them (``compared.of_text`` and
                ``of_picture``). The caller encodes them before the transaction, since that may take a model.

        Raises:
            UsageError: see ``storage.search.query.resolve``; or the image or region to be similar to does not exist or
                has no vector.
        """
        match = self._match(session, query, compared)
        if match is None:
            return HitPage([], total=0)
        return self._page_of(session, query, match, self._ordering.of(session, query, match, compared))

    def page_with_facets(
        self,
        session: Session,
        query: SearchQuery,
        limit: int,
        compared: Sequence[Compared] = (),
    ) -> Faceted:
        """Return the results of ``page`` and of all facets in one pass, and how many hits a text has.

        Without facets of tags if a remote index cannot count the tags of so many images, and without those of files if
        they are too many.
        """
        match = self._match(session, query, compared)
        if match is None:
            return Faceted(HitPage([], total=0), [], RegionFacets([], []), None)
        order = self._ordering.of(session, query, match, compared)
        page = self._page_of(session, query, match, order)
        hits = chosen_by(order)
        if page.total is None and hits is not None and len(hits) < queries.MAX_OFFSET:
            page = replace(page, total=len(hits))
        located = self._region_facets(session, query, match, order.found, hits)
        facets, files = [], None
        with suppress(UsageError):
            facets = self._facets(session, query, match, order.found, hits, limit)
        with suppress(UsageError):
            files = self._file_facets(session, order.found, hits, MOST_OF_FILES, waits=False)
        return Faceted(page, facets, located, files)

    def _page_of(self, session: Session, query: SearchQuery, match: Match, order: Order) -> HitPage:
        """Return a page of the images of an order, or of their regions if the query is for these."""
        if query.sort is not None:
            hits = chosen_by(order)
            dated = order.found if hits is None else order.found.among(hits)
            order = ByDate(dated, self._metadata.columns(session), is_oldest_first=query.sort == "taken-asc")
        if query.like_region is None:
            return page_of(query, order, match.generation.id, partial(self.hits, session, match, query))
        found = LikeRegion.of(session, self._index(), query, order)
        return page_of(query, found.order, match.generation.id, partial(found.hits, session, match, query))

    def all_hits(
        self,
        session: Session,
        query: SearchQuery,
        compared: Sequence[Compared] = (),
    ) -> tuple[Match, Iterable[Ranked]] | None:
        """Return all hits of ``page``, over all its pages; None as long as nothing was recorded.

        They are in order of id, unless a vector ranks. All of them belong to one snapshot and need no transaction;
        ``hits`` loads their content. Memory does not grow with the number of images.
        """
        if query.like_region is not None:
            raise UsageError("only a page of a search for regions like one can be read: remove like_region")
        match = self._match(session, query, compared)
        if match is None:
            return None
        order = self._ordering.of(session, query, match, compared, queries.MAX_OFFSET)
        if isinstance(order, ByTags):
            by_id = order.found.by_id(match.terms)
            return match, (Ranked(image_id, mean_score(total, match.terms), ()) for image_id, total in by_id)
        if isinstance(order, ByReading):
            return match, (Ranked(image_id, score, ()) for image_id, score in order.by_id())
        return match, order.take(None, queries.MAX_OFFSET).images

    def hits(self, session: Session, match: Match, query: SearchQuery, images: Sequence[Ranked]) -> list[Hit]:
        """Return hits for images, in this order. Deleted images are omitted."""
        scores = {image.image_id: image.score for image in images}
        hits = hits_of(session, match.generation.id, scores, match.names, query.threshold, match.policy)
        read = {image.image_id for image in images if image.is_read}
        if match.phrases or read:
            words = words_of_text(query.text or "") if read else ()
            sought = {image_id: match.phrases + (words if image_id in read else ()) for image_id in scores}
            sought = {image_id: phrases for image_id, phrases in sought.items() if phrases}
            lines = lines_of(session, sought, match.text_generation)
            hits = [replace(hit, read=lines.get(hit.image_id, [])) for hit in hits]
        if regions := regions_of(session, query.where, match.names, list(scores)):
            hits = [replace(hit, regions=regions.get(hit.image_id, [])) for hit in hits]
        if query.sort is not None:
            files = metadata.views(session, list(scores))
            hits = [replace(h, taken_at=files[h.image_id].taken_at) if h.image_id in files else h for h in hits]
        if told := with_told(session, query, images, hits):
            hits = [replace(hit, told=told.get(hit.image_id, ())) for hit in hits]
        ranked = {image.image_id: image for image in images if image.spaces}
        if not ranked:
            return hits
        mentioned = match.names.in_texts.mentioned(query.text).terms if query.text else ()
        return [replace(hit, why=why_found(ranked[hit.image_id], hit, mentioned, match.names)) for hit in hits]

    def lines(self, session: Session, query: SearchQuery, image_id: int) -> list[ReadMatch]:
        """Return the lines of text in one image that match a query, as ``Hit.read`` has them.

        The image need not be a hit: other parts of the query may exclude it. Raises ``UsageError``: see ``page``.
        """
        pictures = TextInPictures(session, self._kept, self.regions)
        match = queries.resolve(session, query, self.vocabulary, pictures)
        generation_id, phrases = pictures.generation_id, () if match is None else match.phrases
        words = words_of_text(query.text or "")
        if (
            words
            and generation_id is not None
            and image_id in self._kept.matching(session, Having(generation_id, all_of(words)))
        ):
            phrases += words
        return lines_of(session, {image_id: phrases}, generation_id).get(image_id, []) if phrases else []

    def facets(
        self,
        session: Session,
        query: SearchQuery,
        limit: int,
        compared: Sequence[Compared] = (),
        after: tuple[int, int] | None = None,
    ) -> list[Facet]:
        """Count the tags of the images that ``page`` finds, over all its pages.

        Most frequent first, equal ones by id, at most ``limit``, without tags that no image has. If a text finds more
        than ``queries.MAX_OFFSET`` images, only that many of the best are counted. ``after``: the id and the count of
        the last tag of the page before.
        """
        match = self._match(session, query, compared)
        if match is None:
            return []
        order = self._ordering.of(session, query, match, compared)
        hits = chosen_by(order)
        return self._facets(session, query, match, order.found, hits, limit, after)

    def region_facets(
        self, session: Session, query: SearchQuery, compared: Sequence[Compared] = ()
    ) -> RegionFacets | None:
        """Count the located tags of the images whose tags ``facets`` counts, at most ``LOCATED_TAGS``.

        None if they are too many: this process has not read all regions yet, or has no room for them, or the index is
        remote.
        """
        match = self._match(session, query, compared)
        if match is None:
            return RegionFacets([], [])
        order = self._ordering.of(session, query, match, compared)
        hits = chosen_by(order)
        return self._region_facets(session, query, match, order.found, hits)

    def file_facets(
        self, session: Session, query: SearchQuery, limit: int, compared: Sequence[Compared] = ()
    ) -> FileFacets:
        """Count the images whose tags ``facets`` counts by date, camera, archive and folder; at most ``limit`` of each.

        Raises:
            UsageError: see ``page``; or too many images have a date or a camera.
        """
        match = self._match(session, query, compared)
        if match is None:
            return FileFacets("year", [], 0, [], [], [])
        order = self._ordering.of(session, query, match, compared)
        return self._file_facets(session, order.found, chosen_by(order), limit)

    def _file_facets(
        self,
        session: Session,
        matching: Selection,
        hits: NDArray[np.int64] | None,
        limit: int,
        *,
        waits: bool = True,
    ) -> FileFacets:
        found = matching if hits is None else matching.among(hits)
        return file_facets(session, self._metadata, self.keywords, found, limit, waits=waits)

    def _region_facets(
        self, session: Session, query: SearchQuery, match: Match, matching: Selection, hits: NDArray[np.int64] | None
    ) -> RegionFacets | None:
        if not regions.is_any(session):
            return RegionFacets([], [])
        found = matching if hits is None else matching.among(hits)
        if found.remote is not None and len(found.remote) > FEW:
            return None
        narrowed = () if match.condition is None else (match.condition,)

        def in_archive(archive_id: int) -> NDArray[np.int64]:
            view = self._index().view(session, match.generation.id)
            return Selection.of(view, All((*narrowed, InArchive(archive_id)))).ids()

        parts = by_rules(session, found.ids(), in_archive)
        return region_facets(session, self.regions, match.names, query.where, parts, LOCATED_TAGS)

    def _facets(  # noqa: PLR0913, PLR0917  (what is counted, and which part of the counts)
        self,
        session: Session,
        query: SearchQuery,
        match: Match,
        matching: Selection,
        hits: NDArray[np.int64] | None,
        limit: int,
        after: tuple[int, int] | None = None,
    ) -> list[Facet]:
        found = matching if hits is None else matching.among(hits)
        units = match.names.all_units(query.threshold)
        view = self._index().view(session, match.generation.id)
        narrowed = () if match.condition is None else (match.condition,)

        def meeting(condition: Condition) -> Selection:
            inside = Selection.of(view, All((*narrowed, condition)))
            return inside if hits is None else inside.among(hits)

        most, since = (len(units), None) if query.special else (limit, after)
        if match.policy.is_empty:
            counts = found.most_common(units, most, since)
        else:
            of_all = found.count_tags(units)
            by_rules = match.policy.counted(of_all, lambda number: meeting(InArchive(number)).count_tags(units))
            counts = most_common(by_rules, most, since)
        if query.special:
            special = most_special(counts, limit if after is None else most, match, units.tolist(), meeting)
            counts = [each for each in special if is_following(each, after)][:limit]
        return [_facet(match.names, tag_id, count) for tag_id, count in counts]

    def suggest(self, session: Session, prefix: str, limit: int) -> list[Completion]:
        """Return tags of which a name begins with ``prefix``, with their image counts; those with images come first."""
        generation = generations.default(session)
        if generation is None or not prefix.strip():
            return []
        names = self.vocabulary(session, generation.vocabulary_id)
        found = names.others.beginning(prefix, limit * _CANDIDATES)
        policy = policies.load(session, names)
        view = self._index().view(session, generation.id)

        def count(tag_id: int) -> int:
            return len(Selection.of(view, having(policy, [(tag_id, names.units(tag_id, None))])))

        facets = [
            Completion(tag_id, names.names[tag_id], names.names_zh[tag_id], count(tag_id), by) for tag_id, by in found
        ]
        return sorted(facets, key=lambda facet: facet.count == 0)[:limit]

    def count(self, session: Session, query: SearchQuery) -> int:
        """Return how many images match the tags and filters of a query. Raises ``UsageError``: see ``page``."""
        match = self._match(session, replace(query, text=None), ())
        if match is None:
            return 0
        return len(Selection.of(self._index().view(session, match.generation.id), match.condition))

    def image(self, session: Session, image_id: int) -> ImageView:
        """Return one image. Raises ``NotFoundError``."""
        return lookup.image(session, image_id, self.vocabulary)

    def _match(self, session: Session, query: SearchQuery, compared: Sequence[Compared]) -> Match | None:
        if query.text and not compared:
            return None  # the caller saw no generation yet, so it had no text encoder
        match = queries.resolve(session, query, self.vocabulary, TextInPictures(session, self._kept, self.regions))
        if match is not None and query.fold_near:
            match = self._folded(session, match, near_copies.every(session))
        if match is not None and (query.fold or query.fold_near):
            match = self._folded(session, match, copies.every(session))
        return match

    def _folded(self, session: Session, match: Match, known: Copies) -> Match:
        """Return the match without images that are copies of others that match."""
        view = self._index().view(session, match.generation.id)
        matching = [OneOf(known.ids)] if match.condition is None else [OneOf(known.ids), match.condition]
        hidden = known.hidden(Selection.of(view, All(tuple(matching))).ids())
        if not len(hidden):
            return match
        shown = Not(OneOf(hidden))
        condition = shown if match.condition is None else All((match.condition, shown))
        is_exact = match.exact is None or match.exact is match.condition
        exact = match.exact and (condition if is_exact else All((match.exact, shown)))
        return replace(match, condition=condition, exact=exact)


def _facet(names: Names, tag_id: int, count: int) -> Facet:
    return Facet(tag_id, names.names[tag_id], names.names_zh[tag_id], count)

"""Which order a query puts the images in that match it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from storage.index.condition import All, Not, OneOf
from storage.index.selection import Selection
from storage.results.reading_search import Having
from storage.results.spaces import TEXT
from storage.search import compared as comparing
from storage.search import query as queries
from storage.search.fusion import FUSED_FIRST, Fused, InSpace
from storage.search.having import having
from storage.search.orders import MAX_READ, ByReading, ByTags, ByText, ByVector, mean_score
from storage.search.phrases import all_of, words_of_text
from storage.search.ranking import DEFAULT_RELEVANCE
from storage.search.relevance import Cutoffs
from storage.search.spoken import Spoken
from storage.search.told import told_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex, View
    from storage.search.compared import Compared
    from storage.search.kept_images import KeptImages
    from storage.search.orders import Order
    from storage.search.query import Match
    from storage.search.views import SearchQuery


class Ordering:
    """Puts the images that match in order. Thread-safe.

    Args:
        index: returns the index of this process.
        kept: the images with words, as kept by this process.
    """

    def __init__(self, index: Callable[[], VectorIndex], kept: KeptImages) -> None:
        self._index = index
        self._kept = kept
        self._cutoffs = Cutoffs()

    def of(
        self,
        session: Session,
        query: SearchQuery,
        match: Match,
        encoded: Sequence[Compared],
        fused_first: int = FUSED_FIRST,
    ) -> Order:
        """Return the order of the images that match.

        Args:
            session: a transaction.
            query: what to look for.
            match: the same, resolved.
            encoded: its text, and then its picture, in each space that compares them.
            fused_first: so many images of each space are fused.

        Raises:
            NotFoundError: the image to be similar to does not exist, or has no vector.
        """
        view = self._index().view(session, match.generation.id)
        found = Selection.of(view, match.condition)
        compared = [*encoded, *comparing.of_image(session, self._index(), query, match.generation)]
        if query.unlike:
            compared = comparing.away_from(session, self._index(), query, match.generation, compared)
        if not compared:
            return ByTags(found, match.terms) if match.exact is None else _by_reading(view, match, found)
        if [(each.space, each.of) for each in compared] == [(TEXT, "text"), (TEXT, "image")]:
            compared = [replace(compared[0], of="both", vector=between(compared[0].vector, compared[1].vector))]
        has_image = any(each.of != "text" for each in compared)
        spoken = Spoken()
        if query.text and any(each.of != "image" for each in compared):
            spoken = Spoken.of(session, view, match, query.text, query.threshold)
        places: dict[str, tuple[View, Selection]] = {TEXT: (view, found)}
        orders = []
        for each in compared:
            if each.space not in places or places[each.space][1].is_cut:
                assert each.generation_id is not None
                its_view = self._index().view(session, each.generation_id)
                places[each.space] = its_view, Selection.of_images(its_view, found, each.vector)
            own_view, ranked = places[each.space]
            order: ByText | ByVector
            if each.of == "text":
                order = self._by_text(session, query, match, own_view, ranked, each, spoken=spoken, has_image=has_image)
            else:
                is_cut = each.of == "image" and query.relevance is not None
                floor = self._cutoffs.of_image(own_view, query.relevance or 0) if is_cut else -np.inf
                last = spoken.refuted if each.of == "both" else spoken.refuted[:0]
                order = ByVector(ranked, each.vector, query.like, floor, last)
            orders.append(InSpace(found, order, each.space, each.of, own_view.generation_id))
        return orders[0] if len(orders) == 1 else Fused.of(found, orders, query.like, fused_first)

    def _by_text(  # noqa: PLR0913  (the query, and where it is compared)
        self,
        session: Session,
        query: SearchQuery,
        match: Match,
        view: View,
        found: Selection,
        compared: Compared,
        *,
        spoken: Spoken,
        has_image: bool,
    ) -> ByText:
        # If the query has tags or words to read, they decide what is found, and the text only orders it.
        usual = 0.0 if match.terms or match.phrases or has_image else DEFAULT_RELEVANCE
        floor = self._cutoffs.of_text(view, compared.names, usual if query.relevance is None else query.relevance)
        refuted = spoken.refuted
        if len(refuted) and compared.space != TEXT:  # some may have no vector there
            refuted = found.among(refuted).ids()
        sure = spoken.among(found.without(refuted) if len(refuted) else found, compared.vector)
        named, scores = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
        if compared.space != TEXT:  # its index knows neither tags nor words
            if sure is not None:
                named, scores = sure.ids, sure.scores
            return ByText(found, compared.vector, floor, named, scores, is_whole=False, sure=sure, refuted=refuted)
        text = query.text or ""
        mention = match.names.in_texts.mentioned(text)
        if mention.terms:
            units = match.names.all_units(query.threshold).tolist()
            has = (having(match.policy, ((i, units[i]) for i in term)) for term in mention.terms)
            has_all = All((*has, *([] if match.condition is None else [match.condition])))
            named, sums = Selection.of(view, has_all).best_by_tags(mention.terms, queries.MAX_OFFSET)
            scores = mean_score(sums, mention.terms)
        if sure is not None:
            others = ~np.isin(named, sure.ids)
            named = np.concatenate([sure.ids, named[others]])
            scores = np.concatenate([sure.scores, scores[others]])
        read = self._with_words(session, view, match, text)
        told = told_of(session, self._kept, view, match, text)
        return ByText(found, compared.vector, floor, named, scores, mention.is_whole, read, told, sure, refuted)

    def _with_words(self, session: Session, view: View, match: Match, text: str) -> NDArray[np.int64]:
        """Return the images that match and in which all words of a text stand: ids, ascending, at most ``MAX_READ``."""
        words = words_of_text(text)
        if match.text_generation is None or not words:
            return np.empty(0, dtype=np.int64)
        having_words = self._kept.matching(session, Having(match.text_generation, all_of(words)))
        if not len(having_words):
            return having_words
        narrowed = () if match.condition is None else (match.condition,)
        ids, _ = Selection.of(view, All((*narrowed, OneOf(having_words)))).best_by_tags((), MAX_READ)
        return np.sort(ids)


def _by_reading(view: View, match: Match, found: Selection) -> ByReading:
    if match.exact is None or match.exact is match.condition:
        return ByReading(found, found, None, match.terms)
    narrowed = () if match.condition is None else (match.condition,)
    misread = Selection.of(view, All((*narrowed, Not(match.exact))))
    return ByReading(found, Selection.of(view, match.exact), misread, match.terms)


def between(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vector (D,) of length 1 midway between two such vectors: images similar to both are nearest to it."""
    middle = one + other
    length = np.linalg.norm(middle)
    # Opposite vectors have no middle: use the first one.
    return one if length == 0 else (middle / length).astype(np.float32)

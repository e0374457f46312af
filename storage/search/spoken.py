"""What people said of the tags that a text names: images that surely show what it asks for, and images that do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from storage.index.condition import All, Not, OneOf
from storage.index.selection import Selection
from storage.results import corrections
from storage.results.moments import union
from storage.search import query as queries
from storage.search.having import having
from storage.search.listed import Sure
from storage.search.orders import mean_score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.index.index import View
    from storage.search.query import Match

_NOTHING = np.empty(0, dtype=np.int64)
_NO_SCORES = np.empty(0, dtype=np.float64)

_LOOKED_AT = (64, 1_024, queries.MAX_OFFSET)
"""So many of the nearest images are looked at, until one lacks the tags."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What people said of the tags that a text names, and of their kinds, on the images that match the query.

    Attributes:
        sure: ids of the images that have all these tags, at least one of them because a person added it, best first, at
            most ``queries.MAX_OFFSET``.
        scores: (N,) the mean scores of their tags, 0 to 1.
        refuted: ids, ascending, of the images from which a person removed a tag so that nothing is left of what the
            text names.
        tagged: the images that have all these tags, whoever said so; None without ``sure``.
    """

    sure: NDArray[np.int64] = field(default_factory=lambda: _NOTHING)
    scores: NDArray[np.float64] = field(default_factory=lambda: _NO_SCORES)
    refuted: NDArray[np.int64] = field(default_factory=lambda: _NOTHING)
    tagged: Selection | None = None

    @classmethod
    def of(cls, session: Session, view: View, match: Match, text: str, threshold: float | None) -> Spoken:
        """Look up what people said.

        Args:
            session: a transaction.
            view: the index of recognition.
            match: the query, resolved.
            text: its text.
            threshold: as of ``SearchQuery``.
        """
        names = match.names
        mentioned = names.in_texts.mentioned(text).terms
        terms = tuple(names.with_kinds(term) for term in mentioned)
        said = corrections.about(session, [[names.names[tag_id] for tag_id in term] for term in terms]) if terms else {}
        if not said:
            return cls()
        units = names.all_units(threshold).tolist()
        has = [having(match.policy, ((tag_id, units[tag_id]) for tag_id in term)) for term in terms]
        narrowed = () if match.condition is None else (match.condition,)

        def meeting(*parts: Condition) -> Selection:
            return Selection.of(view, All((*narrowed, *parts)))

        refuted = [
            meeting(OneOf(each.removed), Not(has[term])).ids() for term, each in said.items() if len(each.removed)
        ]
        without = union(refuted)
        added = union([each.added for each in said.values()])
        if not len(added):
            return cls(refuted=without)
        sure, sums = meeting(OneOf(added), *has).best_by_tags(terms, queries.MAX_OFFSET)
        if not len(sure):
            return cls(refuted=without)
        return cls(sure, mean_score(sums, terms), without, meeting(*has))

    def among(self, nearest: Selection, vector: NDArray[np.float32]) -> Sure | None:
        """Return the sure images as an order by a text has them; None: there are none.

        Args:
            nearest: the images of a space that match, without the refuted ones.
            vector: (D,) of length 1, of the text in this space.
        """
        if self.tagged is None:
            return None
        ids = nearest.among(self.sure).ids()
        is_there = np.isin(self.sure, ids, assume_unique=True)
        if not is_there.any():
            return None
        return Sure(self.sure[is_there], self.scores[is_there], _best_without(self.tagged, nearest, vector))


def _best_without(tagged: Selection, nearest: Selection, vector: NDArray[np.float32]) -> float:
    """Return the cosine of the nearest image that is not ``tagged``; minus infinity: there is none."""
    cosines = np.empty(0, dtype=np.float32)
    for count in _LOOKED_AT:
        ids, cosines = nearest.nearest(vector, count)
        lacks = ~np.isin(ids, tagged.among(ids).ids(), assume_unique=True)
        if lacks.any():
            return float(cosines[int(np.argmax(lacks))])
        if len(ids) < count:
            return -np.inf
    return float(cosines[-1])

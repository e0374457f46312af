"""The keywords of all images, kept between searches, to count those of hits: see ``KeptMetadata``."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import UsageError
from storage.results import keyword_pairs
from storage.search.language.writer import filter_text
from storage.search.views import FileFacet
from storage.texts import fold_seen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.keyword_pairs import Pairs
    from storage.results.moments import Moment

_CANDIDATES = 3
"""Keywords that are counted exactly for each one that is shown. An image may have one in its file and from a person."""

_MOST_SPELLINGS = 10_000


class KeptKeywords:
    """Knows which images have which keywords. One per process; thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Moment, Pairs]] = {}
        self._spellings: dict[str, str] = {}
        self._lock = Lock()
        self.needs_warming = False

    def warm(self, session: Session) -> None:
        """Read what searches need. Nothing is read if there are too many keywords to count."""
        self.needs_warming = False
        with suppress(UsageError):
            for table in keyword_pairs.SOURCES:
                self._pairs(session, table)

    def facets(
        self, session: Session, image_ids: NDArray[np.int64], limit: int, *, waits: bool = True
    ) -> list[FileFacet]:
        """Return the most frequent keywords of images, those in files and those of people together.

        Args:
            session: a transaction.
            image_ids: (N,) the images.
            limit: at most so many keywords.
            waits: read all keywords first, however long that takes. Else, if they are many and not read yet, return
                none of them, and ``needs_warming``.

        Raises:
            UsageError: there are too many keywords to count.
        """
        cold = [table for table in keyword_pairs.SOURCES if table not in self._kept]
        if not waits and any(keyword_pairs.is_large(session, table) for table in cold):
            self.needs_warming = True
            return []
        sources = [self._pairs(session, table) for table in keyword_pairs.SOURCES]
        if not len(image_ids) or not any(len(pairs.ids) for pairs in sources):
            return []
        most = max(int(image_ids.max()), *(int(pairs.ids.max(initial=0)) for pairs in sources))
        is_found = np.zeros(most + 1, dtype=np.bool_)
        is_found[image_ids] = True
        chosen = [is_found[pairs.ids] for pairs in sources]
        counts = [
            np.bincount(pairs.numbers[is_chosen], minlength=len(pairs.places))
            for pairs, is_chosen in zip(sources, chosen, strict=True)
        ]
        sums: Counter[str] = Counter()
        for pairs, count in zip(sources, counts, strict=True):
            best = set(np.argsort(-count, kind="stable")[: _CANDIDATES * limit].tolist())
            sums.update({each: int(count[place]) for each, place in pairs.places.items() if place in best})
        exact = {each: _count(sources, chosen, counts, each) for each, _ in sums.most_common(_CANDIDATES * limit)}
        shown = sorted(((each, count) for each, count in exact.items() if count), key=lambda one: (-one[1], one[0]))
        return [
            FileFacet(self._spelling(session, each), count, filter_text("keyword", each))
            for each, count in shown[:limit]
        ]

    def beginning(self, session: Session, typed: str, limit: int) -> list[FileFacet]:
        """Return the most frequent keywords that begin as a typed text, or have a word that does.

        ``count`` is the number of images; one that has a keyword in its file and from a person counts twice.

        Raises:
            UsageError: there are too many keywords to count.
        """
        folded = fold_seen(typed)
        found: Counter[str] = Counter()
        for table in keyword_pairs.SOURCES:
            pairs = self._pairs(session, table)
            counts = np.bincount(pairs.numbers, minlength=len(pairs.places))
            for each, place in pairs.places.items():
                if counts[place] and (each.startswith(folded) or f" {folded}" in each):
                    found[each] += int(counts[place])
        return [
            FileFacet(self._spelling(session, each), count, filter_text("keyword", each))
            for each, count in found.most_common(limit)
        ]

    def _pairs(self, session: Session, table: str) -> Pairs:
        kept = self._kept.get(table)
        found = None if kept is None else keyword_pairs.since(session, table, *kept)
        if found is None:
            found = keyword_pairs.every(session, table)
        if found[0].is_public:
            with self._lock:
                if self._kept.get(table) is kept:  # another search may have been faster
                    self._kept[table] = found
        return found[1]

    def _spelling(self, session: Session, folded: str) -> str:
        known = self._spellings.get(folded)
        if known is None:
            if len(self._spellings) >= _MOST_SPELLINGS:
                self._spellings.clear()
            known = self._spellings[folded] = keyword_pairs.spelling(session, folded)
        return known


def _count(sources: list[Pairs], chosen: list[NDArray[np.bool_]], counts: list[NDArray[np.int64]], folded: str) -> int:
    """Return how many of the chosen images have a keyword from any source."""
    having = [
        (pairs, is_chosen, place, int(count[place]))
        for pairs, is_chosen, count in zip(sources, chosen, counts, strict=True)
        if (place := pairs.places.get(folded)) is not None and count[place]
    ]
    if len(having) < len(sources):
        return sum(count for *_, count in having)
    return len(np.union1d(*(pairs.ids[is_chosen & (pairs.numbers == place)] for pairs, is_chosen, place, _ in having)))

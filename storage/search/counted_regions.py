"""``count:`` and ``area:``: how many regions of a tag pictures have, and how much of the picture they cover."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

import numpy as np

from storage.index import condition as conditions
from storage.results import regions
from storage.results.region_lists import EVERY
from storage.tables import AREA_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.results.region_search import Counted
    from storage.search.kept_regions import KeptRegions
    from storage.search.language import RegionTerm

LARGEST = 2**31 - 1
"""That a column can hold."""


class CountedRegions:
    """The regions of tags, as one transaction sees them.

    Args:
        session: the transaction.
        kept: the regions that this process keeps.
    """

    def __init__(self, session: Session, kept: KeptRegions) -> None:
        self._session = session
        self._kept = kept

    @property
    def is_empty(self) -> bool:
        """Whether tags were located in no image yet."""
        return not regions.is_any(self._session)

    def condition(self, term: RegionTerm, names: Iterable[str]) -> Condition:
        """Return the condition of a term. It never holds for images in which tags were not located.

        Args:
            term: what is compared.
            names: the folded names of its tag.
        """
        low, high = bounds(term)
        if high is not None and low > high:
            return conditions.Any()
        found = self._kept.images(self._session, [*names, *([EVERY] if low == 0 else [])])
        located = found.pop(EVERY, None)
        # Without a lower limit, those with more are taken away, since images without regions are in no list.
        limits = (low, high) if located is None else (LARGEST if high is None else high + 1, None)
        having = tuple(conditions.OneOf(_between(each, term, *limits)) for each in found.values())
        if located is None:
            return having[0] if len(having) == 1 else conditions.Any(having)
        every = conditions.OneOf(located.ids.astype(np.int64))
        return conditions.All((every, *map(conditions.Not, having)))


def _between(counted: Counted, term: RegionTerm, low: int, high: int | None) -> NDArray[np.int64]:
    """Return the images with a number of regions, or an area, in ``low..high``; None: no limit."""
    numbers = counted.regions if term.name == "count" else counted.areas
    ids = counted.ids
    if low > 1 or high is not None:  # all have at least 1
        numbers = numbers.astype(np.int64)
        ids = ids[numbers >= low] if high is None else ids[(numbers >= low) & (numbers <= high)]
    return ids.astype(np.int64)


def bounds(term: RegionTerm) -> tuple[int, int | None]:
    """Return the least and the greatest number, in stored units, that a term allows; None: no limit."""
    # As it was written: the nearest binary fraction of 0.2 may be a little more.
    number = Decimal(repr(term.number)) * (1 if term.name == "count" else AREA_SCALE)
    up, down = (int(number.to_integral_value(mode)) for mode in (ROUND_CEILING, ROUND_FLOOR))
    low, high = {
        ">=": (up, None),
        ">": (down + 1, None),
        "=": (up, down),
        "<=": (0, down),
        "<": (0, up - 1),
    }[term.sign]
    return min(low, LARGEST), high if high is None else min(high, LARGEST - 1)

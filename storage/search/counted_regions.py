"""``count:`` and ``area:``: how many regions of a tag pictures have, and how much of the picture they cover."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Literal

from storage.index import condition as conditions
from storage.results import regions
from storage.results.region_search import Counted, Located
from storage.tables import AREA_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.search.kept_images import KeptImages
    from storage.search.language import RegionTerm

LARGEST = 2**31 - 1
"""That a column can hold."""


class CountedRegions:
    """The regions of tags, as one transaction sees them.

    Args:
        session: the transaction.
        kept: the images that this process keeps.
    """

    def __init__(self, session: Session, kept: KeptImages) -> None:
        self._session = session
        self._kept = kept

    @property
    def is_empty(self) -> bool:
        """Whether tags were located in no image yet."""
        return not regions.is_any(self._session)

    def condition(self, term: RegionTerm, names: Iterable[tuple[str, ...]]) -> Condition:
        """Return the condition of a term. It never holds for images in which tags were not located.

        Args:
            term: what is compared.
            names: the folded names of its tag, whose regions are added up; several if tags share the name.
        """
        low, high = bounds(term)
        if high is not None and low > high:
            return conditions.Any()
        column: Literal["regions", "area"] = "regions" if term.name == "count" else "area"
        if low > 0:
            found = [self._having(Counted(name, column, low, high)) for name in names]
            return found[0] if len(found) == 1 else conditions.Any(tuple(found))
        located = self._having(Located())
        if high is None:
            return located
        more = [conditions.Not(self._having(Counted(name, column, high + 1, None))) for name in names]
        return conditions.All((located, *more))

    def _having(self, asked: Counted | Located) -> Condition:
        return conditions.OneOf(self._kept.matching(self._session, asked))


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

"""``count:`` and ``area:``: how many regions of a tag pictures have, and how much of the picture they cover."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

import numpy as np

from storage.index import condition as conditions
from storage.results import policies, regions
from storage.results.region_lists import EVERY
from storage.results.region_search import Counted
from storage.search.language import wanted_regions
from storage.search.views import RegionMatch
from storage.tables import AREA_SCALE
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.results.policy import NamePolicy, NameRules
    from storage.results.tags import Names
    from storage.search.kept_regions import KeptRegions
    from storage.search.language import Expression, RegionTerm

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

    def condition(self, term: RegionTerm, groups: Sequence[Sequence[str]]) -> Condition:
        """Return the condition of a term. It never holds for images in which tags were not located.

        Args:
            term: what is compared.
            groups: for each tag that it names the folded names whose regions are added up.
        """
        low, high = bounds(term)
        if high is not None and low > high:
            return conditions.Any()
        names = dict.fromkeys(name for group in groups for name in group)
        found = self._kept.images(self._session, [*names, *([EVERY] if low == 0 else [])])
        located = found.pop(EVERY, None)
        # Without a lower limit, those with more are taken away, since images without regions are in no list.
        limits = (low, high) if located is None else (LARGEST if high is None else high + 1, None)
        policy = policies.by_name(self._session)
        having: tuple[Condition, ...] = tuple(
            each if where is None else conditions.All((each, where))
            for group in groups
            for counting, where in _counting(policy, group)
            if (added := _added_up([found[name] for name in counting])) is not None
            for each in [conditions.OneOf(_between(added, term, *limits))]
        )
        if located is None:
            return having[0] if len(having) == 1 else conditions.Any(having)
        every = conditions.OneOf(located.ids.astype(np.int64))
        return conditions.All((every, *map(conditions.Not, having)))


def _counting(policy: NamePolicy, group: Sequence[str]) -> list[tuple[Sequence[str], Condition | None]]:
    """Return which names of a group count, and in which archives; None: in all."""

    def left(rules: NameRules) -> tuple[str, ...]:
        return tuple(name for name in group if not rules.hides(name))

    elsewhere = left(policy.elsewhere)
    others = {id_: names for id_, rules in policy.within.items() if (names := left(rules)) != elsewhere}
    if not others:
        return [(elsewhere, None)]
    outside = conditions.Not(conditions.Any(tuple(map(conditions.InArchive, others))))
    return [(elsewhere, outside), *((names, conditions.InArchive(id_)) for id_, names in others.items())]


def _added_up(parts: Sequence[Counted]) -> Counted | None:
    """Return the sums of regions and areas of several names; None without any."""
    if len(parts) < 2:
        return parts[0] if parts else None
    ids, at = np.unique(np.concatenate([part.ids for part in parts]), return_inverse=True)
    regions_, areas = np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=np.int64)
    np.add.at(regions_, at, np.concatenate([part.regions for part in parts]).astype(np.int64))
    np.add.at(areas, at, np.concatenate([part.areas for part in parts]).astype(np.int64))
    return Counted(ids, regions_, areas)


def _between(counted: Counted, term: RegionTerm, low: int, high: int | None) -> NDArray[np.int64]:
    """Return the images with a number of regions, or an area, in ``low..high``; None: no limit."""
    numbers = counted.regions if term.name == "count" else counted.areas
    ids = counted.ids
    if low > 1 or high is not None:  # all have at least 1
        numbers = numbers.astype(np.int64)
        ids = ids[numbers >= low] if high is None else ids[(numbers >= low) & (numbers <= high)]
    return ids.astype(np.int64)


def groups_of(term: RegionTerm, names: Names) -> list[tuple[str, ...]]:
    """Return for each tag that a term names the folded names under which it has regions."""
    # A tag has regions under its English name. Others may have been asked for that are in no vocabulary, or by a
    # synonym. Where a poodle was found there is no region of a dog, so the regions of kinds are added to its own.
    groups = [(tag_id, *names.kinds_of(tag_id)) for tag_id in names.ids(term.tag)] or [names.general(term.tag)]
    asked = [{fold(term.tag), *(fold(names.names[tag_id]) for tag_id in group)} for group in groups]
    return sorted(dict.fromkeys(tuple(sorted(each)) for each in asked))


def names_of(term: RegionTerm, names: Names) -> list[str]:
    """Return the folded names under which a term finds regions."""
    return sorted({name for group in groups_of(term, names) for name in group})


def regions_of(
    session: Session, where: Expression | None, names: Names, image_ids: Sequence[int]
) -> dict[int, list[RegionMatch]]:
    """Return the regions of the tags that ``count:`` and ``area:`` name, by image; none: left out.

    Args:
        session: a transaction.
        where: the condition of a query. What it excludes is not shown.
        names: the vocabulary of its tags.
        image_ids: which images.
    """
    asked = {name for term in wanted_regions(where) for name in names_of(term, names)}
    if not asked:
        return {}
    found = {
        image_id: [
            RegionMatch(one.number, one.tag, one.score, one.box) for one in view.regions if fold(one.tag) in asked
        ]
        for image_id, view in regions.views(session, image_ids).items()
    }
    return {image_id: matches for image_id, matches in found.items() if matches}


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

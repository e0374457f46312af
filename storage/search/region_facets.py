"""Which tags were located in the images that a search finds, and in how many of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from storage.results import policies
from storage.search.counted_regions import names_of
from storage.search.kept_regions import first
from storage.search.language import AllOf, Parsed, RegionTerm, all_of
from storage.search.language import format as written
from storage.search.views import RegionFacet, RegionFacets
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.policy import NameRules
    from storage.results.tags import Names
    from storage.search.kept_regions import KeptRegions
    from storage.search.language import Expression

Parts: TypeAlias = "list[tuple[NDArray[np.int64], NameRules]]"
"""Images, ascending, and the rules for tags that hold for them."""

NUMBERS = ((1, 1), (2, 2), (3, 5), (6, None))
"""Stretches of numbers of regions; None: no limit."""


def region_facets(
    session: Session,
    kept: KeptRegions,
    names: Names,
    where: Expression | None,
    parts: Parts,
    limit: int,
) -> RegionFacets | None:
    """Count the located tags of images, and the regions of the tag that the query counts.

    Args:
        session: a transaction.
        kept: the regions that this process keeps.
        names: the vocabulary of the search.
        where: the query.
        parts: the images that it finds, as ``by_rules`` parts them.
        limit: of tags.

    Returns:
        None if the images are many, and this process has not read all regions yet or has no room for them.
    """
    common = _most_common(session, kept, parts, limit)
    if common is None:
        return None
    tags = [_facet(names, name, count, 1, None) for name, count in common.items()]
    numbers: list[RegionFacet] = []
    term = _counting(where) if common else None
    if term is not None:
        # As the search counts: the regions of all kinds of the tag together.
        image_ids = np.sort(np.concatenate([ids for ids, _ in parts]), kind="stable")
        regions = np.zeros(len(image_ids), dtype=np.int64)
        for name, each in kept.images(session, names_of(term, names)).items():
            for ids, rules in parts:
                if not rules.hides(name):
                    here = each.among(ids)
                    regions[np.searchsorted(image_ids, here.ids)] += here.regions
        for low, high in NUMBERS:
            count = int(np.count_nonzero((regions >= low) if high is None else (regions >= low) & (regions <= high)))
            if count:
                numbers.append(_facet(names, fold(term.tag), count, low, high))
    return RegionFacets(tags, numbers)


def by_rules(session: Session, image_ids: NDArray[np.int64], in_archive: Callable[[int], NDArray[np.int64]]) -> Parts:
    """Return images, ascending, in parts for which the same rules for tags hold.

    Args:
        session: a transaction.
        image_ids: the images, ascending.
        in_archive: returns those of one archive, and maybe other images of it.
    """
    policy = policies.by_name(session)
    parts = []
    rest = image_ids
    for archive_id, rules in policy.within.items():
        here = np.intersect1d(rest, in_archive(archive_id))
        rest = np.setdiff1d(rest, here, assume_unique=True)
        parts.append((here, rules))
    return [(rest, policy.elsewhere), *parts]


def _most_common(session: Session, kept: KeptRegions, parts: Parts, limit: int) -> dict[str, int] | None:
    if len(parts) == 1 and parts[0][1].is_empty:
        return kept.most_common(session, parts[0][0], limit)
    counts: Counter[str] = Counter()
    for ids, rules in parts:
        here = kept.most_common(session, ids, None)
        if here is None:
            return None
        counts.update({name: count for name, count in here.items() if not rules.hides(name)})
    return first(counts, limit)


def _counting(where: Expression | None) -> RegionTerm | None:
    """Return the first term about the number of regions of a tag that every image must meet."""
    for part in where.parts if isinstance(where, AllOf) else (where,):
        if isinstance(part, RegionTerm) and part.name == "count":
            return part
    return None


def _facet(names: Names, name: str, count: int, low: int, high: int | None) -> RegionFacet:
    tag_ids = names.ids(name)
    shown, chinese = (names.names[tag_ids[0]], names.names_zh[tag_ids[0]]) if tag_ids else (name, None)
    if low == high:
        terms = [RegionTerm("count", shown, "=", low)]
    else:
        terms = [RegionTerm("count", shown, ">=", low)]
        terms += [] if high is None else [RegionTerm("count", shown, "<=", high)]
    return RegionFacet(shown, chinese, count, low, high, written(Parsed(None, all_of(terms))))

"""Which tags were located in the images that a search finds, and in how many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.search.counted_regions import names_of
from storage.search.language import AllOf, Parsed, RegionTerm, all_of
from storage.search.language import format as written
from storage.search.views import RegionFacet, RegionFacets
from storage.texts import fold

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.tags import Names
    from storage.search.kept_regions import KeptRegions
    from storage.search.language import Expression

NUMBERS = ((1, 1), (2, 2), (3, 5), (6, None))
"""Stretches of numbers of regions; None: no limit."""


def region_facets(
    session: Session,
    kept: KeptRegions,
    names: Names,
    where: Expression | None,
    image_ids: NDArray[np.int64],
    limit: int,
) -> RegionFacets | None:
    """Count the located tags of images, and the regions of the tag that the query counts.

    Args:
        session: a transaction.
        kept: the regions that this process keeps.
        names: the vocabulary of the search.
        where: the query.
        image_ids: the images that it finds, ascending.
        limit: of tags.

    Returns:
        None if the images are many, and this process has not read all regions yet or has no room for them.
    """
    common = kept.most_common(session, image_ids, limit)
    if common is None:
        return None
    tags = [_facet(names, name, count, 1, None) for name, count in common.items()]
    numbers: list[RegionFacet] = []
    term = _counting(where) if image_ids.size else None
    if term is not None:
        # As the search counts: the regions of all kinds of the tag together.
        regions = np.zeros(len(image_ids), dtype=np.int64)
        for each in kept.images(session, names_of(term, names)).values():
            here = each.among(image_ids)
            regions[np.searchsorted(image_ids, here.ids)] += here.regions
        for low, high in NUMBERS:
            count = int(np.count_nonzero((regions >= low) if high is None else (regions >= low) & (regions <= high)))
            if count:
                numbers.append(_facet(names, fold(term.tag), count, low, high))
    return RegionFacets(tags, numbers)


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

"""Searches by a text that names tags of which people said something, against plain Python over the same archive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.search.ranking import DEFAULT_RELEVANCE, TAG_WEIGHT, Background
from storage.search.views import SearchQuery
from storage.tables import SCORE_SCALE
from tests.archive_words import VOCABULARIES
from tests.vector_archive import as_text, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from storage.search.search import Search
    from storage.search.views import Hit
    from tests.archive_model import ArchiveModel

# A text, the tags that it names, and whether it consists of them.
TEXTS: tuple[tuple[str, tuple[tuple[int, ...], ...], bool], ...] = (
    ("a dog", ((0, 4),), True),
    ("two dogs that play", ((0, 4),), False),
    ("a dog and a cat", ((0, 4), (1,)), True),
    ("船", ((3, 5),), True),
    ("a lonely beach", ((2,),), False),
)


@dataclass(frozen=True)
class Expected:
    """What a text must find: ids and scores, best first; of whom a person said so, and who is refuted."""

    scores: dict[int, float]
    sure: set[int]
    refuted: set[int]


def expected(
    archive: ArchiveModel,
    query: SearchQuery,
    terms: Sequence[Sequence[int]],
    vector: NDArray[np.float32],
    floor: float,
    *,
    is_whole: bool,
) -> Expected:
    """Return what a text must find under the first generation, from the description of it."""
    names = [name.lower() for name in VOCABULARIES[0].names]
    matching = archive.matching(0, query)
    cosines = {i: float(archive.results[0][i].vector @ vector) for i in matching}
    named, sure, refuted, shares = set(), set(), set(), {}
    for image_id in matching:
        counting, said = archive.tags_that_count(0, image_id), archive.said.get(image_id, {})
        has = [any(counting.get(t, 0) > archive.units(0, t, query.threshold) for t in term) for term in terms]
        told = [{said.get(names[t]) for t in term} for term in terms]
        if any(False in one and not here for one, here in zip(told, has, strict=True)):
            refuted.add(image_id)
        if all(has):
            named.add(image_id)
            tags = archive.tags(0, image_id)
            best = [min(SCORE_SCALE, max(tags.get(t, 0) for t in term)) for term in terms]
            shares[image_id] = TAG_WEIGHT * sum(best) / len(best) / SCORE_SCALE
            if any(True in one for one in told):
                sure.add(image_id)
    least = max((cosines[i] for i in matching if i not in named | refuted), default=-np.inf)
    scores = {i: (max(cosines[i], least) if i in sure else cosines[i]) + shares.get(i, 0) for i in cosines}
    hits = [i for i in matching if i not in refuted and (cosines[i] >= floor or i in sure or (is_whole and i in named))]
    hits.sort(key=lambda i: (-scores[i], -cosines[i], i))
    last = sorted(refuted, key=lambda i: (-cosines[i], i)) if floor == -np.inf else []
    lowest = scores[hits[-1]] if hits else np.inf
    return Expected({i: scores[i] for i in hits} | {i: min(cosines[i], lowest) for i in last}, sure, refuted)


def found(archive: ArchiveModel, search: Search, query: SearchQuery, vector: NDArray[np.float32]) -> list[Hit]:
    """Return the hits of all pages. Their totals and facets must agree with them."""
    names = unit_vectors(20, np.random.default_rng(4))
    hits: list[Hit] = []
    first = query
    while True:
        with unit_of_work(archive.engine) as session:
            page = search.page(session, query, as_text(vector, names if query.relevance != 0 else None))
        hits += page.items
        if page.next_cursor is None:
            break
        query = query.after(page.next_cursor)
    assert page.total == len(hits)
    with unit_of_work(archive.engine) as session:
        facets = search.facets(session, first, 500, as_text(vector, names if query.relevance != 0 else None))
    counts: dict[int, int] = {}
    for hit in hits:
        for tag in hit.tags:
            counts[tag.id] = counts.get(tag.id, 0) + 1
    assert {facet.id: facet.count for facet in facets} == counts
    return hits


def check_texts(archive: ArchiveModel, search: Search) -> int:
    """Compare searches of every kind. Return of how many hits somebody said something that the text is about."""
    vectors = np.stack([result.vector for result in archive.results[0].values()])
    background = Background.of(vectors, unit_vectors(20, np.random.default_rng(4)))
    spoken = 0
    for number, (text, terms, is_whole) in enumerate(TEXTS):
        vector = unit_vectors(1, np.random.default_rng(number))[0]
        vector /= np.linalg.norm(vector)
        for relevance in (None, 0.0):
            for narrowing in (SearchQuery(), SearchQuery(archive="photos"), SearchQuery(threshold=0.6)):
                floor = background.floor(DEFAULT_RELEVANCE) if relevance is None else -np.inf
                query = replace(narrowing, text=text, relevance=relevance, limit=7, generation=archive.generations[0])
                wanted = expected(archive, query, terms, vector, floor, is_whole=is_whole)
                hits = found(archive, search, query, vector)
                assert [hit.image_id for hit in hits] == list(wanted.scores), query
                for hit in hits:
                    assert abs(hit.score - wanted.scores[hit.image_id]) < 1e-4
                    assert hit.why is not None
                    assert bool(hit.why.removed) == (hit.image_id in wanted.refuted)
                    spoken += bool(hit.why.added) + bool(hit.why.removed)
    return spoken

"""Searches of every kind against plain Python over the same archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.results.spaces import TEXT
from storage.search.compared import Compared
from storage.tables import SCORE_SCALE
from tests.vector_archive import unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.search.search import Search
    from storage.search.views import Hit, SearchQuery
    from tests.archive_model import ArchiveModel


def all_pages(
    archive: ArchiveModel, search: Search, query: SearchQuery, vector: NDArray[np.float32] | None = None
) -> tuple[list[Hit], int | None]:
    hits: list[Hit] = []
    while True:
        with unit_of_work(archive.engine) as session:
            page = search.page(session, query, [] if vector is None else [Compared(TEXT, "image", vector)])
        hits += page.items
        if page.next_cursor is None:
            return hits, page.total
        assert len(page.items) == query.limit
        query = query.after(page.next_cursor)


def check(archive: ArchiveModel, search: Search, generation: int) -> None:
    """Compare one query of each kind with the model."""
    query = archive.a_query(generation)
    hits, total = all_pages(archive, search, query)
    expected = archive.by_tags(generation, query)
    assert [(hit.image_id, hit.score) for hit in hits] == expected, query
    assert total == len(expected)
    for hit in hits[:3]:
        assert hit.key == archive.facts[hit.image_id].key
        tags = archive.tags_that_count(generation, hit.image_id)
        assert {tag.id for tag in hit.tags} == {
            tag for tag, units in tags.items() if units > archive.units(generation, tag, query.threshold)
        }
        for tag in hit.tags:
            assert (tag.score, tag.source) == (
                (1, "person") if tags[tag.id] > SCORE_SCALE else (tags[tag.id] / SCORE_SCALE, "model")
            )

    with unit_of_work(archive.engine) as session:
        facets = search.facets(session, query, 500)
        assert search.facets(session, query, 2) == facets[:2]
        every = search.all_hits(session, query)
    assert {facet.id: facet.count for facet in facets} == archive.facets(generation, query), query
    assert [(-facet.count, facet.id) for facet in facets] == sorted((-facet.count, facet.id) for facet in facets)
    assert every is not None
    assert [(image.image_id, image.score) for image in every[1]] == sorted(expected), query

    vector = unit_vectors(1, archive.rng)[0]
    vector /= np.linalg.norm(vector)
    hits, total = all_pages(archive, search, query, vector)
    nearest = archive.nearest(generation, query, vector)
    assert [hit.image_id for hit in hits] == nearest, query
    assert total == len(nearest)

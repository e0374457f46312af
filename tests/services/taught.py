"""What tests of teaching ask of services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import unit_of_work
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.wiring import Services

    Make = Callable[..., Services]


TOOLS, OTHERS = 14, 40
"""Photographs of each kind in the folder of these tests."""


def ids_of(services: Services, prefix: str, count: int | None = None) -> list[int]:
    statement = text("SELECT id FROM image WHERE starts_with(key, :prefix) ORDER BY key")
    with unit_of_work(services.engine) as session:
        return list(session.scalars(statement, {"prefix": prefix}))[:count]


def found(services: Services, query: str) -> set[str]:
    asked = services.search.read(SearchQuery(limit=100), query)
    return {hit.key for hit in services.search.page(asked).items}


def tags_in_use(services: Services) -> set[str]:
    return {facet.name for facet in services.search.facets(SearchQuery(), limit=500)}


def records(services: Services, generation_id: int) -> dict[int, dict[int, int]]:
    """By image: the score of each tag, in units."""
    statement = text("SELECT image_id, tags, scores FROM record WHERE generation_id = :id")
    with unit_of_work(services.engine) as session:
        return {
            row.image_id: dict(zip(row.tags, row.scores, strict=True))
            for row in session.execute(statement, {"id": generation_id})
        }

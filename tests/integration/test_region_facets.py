"""Located tags of the images that a search finds: on their own, on the page, in the API and in its client."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from functools import partial
from html import unescape
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ramq.schemas.hits import RegionFacetsOut
from storage.database import unit_of_work
from storage.results import region_boxes, regions
from storage.search import kept_regions
from storage.search.views import SearchQuery, asking
from storage.texts import fold
from tests.archive_model import ArchiveModel
from tests.region_archive import RegionArchive, add_generation, place, row
from tests.services.located import write_regions
from tests.vector_archive import as_text, unit_vectors

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from storage.index.builder import IndexBuilder
    from storage.search.search import Search
    from storage.search.views import RegionFacet, RegionFacets

pytestmark = pytest.mark.services

TAGS = ["dog", "cat", "Red  boat", "a:b", "bird"]


def facets_of(engine: Engine, search: Search, asked: str) -> RegionFacets | None:
    with unit_of_work(engine) as session:
        query = asking(SearchQuery(limit=500), asked)
        vector = unit_vectors(1, np.random.default_rng(1))[0] if query.text else None
        found = search.region_facets(session, query, as_text(vector))
        assert search.page_with_facets(session, query, 3, as_text(vector))[2] == found
    return found


def hits_of(engine: Engine, search: Search, asked: str) -> set[int]:
    with unit_of_work(engine) as session:
        query = asking(SearchQuery(limit=500), asked)
        vector = unit_vectors(1, np.random.default_rng(1))[0] if query.text else None
        return {hit.image_id for hit in search.page(session, query, as_text(vector)).items}


def shown(facets: list[RegionFacet]) -> list[tuple[str, int]]:
    return [(facet.query, facet.count) for facet in facets]


@pytest.mark.parametrize("is_warm", [False, True])
def test_facets_count_what_their_queries_find_under_corrections_archives_and_filters(
    engine: Engine, search: Search, builder: IndexBuilder, *, is_warm: bool
) -> None:
    model = ArchiveModel(engine, images_of_each=12)
    model.record(0, list(model.facts))
    builder.publish_new(model.generations[0], force=True)
    ids, rng = sorted(model.facts), np.random.default_rng(3)
    located = RegionArchive(engine, add_generation(engine), ids)

    def check() -> None:
        with unit_of_work(engine) as session:
            views = regions.views(session, ids)
        counts = {one: region_boxes.counts(view.regions) for one, view in views.items()}
        for asked in ("", "archive:1", "-cat", "count:dog>=1", "count:DOG<=4 tag:cat", "some words", "area:dog<1"):
            hits = hits_of(engine, search, asked)
            expected = Counter(name for one in hits for name in counts.get(one, ()))
            facets = facets_of(engine, search, asked)
            assert facets is not None
            assert {fold(facet.name): facet.count for facet in facets.tags} == expected, asked
            assert [facet.count for facet in facets.tags] == sorted(expected.values(), reverse=True)
            for facet in (*facets.tags, *facets.numbers):
                assert len(hits_of(engine, search, f"{asked} {facet.query}")) == facet.count, (asked, facet)
            is_counted = asked.startswith("count")
            dogs = sum("dog" in counts[one] for one in hits & set(counts))
            assert sum(facet.count for facet in facets.numbers) == (dogs if is_counted else 0)

    located.write(*(row(one, *rng.choice(TAGS, rng.integers(0, 12)).tolist()) for one in ids[:-4]))
    if is_warm:
        search.regions.warm(partial(unit_of_work, engine))
    check()
    for one in ids[:6]:
        located.correct(one, "dog", place(int(rng.integers(8))), is_there=bool(rng.integers(2)))
    located.write(row(ids[0], "wolf", "wolf"), row(ids[-1], *["dog"] * 9))
    check()
    model.delete(ids[1:3])
    ids = [ids[0], *ids[3:]]
    check()


def test_there_are_no_facets_of_regions_without_regions_or_of_too_many_images(
    engine: Engine, search: Search, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = facets_of(engine, search, "")
    assert nothing is None or (nothing.tags, nothing.numbers) == ([], [])
    model = ArchiveModel(engine, images_of_each=8)
    model.record(0, list(model.facts))
    builder.publish_new(model.generations[0], force=True)
    nothing = facets_of(engine, search, "count:dog>=1")
    assert nothing is not None
    assert (nothing.tags, nothing.numbers) == ([], [])
    ids = sorted(model.facts)
    RegionArchive(engine, add_generation(engine), ids).write(*(row(one, "dog") for one in ids[:4]))
    monkeypatch.setattr(kept_regions, "FEW", 4)
    assert facets_of(engine, search, "") is None
    few = facets_of(engine, search, "count:dog>=1")
    assert few is not None
    assert shown(few.tags) == [("count:dog>=1", 4)]
    search.regions.warm(partial(unit_of_work, engine))
    every = facets_of(engine, search, "")
    assert every is not None
    assert shown(every.tags) == [("count:dog>=1", 4)]


def test_the_page_and_the_api_show_located_tags_and_each_narrows_the_search(client: TestClient) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    ids = [item["image_id"] for item in client.get("/v1/search").json()["items"]]
    for image_id, tags in zip(ids, (["dog"] * 4, ["dog", "red boat"], ["dog"] * 7, []), strict=False):
        write_regions(services, image_id, row(image_id, *tags).regions)

    found = RegionFacetsOut.model_validate(client.get("/v1/tags?limit=1").json()["regions"])
    assert [(facet.query, facet.count) for facet in found.tags] == [("count:dog>=1", 3), ('count:"red boat">=1', 1)]
    assert found.numbers == []
    counted = client.get("/v1/tags", params={"q": "count:dog>=1"}).json()["regions"]
    assert [(each["low"], each["high"], each["count"]) for each in counted["numbers"]] == [
        (1, 1, 1),
        (3, 5, 1),
        (6, None, 1),
    ]
    first = client.get("/v1/tags?limit=1").json()
    assert client.get("/v1/tags", params={"limit": 1, "cursor": first["next_cursor"]}).json()["regions"] is None

    page = client.get("/", params={"q": "count:dog>=1"}).text
    aside = page[page.index('<aside id="facets"') : page.index("</aside>")]
    assert "Located tags" in aside
    assert "Number of regions" in aside
    located = aside[aside.index("Number of regions") :]
    links = [unescape(link) for link in re.findall(r'href="([^"]+)"', located)]
    totals = [int(figure) for figure in re.findall(r'class="figure">(\d+)<', located)]
    assert totals == [1, 1, 1, 3, 1]
    for link, total in zip(links, totals, strict=True):
        assert f">{total} image" in client.get(link).text, link
    assert "Located tags" not in client.get("/", params={"q": "count:wolf>=1"}).text


def test_a_server_reads_regions_beforehand_and_again_when_they_came_later(client: TestClient) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    kept, ids = (
        services._search_of_database.regions,
        [item["image_id"] for item in client.get("/v1/search").json()["items"]],
    )

    def wait() -> None:
        deadline = time.monotonic() + 60
        while kept._state is None or not kept._state.is_complete:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    client.get("/v1/search", params={"q": "count:dog>=1"})
    assert kept.needs_warming, "nothing reads beforehand in a process that is no server"
    kept._state = None
    with client:
        client.get("/v1/search")
        assert kept._state is None, "nothing was located"
        write_regions(services, ids[0], row(ids[0], "dog").regions)
        client.get("/v1/search", params={"q": "count:dog>=1"})
        wait()
    kept._state = None
    with client:
        wait()
    assert not [thread for thread in threading.enumerate() if thread.name == "region warmer"]

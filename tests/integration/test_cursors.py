"""Pages that people turn while the archive changes: nothing comes twice, and nothing is left out."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.index.ann import FLAT_ROWS
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.results import corrections, serving
from storage.results.corrections import Said
from storage.results.spaces import TEXT
from storage.search import cursors
from storage.search import query as queries
from storage.search.compared import Compared
from storage.search.language import parse
from storage.search.views import SearchQuery
from tests.archive_model import ArchiveModel
from tests.vector_archive import unit_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.search.search import Search
    from storage.search.views import HitPage

pytestmark = pytest.mark.services

QUERIES = {
    "all": SearchQuery(limit=7),
    "a tag": SearchQuery(limit=7, tags=("cat",)),
    "similar": SearchQuery(limit=7),
    "similar, with a tag": SearchQuery(limit=7, tags=("dog",)),
    "similar, by lists": SearchQuery(limit=7),
    "a text": SearchQuery(limit=7, text="anything"),
}


@pytest.fixture
def archive(engine: Engine) -> ArchiveModel:
    return ArchiveModel(engine)


def vector_of(archive: ArchiveModel) -> np.ndarray:
    vector = unit_vectors(1, archive.rng)[0]
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def page_of(archive: ArchiveModel, search: Search, query: SearchQuery, compared: list[Compared]) -> HitPage:
    with unit_of_work(archive.engine) as session:
        return search.page(session, query, compared)


@pytest.mark.parametrize("kind", QUERIES)
def test_pages_hold_what_was_there_throughout_once_while_images_come_and_go(
    archive: ArchiveModel, search: Search, tmp_path: Path, kind: str
) -> None:
    place, rows = FolderStorage(tmp_path / "index"), 10 if kind.endswith("by lists") else FLAT_ROWS
    builder = IndexBuilder(archive.engine, place, tmp_path / "builder-cache", min_rows=1, flat_rows=rows)
    images = archive.rng.permutation(list(archive.facts)).tolist()
    first, later = images[: len(images) // 2], images[len(images) // 2 :]
    archive.record(0, first)
    builder.publish_new(archive.generations[0], force=True)
    vector = vector_of(archive)
    compared = {"a text": [Compared(TEXT, "text", vector)]}.get(kind, [])
    if kind.startswith("similar"):
        compared = [Compared(TEXT, "image", vector)]
    query = QUERIES[kind]
    before = {hit.image_id for hit in _all(archive, search, query, compared)}

    seen: list[int] = []
    scores: list[float] = []
    gone: set[int] = set()
    while True:
        page = page_of(archive, search, query, compared)
        seen += [hit.image_id for hit in page.items]
        scores += [hit.score for hit in page.items]
        if page.next_cursor is None:
            break
        query = query.after(page.next_cursor)
        # The last hit goes too: then its place alone says where to go on.
        victims = [page.items[-1].image_id, *archive.some(archive.results[0], 0.02)]
        archive.delete(victims)
        gone |= set(victims)
        archive.record(0, later[:5])
        del later[:5]

    assert len(seen) == len(set(seen)), "twice"
    assert before - gone <= set(seen), "left out"
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("is_present", [True, False])
def test_a_page_does_not_follow_its_last_hit_when_a_person_corrects_it(
    archive: ArchiveModel, search: Search, *, is_present: bool
) -> None:
    archive.record(0, list(archive.facts))
    compared = [Compared(TEXT, "text", vector_of(archive))]
    query = SearchQuery(limit=7, text="a dog")
    before = {hit.image_id for hit in _all(archive, search, query, compared)}
    seen: list[int] = []
    corrected: set[int] = set()
    while True:
        page = page_of(archive, search, query, compared)
        seen += [hit.image_id for hit in page.items if hit.image_id not in corrected]
        if page.next_cursor is None:
            break
        query = query.after(page.next_cursor)
        last = page.items[-1].image_id
        with unit_of_work(archive.engine) as session:
            corrections.put(session, [last], [Said("dog", "dog", is_present=is_present)], "ann")
        corrected.add(last)

    assert len(seen) == len(set(seen)), "twice"
    assert before - corrected <= set(seen), "left out"


def test_pages_of_a_fused_search_are_one_list(archive: ArchiveModel, search: Search) -> None:
    archive.record(0, list(archive.facts))
    compared = [Compared(TEXT, "image", vector_of(archive)) for _ in range(2)]
    whole = page_of(archive, search, SearchQuery(limit=500), compared)
    pages = _all(archive, search, SearchQuery(limit=7), compared)
    assert [hit.image_id for hit in pages] == [hit.image_id for hit in whole.items]
    assert len(pages) == len(archive.facts)


@pytest.mark.parametrize("query", [SearchQuery(limit=7), SearchQuery(limit=7, text="anything", relevance=0.5)])
def test_a_cursor_with_a_place_that_no_list_has_is_refused(
    archive: ArchiveModel, search: Search, query: SearchQuery
) -> None:
    archive.record(0, list(archive.facts))
    names = unit_vectors(20, archive.rng).astype(np.float32)
    names /= np.linalg.norm(names, axis=1, keepdims=True)
    compared = [Compared(TEXT, "text" if query.text else "image", vector_of(archive), names=names)]
    cursor = page_of(archive, search, query, compared).next_cursor
    assert cursor
    bound, place, *others = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    assert place == 7
    far = cursors.encode_cursor((3 * queries.MAX_OFFSET, *others), bound)
    with pytest.raises(UsageError, match="the cursor does not belong to this search"):
        page_of(archive, search, query.after(far), compared)


def _all(archive: ArchiveModel, search: Search, query: SearchQuery, compared: list[Compared]) -> list:
    found, page = [], page_of(archive, search, query, compared)
    while True:
        found += page.items
        if page.next_cursor is None:
            return found
        page = page_of(archive, search, query.after(page.next_cursor), compared)


def test_a_ranking_by_a_vector_says_at_its_end_that_more_match(
    archive: ArchiveModel, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, list(archive.facts))
    compared = [Compared(TEXT, "image", vector_of(archive))]
    query = SearchQuery(limit=20)
    whole = _all(archive, search, query, compared)
    monkeypatch.setattr(queries, "MAX_OFFSET", 50)

    pages = [page_of(archive, search, query, compared)]
    while pages[-1].next_cursor:
        pages.append(page_of(archive, search, query.after(pages[-1].next_cursor), compared))

    assert [len(page.items) for page in pages] == [20, 20, 10]
    assert [hit.image_id for page in pages for hit in page.items] == [hit.image_id for hit in whole[:50]]
    assert [page.ended is None for page in pages] == [True, True, False]
    assert pages[-1].ended is not None
    assert "the nearest 50" in pages[-1].ended.text
    monkeypatch.setattr(queries, "MAX_OFFSET", len(whole))
    assert page_of(archive, search, SearchQuery(limit=len(whole)), compared).ended is None
    by_tags = page_of(archive, search, SearchQuery(limit=500), [])
    assert (by_tags.next_cursor, by_tags.ended) == (None, None)


@pytest.mark.parametrize("narrowed", [SearchQuery(), SearchQuery(any_tags=("cat", "dog"))])
def test_pages_of_tags_follow_the_last_tag(archive: ArchiveModel, search: Search, narrowed: SearchQuery) -> None:
    archive.record(0, list(archive.facts))
    with unit_of_work(archive.engine) as session:
        every = search.facets(session, narrowed, 500)
        found, after = [], None
        while part := search.facets(session, narrowed, 3, (), after):
            found += part
            after = part[-1].id, part[-1].count
    assert found == every
    assert len(every) > 4


def test_a_cursor_of_another_list_is_refused() -> None:
    for cursor in (
        cursors.encode_cursor((3, 4)),
        cursors.encode_cursor((3, 4, 5)),
        cursors.encode_cursor((3,), "tags"),
    ):
        with pytest.raises(UsageError, match="the cursor does not belong to this search"):
            cursors.decode_cursor(cursor, 2, "tags")


def test_a_cursor_of_other_conditions_is_refused(archive: ArchiveModel, search: Search) -> None:
    archive.record(0, list(archive.facts))
    asked = SearchQuery(limit=2)
    cursor = page_of(archive, search, asked, []).next_cursor
    assert cursor
    assert page_of(archive, search, replace(asked, cursor=cursor, limit=3), []).items
    for changed in (
        SearchQuery(tags=("dog",)),
        SearchQuery(not_tags=("dog",)),
        SearchQuery(threshold=0.9),
        SearchQuery(prefix="a"),
        SearchQuery(where=parse("tag:dog").where),
    ):
        with pytest.raises(UsageError, match="does not belong to this search"):
            page_of(archive, search, replace(changed, cursor=cursor), [])
    archive.record(1, list(archive.facts))
    with unit_of_work(archive.engine) as session:
        serving.use(session, archive.generations[1])
    with pytest.raises(UsageError, match="another generation is in use now"):
        page_of(archive, search, replace(asked, cursor=cursor), [])

"""Searches of every kind, over published segments and what is newer, against plain Python over the same archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.index import selection
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.results.tags import UnknownTagError
from storage.search import hits
from storage.search.language import AllOf, AnyOf, FieldTerm, NotOf, QuerySyntaxError, TagTerm
from storage.search.views import SearchQuery
from tests.archive_model import ArchiveModel
from tests.search_checks import all_pages, check

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.search.language import Expression
    from storage.search.search import Search
    from storage.search.views import Hit

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> ArchiveModel:
    return ArchiveModel(engine)


@pytest.fixture
def builder(engine: Engine, tmp_path: Path) -> IndexBuilder:
    return IndexBuilder(engine, FolderStorage(tmp_path / "index"), tmp_path / "builder-cache", min_rows=1)


def test_every_kind_of_search_finds_what_plain_python_finds_while_the_archive_changes(
    archive: ArchiveModel, builder: IndexBuilder, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = archive.rng

    def change() -> None:
        generation = int(rng.integers(2))
        held = archive.results[generation]
        match int(rng.integers(8)):
            case 0 | 1:
                archive.record(generation, archive.some(archive.facts, 0.3))
            case 2:
                archive.record(generation, archive.some(held, 0.2), has_new_vectors=False)
            case 3:
                archive.delete(archive.some(archive.facts, 0.05))
            case 4:
                archive_number = int(rng.integers(3))
                keys = [fact.key for fact in archive.facts.values() if fact.archive == archive_number]
                archive.list_again(archive_number, [str(key) for key in rng.choice(keys, size=20)])
            case 5:
                archive.correct(archive.some(archive.facts, 0.1))
                archive.rule()
            case 6:
                builder.publish_new(archive.generations[generation], force=True)
            case _:
                builder.compact(archive.generations[generation])

    for _ in range(40):
        change()
        monkeypatch.setattr(selection, "_LARGE", int(rng.choice([1, 1000])))  # its parts in threads, or in turns
        for generation in (0, 1):
            check(archive, search, generation)


def test_images_like_one_of_the_archive_are_found_without_itself(archive: ArchiveModel, search: Search) -> None:
    archive.record(0, list(archive.facts))
    image_id = max(archive.facts)
    query = SearchQuery(like=image_id, tags=("cat",), limit=9)

    hits, total = all_pages(archive, search, query)

    nearest = archive.nearest(0, query, archive.results[0][image_id].vector)
    assert [hit.image_id for hit in hits] == nearest
    assert total == len(nearest)


def test_a_page_is_filled_up_when_images_vanish_between_the_index_and_the_database(
    archive: ArchiveModel, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, list(archive.facts))
    query = SearchQuery(tags=("dog",), limit=10)
    expected = archive.by_tags(0, query)
    victims = [image_id for image_id, _ in expected[2:15]]
    read = hits.hits_of

    def deleting(*arguments: object) -> list[Hit]:
        if victims:
            archive.delete(victims)
            victims.clear()
        return read(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr("storage.search.search.hits_of", deleting)
    with unit_of_work(archive.engine) as session:
        page = search.page(session, query)

    assert [hit.image_id for hit in page.items] == [image_id for image_id, _ in expected[:2] + expected[15:23]]


def test_what_is_read_out_is_of_one_moment_whatever_changes_meanwhile(
    archive: ArchiveModel, builder: IndexBuilder, search: Search
) -> None:
    archive.record(0, list(archive.facts)[:100])
    builder.publish_new(archive.generations[0], force=True)
    archive.record(0, list(archive.facts)[100:150])
    with unit_of_work(archive.engine) as session:
        every = search.all_hits(session, SearchQuery())
    assert every is not None
    found = iter(every[1])
    before = sorted(archive.results[0])
    seen = [next(found).image_id for _ in range(30)]

    archive.record(0, before[20:40])
    archive.record(0, list(archive.facts)[150:])
    builder.publish_new(archive.generations[0], force=True)
    builder.compact(archive.generations[0], purge=True)
    builder.collect_garbage()

    assert seen + [image.image_id for image in found] == before


def test_completions_count_the_images_that_have_the_tag(
    archive: ArchiveModel, builder: IndexBuilder, search: Search
) -> None:
    archive.record(0, archive.some(archive.facts, 0.6))
    builder.publish_new(archive.generations[0], force=True)
    archive.delete(archive.some(archive.results[0], 0.2))
    archive.record(0, archive.some(archive.facts, 0.2))

    with unit_of_work(archive.engine) as session:
        facets = search.suggest(session, "D", 10)

    counts = archive.facets(0, SearchQuery())
    assert [(facet.name, facet.id, facet.count) for facet in facets] == [("dog", 0, counts[0]), ("dog", 4, counts[4])]


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        (TagTerm("dgo", at=7), UnknownTagError, "dog"),
        (AllOf((TagTerm("cat"), NotOf(TagTerm("no such", at=7)))), UnknownTagError, "no such"),
        (FieldTerm("archive", "s3://nobody", at=7), NotFoundError, "s3://photos"),
        (AnyOf((TagTerm("cat"), FieldTerm("job", "x", at=7))), QuerySyntaxError, "job:3"),
        (FieldTerm("job", "999", at=7), NotFoundError, "999"),
        (FieldTerm("job", "9" * 30, at=7), NotFoundError, "999"),
        (FieldTerm("after", "yesterday", at=7), QuerySyntaxError, "after:2024-01-31"),
        (FieldTerm("before", "0001-01-01T00:00+14:00", at=7), QuerySyntaxError, "before:"),
        (FieldTerm("larger", "2 furlongs", at=7), QuerySyntaxError, "larger:2MB"),
    ],
)
def test_what_a_query_names_wrongly_is_told_with_its_place(
    archive: ArchiveModel, search: Search, where: Expression, error: type[UsageError], words: str
) -> None:
    with unit_of_work(archive.engine) as session, pytest.raises(error, match=words) as raised:
        search.page(session, SearchQuery(where=where))

    assert raised.value.at == 7


@pytest.mark.parametrize("generation", [99, 2**40])
def test_a_generation_that_is_not_there_is_not_searched(archive: ArchiveModel, search: Search, generation: int) -> None:
    with unit_of_work(archive.engine) as session, pytest.raises(NotFoundError, match="generation"):
        search.page(session, SearchQuery(generation=generation))


def test_a_job_in_the_text_of_a_query_is_searched_under_its_own_generation(
    archive: ArchiveModel, search: Search
) -> None:
    archive.record(0, list(archive.facts))
    archive.record(1, list(archive.facts))
    job_id = next(iter(archive.results[1].values())).job_id

    hits, _ = all_pages(archive, search, SearchQuery(where=FieldTerm("job", str(job_id)), limit=500))

    assert sorted(hit.image_id for hit in hits) == sorted(archive.results[1])


def test_a_query_of_too_many_terms_or_too_deep_is_refused(archive: ArchiveModel, search: Search) -> None:
    deep: Expression = TagTerm("cat")
    for _ in range(17):
        deep = NotOf(deep)
    many = SearchQuery(tags=("cat",) * 60, where=AnyOf((TagTerm("cat"),) * 5))

    with unit_of_work(archive.engine) as session:
        with pytest.raises(UsageError, match="nested"):
            search.page(session, SearchQuery(where=deep))
        with pytest.raises(UsageError, match="at most 64"):
            search.page(session, many)


@pytest.mark.parametrize("cursor", ["", "x", "e30", "WzFd", "WzEsMSwxXQ", "Wy0xLDFd", "WzEuNSwxXQ", "W3RydWUsMV0"])
def test_a_cursor_that_no_page_of_this_kind_gave_out_is_refused(
    archive: ArchiveModel, search: Search, cursor: str
) -> None:
    with unit_of_work(archive.engine) as session:
        if not cursor:
            assert search.page(session, SearchQuery(cursor=cursor)).items == []
            return
        with pytest.raises(UsageError, match="cursor"):
            search.page(session, SearchQuery(cursor=cursor))

"""The index in Milvus: the same searches as with segments, and what a builder may suffer."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from ramq.doctor import examine
from storage.database import unit_of_work
from storage.errors import NotFoundError, ServiceUnavailableError, UsageError
from storage.index.erasure_check import in_searches
from storage.index.milvus import collection
from storage.index.milvus.client import Milvus
from storage.index.milvus.collection import Collection
from storage.results import vectors as repository
from storage.search.views import SearchQuery, asking
from tests.reading_archive import ReadingArchive, add_text_generation, row
from tests.region_archive import RegionArchive, add_generation
from tests.region_archive import row as region_row
from tests.search_checks import all_pages, check
from tests.services.fleet import client_services
from tests.vector_archive import as_text, unit_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from storage.index.milvus.builder import MilvusBuilder
    from storage.index.milvus.reader import MilvusIndex
    from storage.search.search import Search
    from tests.archive_model import ArchiveModel

pytestmark = pytest.mark.services


def check_both(archive: ArchiveModel, search: Search, times: int = 3) -> None:
    for _ in range(times):
        for generation in (0, 1):
            check(archive, search, generation)


def test_every_kind_of_search_finds_what_plain_python_finds_while_the_archive_changes(
    archive: ArchiveModel, builder: MilvusBuilder, search: Search
) -> None:
    rng = archive.rng

    def change(kind: int, generation: int) -> None:
        held = archive.results[generation]
        match kind:
            case 0 | 1:
                archive.record(generation, archive.some(archive.facts, 0.3))
            case 2:
                archive.record(generation, archive.some(held, 0.2), has_new_vectors=False)
            case 3:
                archive.delete(archive.some(archive.facts, 0.05))
            case 4:
                archive.correct(archive.some(archive.facts, 0.2))
            case 5 | 6:
                builder.publish_new(archive.generations[generation], force=True)
            case _:
                builder.rebuild(archive.generations[generation])

    for kind in (0, 5, 4, 5):
        change(kind, 0)
        change(kind, 1)
    for _ in range(8):
        change(int(rng.integers(8)), int(rng.integers(2)))
        check_both(archive, search, 1)

    for generation_id in archive.generations:
        builder.publish_new(generation_id, force=True)
        assert builder.verify(generation_id) == []
    check_both(archive, search)


def test_text_in_pictures_is_found(archive: ArchiveModel, builder: MilvusBuilder, search: Search) -> None:
    archive.record(0, list(archive.facts))
    builder.publish_new(archive.generations[0], force=True)
    ids = sorted(archive.facts)
    reading = ReadingArchive(archive.engine, add_text_generation(archive.engine), ids)
    reading.write(row(ids[0], "HOSPIIAI"), row(ids[1], "Hospital"), row(ids[2], "hotel"))

    def found(asked: str) -> list[int]:
        with unit_of_work(archive.engine) as session:
            return [hit.image_id for hit in search.page(session, asking(SearchQuery(limit=500), asked)).items]

    assert found("read:hospital") == [ids[1], ids[0]]
    assert set(found("-read:hospital")) == set(ids[2:])
    assert found("read:nothing") == []


def test_regions_are_found_and_counted(archive: ArchiveModel, builder: MilvusBuilder, search: Search) -> None:
    archive.record(0, list(archive.facts))
    builder.publish_new(archive.generations[0], force=True)
    first, second, third, *_ = ids = sorted(archive.facts)
    located = RegionArchive(archive.engine, add_generation(archive.engine), ids)
    located.write(region_row(first, "dog", "dog"), region_row(second, "dog", "cat"), region_row(third))

    def found(asked: str) -> set[int]:
        with unit_of_work(archive.engine) as session:
            return {hit.image_id for hit in search.page(session, asking(SearchQuery(limit=500), asked)).items}

    assert found("count:dog>=2") == {first}
    assert found("count:dog<2") == {second, third}
    assert found("-count:dog>=2") == {*ids} - {first}
    assert found("area:dog>0 count:cat=0") == {first}
    with unit_of_work(archive.engine) as session:
        facets = search.region_facets(session, asking(SearchQuery(), "count:dog>=1"))
    assert facets is not None
    assert [(facet.query, facet.count) for facet in facets.tags] == [("count:dog>=1", 2), ("count:Cat>=1", 1)]
    assert [(facet.query, facet.count) for facet in facets.numbers] == [("count:dog=1", 1), ("count:dog=2", 1)]


def test_pages_by_one_tag_hold_where_more_images_match_than_can_be_read(
    archive: ArchiveModel, builder: MilvusBuilder, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, list(archive.facts))
    for _ in range(6):
        archive.correct(archive.some(archive.facts, 0.3))
    builder.publish_new(archive.generations[0], force=True)
    monkeypatch.setattr(collection, "MOST_READ", 3)

    for query in (SearchQuery(tags=("dog",), threshold=0.0, limit=7), SearchQuery(any_tags=("船", "cat"), limit=9)):
        hits, _ = all_pages(archive, search, query)
        assert [(hit.image_id, hit.score) for hit in hits] == archive.by_tags(0, query)
    with unit_of_work(archive.engine) as session:
        with pytest.raises(UsageError, match="too many to sort by several tags"):
            search.page(session, SearchQuery(tags=("dog", "cat"), threshold=0.0))
        with pytest.raises(UsageError, match="too many to count their tags"):
            search.facets(session, SearchQuery(), 10)


def test_an_image_changed_after_it_was_written_and_before_it_is_published_is_shown_as_it_is_now(
    archive: ArchiveModel, builder: MilvusBuilder, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, list(archive.facts))
    archive.record(1, list(archive.facts))
    builder.publish_new(archive.generations[0], force=True)
    archive.record(0, archive.some(archive.facts, 0.5))
    archive.delete(archive.some(archive.facts, 0.2))

    def killed(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(repository, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            builder.publish_new(archive.generations[0], force=True)
    archive.record(0, archive.some(archive.facts, 0.5))
    archive.delete(archive.some(archive.facts, 0.2))
    check_both(archive, search)

    builder.publish_new(archive.generations[0], force=True)
    assert builder.verify(archive.generations[0]) == []
    check_both(archive, search)


def test_a_rebuild_that_was_killed_changes_nothing_and_what_it_left_is_dropped(
    archive: ArchiveModel, builder: MilvusBuilder, search: Search, milvus: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, list(archive.facts))
    archive.record(1, list(archive.facts))
    builder.publish_new(archive.generations[0], force=True)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(milvus, "upsert", killed)
        with pytest.raises(KeyboardInterrupt):
            builder.rebuild(archive.generations[0])
    check_both(archive, search)
    assert builder.collect_garbage() == 0, "a search may still read what was replaced a moment ago"
    with unit_of_work(archive.engine) as session:
        session.execute(text("UPDATE index_state SET published_at = now() - interval '1 hour'"))

    assert builder.collect_garbage() == 1
    check_both(archive, search)
    assert len(milvus.collections()) == 1


def test_a_builder_that_lost_its_turn_writes_nothing(
    archive: ArchiveModel, builder: MilvusBuilder, milvus: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.record(0, list(archive.facts)[:30])
    builder.publish_new(archive.generations[0], force=True)
    archive.record(0, list(archive.facts)[30:])
    written = []
    monkeypatch.setattr(milvus, "upsert", lambda *_: written.append(1))
    begin = repository.begin_epoch

    def overtaken(*arguments: object) -> int:
        return begin(*arguments) - 1  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(repository, "begin_epoch", overtaken)
    with pytest.raises(ServiceUnavailableError, match="took over"):
        builder.publish_new(archive.generations[0], force=True)
    assert written == []


def test_verify_tells_what_is_missing_altered_and_too_much(
    archive: ArchiveModel, builder: MilvusBuilder, milvus: Milvus
) -> None:
    images = sorted(archive.facts)
    archive.record(0, images[:-1])
    builder.publish_new(archive.generations[0], force=True)
    (collection,) = milvus.collections()
    with milvus.opened() as client:
        row = client.query(collection, filter=f"pk == {-images[3]}", output_fields=["*"])[0]
        client.upsert(collection, [{**row, "size": 1}, {**row, "pk": -images[-1]}, {**row, "pk": -images[-1] - 7}])
    milvus.delete(collection, [images[5]])

    lines = builder.verify(archive.generations[0])

    assert len(lines) == 3
    assert f"lacks 1 images, for example image {images[5]}" in lines[0]
    assert f"differs from the database in 1 images, for example image {images[3]}" in lines[1]
    assert f"keeps deleted rows of 2 images, for example image {images[-1]}" in lines[2]
    builder.rebuild(archive.generations[0])
    assert builder.verify(archive.generations[0]) == []


def test_searches_go_on_from_postgres_when_the_collection_is_gone(
    archive: ArchiveModel, builder: MilvusBuilder, search: Search, milvus: Milvus
) -> None:
    archive.record(0, list(archive.facts))
    archive.record(1, list(archive.facts))
    builder.publish_new(archive.generations[0], force=True)
    (collection,) = milvus.collections()
    milvus.drop(collection)

    check_both(archive, search)
    assert "has no collection" in builder.verify(archive.generations[0])[0]
    archive.record(0, list(archive.facts)[:10])
    builder.publish_new(archive.generations[0], force=True)
    assert builder.verify(archive.generations[0]) == []


def test_status_and_archives_are_counted_exactly(
    archive: ArchiveModel, builder: MilvusBuilder, index: MilvusIndex
) -> None:
    archive.record(0, archive.some(archive.facts, 0.7))
    builder.publish_new(archive.generations[0], force=True)
    archive.record(0, archive.some(archive.facts, 0.3))
    archive.delete(archive.some(archive.facts, 0.2))

    with unit_of_work(archive.engine) as session:
        status = index.status(session, archive.generations[0])
        counts = index.archive_counts(session, archive.generations[0])
        with pytest.raises(NotFoundError):
            index.status(session, 999)

    held = archive.results[0]
    assert status.vectors_stored == len(held)
    assert status.segments == 1
    wanted = {a: sum(archive.facts[i].archive == n for i in held) for n, a in enumerate(sorted(counts))}
    assert dict(counts) == wanted


def test_requests_for_ids_grow_with_the_images_found_and_not_with_the_ids(
    milvus: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    milvus.create("far_apart", 2)
    row = {"vector": [1.0, 0.0], "archive": 1, "job": 1, "modified": 0, "size": 0, "key": "", "assigned": []}
    with milvus.opened() as client:
        client.upsert("far_apart", [{**row, "scores": {}, "pk": -image_id} for image_id in (3, 10**9, 7 * 10**11)])
    everything = Collection(milvus, "far_apart", np.empty(0, np.int32), np.empty(0, np.int64)).select(None)
    asked = []
    opened = milvus.opened
    monkeypatch.setattr(milvus, "opened", lambda: asked.append(1) or opened())  # type: ignore[func-returns-value]

    assert everything.ids().tolist() == [3, 10**9, 7 * 10**11]
    assert len(asked) == 1


def test_deleted_images_are_looked_for_in_the_collection_too(
    archive: ArchiveModel, builder: MilvusBuilder, index: MilvusIndex
) -> None:
    archive.record(0, list(archive.facts))
    builder.publish_new(archive.generations[0], force=True)
    victims = sorted(archive.facts)[:4]
    archive.delete(victims)

    of = archive.generations[0]

    def left() -> list[int]:
        with unit_of_work(archive.engine) as session:
            traces = in_searches(session, index, np.array(victims))
        places = ("collection", f"searches under generation {of}")
        return [trace.left for trace in traces if trace.place.startswith(places)]

    assert left() == [4, 0]
    builder.compact(of, purge=True)
    assert left() == [0, 0]


def test_a_text_ends_where_it_does_with_segments(archive: ArchiveModel, builder: MilvusBuilder, search: Search) -> None:
    archive.record(0, list(archive.facts))
    vector = unit_vectors(1, archive.rng)[0]
    vector /= np.linalg.norm(vector)
    names = unit_vectors(40, archive.rng)
    query = SearchQuery(text="a dog", relevance=0.9, limit=500)

    def found() -> list[int]:
        with unit_of_work(archive.engine) as session:
            return [hit.image_id for hit in search.page(session, query, as_text(vector, names)).items]

    before = found()
    builder.publish_new(archive.generations[0], force=True)
    assert found() == before


@pytest.mark.parametrize(
    ("url", "words"),
    [("milvus+http://", "milvus\\+http://host:19530"), ("milvus+file://", "path.db"), ("milvus+ftp://x/y", "milvus")],
)
def test_a_url_that_names_no_milvus_is_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Milvus(url)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    milvus = Milvus("milvus+http://root:secret@127.0.0.1:1/archive")
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1") as raised:
        milvus.collections()
    assert "secret" not in str(raised.value)


def test_a_missing_package_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(UsageError, match=r"pip install 'ramq\[milvus\]'"):
        Milvus("milvus+http://127.0.0.1:1").collections()


def test_everybody_says_that_milvus_does_not_answer(settings: Settings, tmp_path: Path) -> None:
    """Also where nothing was published yet, so that nothing would have been asked of it."""
    ours = settings.model_copy(update={"index_url": "milvus+http://ramq:their-password@127.0.0.1:9/ramq"})
    said = "Milvus cannot be reached at http://127.0.0.1:9"
    with client_services(ours) as services:
        assert said in services.ready()["index"]
        with pytest.raises(ServiceUnavailableError, match=said):
            services.index.check()
    [found] = [finding for finding in examine(ours) if finding.name == "index"]
    assert found.state == "fault"
    assert said in found.detail
    assert "their-password" not in found.detail
    done = subprocess.run(
        [sys.executable, "-m", "ramq.cli.main", "index", "status"],
        env={
            **os.environ,
            "RAMQ_DATA_DIR": str(ours.data_dir),
            "RAMQ_DATABASE_URL": str(ours.database_url),
            "RAMQ_INDEX_URL": str(ours.index_url),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr

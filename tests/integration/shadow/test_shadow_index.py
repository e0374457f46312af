"""A shadow of segments: filled beside the index, searched the same way, and never in its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index.builder import IndexBuilder
from storage.index.erasure_check import in_shadow
from storage.index.file_storage import FolderStorage
from storage.index.garbage import collect_garbage
from storage.index.index import VectorIndex
from storage.index.pointers import ShadowPointers, ShadowUnreadyError
from storage.results import serving
from storage.results import vectors as repository
from storage.search.views import SearchQuery
from tests.archive_model import ArchiveModel
from tests.search_checks import check

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.search.search import Search

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> ArchiveModel:
    return ArchiveModel(engine, images_of_each=20)


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "shadow")


@pytest.fixture
def shadow_builder(engine: Engine, place: FolderStorage, tmp_path: Path) -> IndexBuilder:
    return IndexBuilder(engine, place, tmp_path / "shadow-cache", min_rows=1, pointers=ShadowPointers(place))


def reader(place: FolderStorage, tmp_path: Path, **options: Any) -> VectorIndex:
    return VectorIndex(place, tmp_path / "shadow-reader", pointers=ShadowPointers(place, for_searches=True), **options)


def states(engine: Engine) -> list[tuple[Any, ...]]:
    with unit_of_work(engine) as session:
        return [tuple(row) for row in session.execute(text("SELECT * FROM index_state ORDER BY generation_id"))]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_shadow_finds_what_the_index_finds_while_the_archive_changes(
    archive: ArchiveModel,
    builder: IndexBuilder,
    search: Search,
    shadow_builder: IndexBuilder,
    place: FolderStorage,
    tmp_path: Path,
) -> None:
    shadow = reader(place, tmp_path)
    other = search.over(lambda: shadow)
    for generation, generation_id in enumerate(archive.generations):
        archive.record(generation, archive.some(archive.facts, 0.5))
        shadow_builder.publish_new(generation_id, force=True)
        check(archive, other, generation)
    archive.record(0, archive.some(archive.facts, 0.3))
    archive.delete(archive.some(archive.facts, 0.1))
    archive.correct(archive.some(archive.facts, 0.2))
    check(archive, other, 0)
    builder.publish_new(archive.generations[0], force=True)
    check(archive, search, 0)
    shadow_builder.publish_new(archive.generations[0], force=True)
    shadow_builder.compact(archive.generations[0], purge=True)
    check(archive, other, 0)
    shadow_builder.rebuild(archive.generations[0])
    check(archive, other, 0)
    assert shadow_builder.verify(archive.generations[0]) == []


def test_whatever_happens_to_a_shadow_changes_nothing_of_the_index(
    archive: ArchiveModel, builder: IndexBuilder, search: Search, tmp_path: Path, shadow_builder: IndexBuilder
) -> None:
    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts))
    builder.publish_new(generation_id, force=True)
    before, kept = states(archive.engine), files(tmp_path / "index")
    with unit_of_work(archive.engine) as guard:  # somebody builds the index, and the shadow does not wait for that
        assert repository.lock_builder(guard, generation_id, wait=False)
        shadow_builder.publish_new(generation_id, force=True)
        shadow_builder.rebuild(generation_id)
    for path in (tmp_path / "shadow").rglob("*.json"):
        path.write_bytes(b"garbage")
    assert shadow_builder.publish_new(generation_id, force=True) is not None
    shadow_builder.collect_garbage()
    assert states(archive.engine) == before
    assert files(tmp_path / "index") == kept
    assert builder.verify(generation_id) == []
    check(archive, search, 0)


def test_a_builder_of_a_shadow_that_lost_its_turn_publishes_nothing(
    archive: ArchiveModel, shadow_builder: IndexBuilder, place: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts))
    write = shadow_builder.store.write_manifest

    def write_late(*about: Any) -> bool:
        with unit_of_work(archive.engine) as session:
            ShadowPointers(place).begin_epoch(session, generation_id)
        return write(*about)

    monkeypatch.setattr(shadow_builder.store, "write_manifest", write_late)
    assert shadow_builder.publish_new(generation_id, force=True) is None
    with unit_of_work(archive.engine) as session:
        assert ShadowPointers(place).head(session, generation_id).pointer.manifest == 0


def test_searches_are_not_compared_before_a_shadow_has_what_there_is(
    archive: ArchiveModel, search: Search, shadow_builder: IndexBuilder, place: FolderStorage, tmp_path: Path
) -> None:
    def find(index: VectorIndex) -> int | None:
        with unit_of_work(archive.engine) as session:
            return search.over(lambda: index).page(session, SearchQuery()).total

    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts)[:30])
    with pytest.raises(ShadowUnreadyError, match="is not filled yet"):
        find(reader(place, tmp_path))
    shadow_builder.publish_new(generation_id, force=True)
    assert find(reader(place, tmp_path)) == 30
    archive.record(0, sorted(archive.facts)[30:])
    with pytest.raises(ServiceUnavailableError, match="30 images of generation"):
        find(reader(place, tmp_path, max_rows_bytes=10_000))
    assert find(reader(place, tmp_path)) == 60


def test_a_shadow_is_filled_again_after_all_rows_of_a_generation_were_erased_at_once(
    archive: ArchiveModel, shadow_builder: IndexBuilder, place: FolderStorage, tmp_path: Path
) -> None:
    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts))
    shadow_builder.publish_new(generation_id, force=True)
    pointers = ShadowPointers(place)
    with unit_of_work(archive.engine) as session:
        assert pointers.head(session, generation_id).pointer.manifest == 1
        repository.forget_published(session, generation_id)
    with unit_of_work(archive.engine) as session:
        assert pointers.head(session, generation_id).pointer.manifest == 0
    shadow_builder.publish_new(generation_id, force=True)
    with unit_of_work(archive.engine) as session:
        assert pointers.head(session, generation_id).pointer.manifest == 2
    assert shadow_builder.verify(generation_id) == []


def test_what_belongs_to_another_database_or_is_no_longer_there_is_forgotten(
    archive: ArchiveModel, shadow_builder: IndexBuilder, place: FolderStorage, tmp_path: Path
) -> None:
    generation_id = archive.generations[1]
    archive.record(1, sorted(archive.facts))
    shadow_builder.publish_new(generation_id, force=True)
    state = tmp_path / "shadow" / "published" / f"generation-{generation_id}.json"
    with unit_of_work(archive.engine) as session:
        ours = repository.system_identifier(session)
        state.write_text(state.read_text().replace(ours, "1234"))
        assert ShadowPointers(place).head(session, generation_id).pointer.manifest == 0
    with unit_of_work(archive.engine) as session:
        session.execute(text("UPDATE job SET state = 'done'"))
        serving.drop(session, generation_id)
    assert shadow_builder.collect_garbage() == 1
    assert not (tmp_path / "shadow" / f"generation-{generation_id}").exists()


def test_a_deleted_image_is_looked_for_in_a_shadow(
    archive: ArchiveModel, shadow_builder: IndexBuilder, place: FolderStorage, tmp_path: Path
) -> None:
    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts))
    shadow_builder.publish_new(generation_id, force=True)
    victims = sorted(archive.facts)[:3]
    archive.delete(victims)

    def left() -> int:
        with unit_of_work(archive.engine) as session:
            return sum(trace.left for trace in in_shadow(session, reader(place, tmp_path), np.array(victims)))

    assert left() == 3
    shadow_builder.compact(generation_id, purge=True)
    collect_garbage(archive.engine, shadow_builder.store, grace_seconds=-1, pointers=shadow_builder.pointers)
    assert left() == 0

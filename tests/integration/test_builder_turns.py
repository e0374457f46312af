"""Builders of one generation take turns: one that lost its turn, or was stopped, does no harm and holds nobody up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index import builder as builder_module
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.results import vectors as repository
from storage.results.index_rows import TableRows
from tests.vector_archive import VectorArchive, a_fresh_index, published

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.index.index import VectorIndex

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> VectorArchive:
    return VectorArchive(engine)


def test_a_builder_that_lost_its_turn_cannot_publish(
    archive: VectorArchive, builder: IndexBuilder, index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(archive.images[:50])
    write_manifest = builder.store.write_manifest

    def lose_the_turn(*args: object) -> bool:
        with unit_of_work(archive.engine) as session:
            repository.begin_epoch(session, archive.generation_id)
        return write_manifest(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(builder.store, "write_manifest", lose_the_turn)
    assert builder.publish_new(archive.generation_id, force=True) is None
    assert published(archive) == 0
    archive.check(index)


def test_only_one_builder_of_a_generation_works_at_a_time(
    archive: VectorArchive, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive.write(archive.images[:50])
    is_building, may_go_on = threading.Event(), threading.Event()
    build = builder_module.build_part

    def slowly(*args: object, **options: object) -> object:
        is_building.set()
        assert may_go_on.wait(30)
        return build(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builder_module, "build_part", slowly)
    second = IndexBuilder(archive.engine, builder.store.place, tmp_path / "second-cache")
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(builder.publish_new, archive.generation_id, force=True)
        assert is_building.wait(30)
        assert second.publish_new(archive.generation_id, force=True) is None
        may_go_on.set()
        assert first.result() is not None


def test_a_builder_that_was_stopped_makes_room_for_another(
    archive: VectorArchive, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repository, "BUILDER_IDLE_SECONDS", 1)
    archive.write(archive.images[:50])
    second = IndexBuilder(archive.engine, builder.store.place, tmp_path / "second-cache")
    build, numbers = builder_module.build_part, []

    def stopped(*args: object, **options: object) -> object:
        monkeypatch.setattr(builder_module, "build_part", build)
        second.rebuild(archive.generation_id)  # waits for the turn
        numbers.append(published(archive))
        return build(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builder_module, "build_part", stopped)
    with pytest.raises(ServiceUnavailableError):
        builder.publish_new(archive.generation_id, force=True)
    assert numbers == [published(archive)]
    archive.check(a_fresh_index(tmp_path))


def test_a_builder_that_works_for_long_keeps_its_turn(
    archive: VectorArchive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repository, "BUILDER_IDLE_SECONDS", 3)
    for start in range(0, 500, 50):
        archive.write(archive.images[start : start + 50])
    builder = IndexBuilder(archive.engine, FolderStorage(tmp_path / "index"), tmp_path / "cache", max_segment_rows=120)
    build = builder_module.build_part

    def slowly(*args: object, **options: object) -> object:
        time.sleep(0.8)
        return build(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builder_module, "build_part", slowly)
    rebuilt = builder.rebuild(archive.generation_id)
    assert rebuilt is not None
    assert rebuilt.segments == 5


def test_a_builder_that_stamps_many_rows_anew_keeps_its_turn(
    archive: VectorArchive, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a dump was restored, when every row claims to be from the future."""
    monkeypatch.setattr(repository, "BUILDER_IDLE_SECONDS", 3)
    archive.write(archive.images[:50])
    stamped = iter([builder_module.RESTAMP_ROWS] * 5 + [0])

    def slowly(*_: object) -> int:
        time.sleep(0.8)
        return next(stamped)

    monkeypatch.setattr(TableRows, "stamp_again", slowly)
    assert builder.rebuild(archive.generation_id) is not None


def test_a_builder_that_reads_many_segments_keeps_its_turn(
    archive: VectorArchive, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 250, 50):
        archive.write(archive.images[start : start + 50])
        builder.publish_new(archive.generation_id, force=True)
    monkeypatch.setattr(repository, "BUILDER_IDLE_SECONDS", 3)
    read = builder.store.segment

    def slowly(generation_id: int, name: str) -> object:
        time.sleep(0.8)
        return read(generation_id, name)

    monkeypatch.setattr(builder.store, "segment", slowly)
    assert builder.compact(archive.generation_id) is not None

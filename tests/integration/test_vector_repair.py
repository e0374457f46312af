from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index import manifest, segment, store
from storage.index.builder import IndexBuilder
from storage.index.file_storage import BucketStorage
from storage.index.garbage import collect_garbage
from storage.index.index import VectorIndex
from storage.results import vectors as repository
from tests.vector_archive import VectorArchive, a_fresh_index, nearest, published

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> VectorArchive:
    return VectorArchive(engine)


# Damage


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x40
    path.unlink()
    path.write_bytes(data)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
@pytest.mark.parametrize("pattern", ["*/vectors.faiss", "*/columns.bin", "*/segment.json", "dead-*", "manifest-*"])
def test_a_damaged_file_costs_no_result_is_reported_and_is_healed(
    archive: VectorArchive,
    builder: IndexBuilder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
    pattern: str,
) -> None:
    archive.write(archive.images[:100])
    builder.publish_new(archive.generation_id, force=True)
    archive.write(archive.images[90:150])
    archive.erase(archive.images[:5])
    builder.publish_new(archive.generation_id, force=True)
    archive.check(a_fresh_index(tmp_path))
    for path in (tmp_path / "index" / f"generation-{archive.generation_id}").glob(pattern):
        harm(path)
    shutil.rmtree(tmp_path / "builder-cache")

    reader = a_fresh_index(tmp_path)
    caplog.clear()
    archive.check(reader)
    assert "ramq index rebuild" in caplog.text
    assert reader.damaged(archive.generation_id)
    fresh_builder = IndexBuilder(archive.engine, builder.store.place, tmp_path / "builder-cache")
    assert fresh_builder.verify(archive.generation_id)

    archive.write(archive.images[140:160])
    fresh_builder.publish_new(archive.generation_id, force=True)
    assert fresh_builder.verify(archive.generation_id) == []
    archive.check(a_fresh_index(tmp_path))
    archive.check(reader)
    assert not reader.damaged(archive.generation_id)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 4096), overwrite])
@pytest.mark.parametrize("file", ["vectors.faiss", "columns.bin"])
def test_a_file_that_is_written_into_while_it_is_mapped_costs_no_result(
    archive: VectorArchive,
    builder: IndexBuilder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], None],
    file: str,
) -> None:
    """Reading what is mapped of a file that was cut short would end the process."""
    monkeypatch.setattr(store, "LOOK_SECONDS", 0.0)
    archive.write(archive.images[:100])
    builder.publish_new(archive.generation_id, force=True)
    reader = a_fresh_index(tmp_path)
    archive.check(reader)
    [path] = (tmp_path / "index" / f"generation-{archive.generation_id}").glob(f"*/{file}")
    harm(path)
    archive.check(reader)
    assert reader.damaged(archive.generation_id)

    builder.look_again()
    assert builder.compact(archive.generation_id) is not None, "without anything new to publish"
    assert builder.verify(archive.generation_id) == []
    archive.check(reader)
    assert not reader.damaged(archive.generation_id)


def test_a_lost_index_folder_is_built_again_although_nothing_new_comes(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path
) -> None:
    archive.write(archive.images[:100])
    builder.publish_new(archive.generation_id, force=True)
    shutil.rmtree(tmp_path / "index")
    builder.look_again()
    assert builder.publish_new(archive.generation_id) is not None
    assert builder.verify(archive.generation_id) == []
    archive.check(a_fresh_index(tmp_path))


def test_a_lost_index_folder_is_built_again_from_the_database(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path
) -> None:
    archive.write(archive.images[:100])
    builder.publish_new(archive.generation_id, force=True)
    shutil.rmtree(tmp_path / "index")
    archive.check(a_fresh_index(tmp_path))
    rebuilt = builder.rebuild(archive.generation_id)
    assert rebuilt is not None
    assert rebuilt.new_rows == 100
    assert builder.verify(archive.generation_id) == []
    archive.check(a_fresh_index(tmp_path))


def test_a_database_restored_from_a_dump_is_not_searched_through_the_old_index(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(archive.images[:100])
    with monkeypatch.context() as patch:
        patch.setattr(repository, "system_identifier", lambda _session: "another cluster")
        builder.publish_new(archive.generation_id, force=True)
    with unit_of_work(archive.engine) as session:  # a dump brings transaction ids of its own time
        session.execute(text("UPDATE vector SET xid = '900000000000'::xid8 WHERE image_id % 2 = 0"))
        session.execute(text("DELETE FROM vector WHERE image_id = :id"), {"id": archive.images[7]})
    del archive.held[archive.images[7]]
    reader = a_fresh_index(tmp_path)
    archive.check(reader)
    assert "another database" in reader.damaged(archive.generation_id)[0]
    archive.write([archive.images[150]])
    assert builder.publish_new(archive.generation_id) is not None
    assert builder.verify(archive.generation_id) == []
    archive.check(reader)
    with unit_of_work(archive.engine) as session:
        assert reader.status(session, archive.generation_id).delta == 0


def test_an_index_of_the_version_before_is_not_read_and_is_built_again_though_nothing_is_new(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(archive.images[:100])
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 1)
        patch.setattr(segment, "FORMAT", 1)
        builder.publish_new(archive.generation_id, force=True)
    reader = a_fresh_index(tmp_path)
    archive.check(reader)
    assert "another version" in reader.damaged(archive.generation_id)[0]
    fresh_builder = IndexBuilder(archive.engine, builder.store.place, tmp_path / "builder-cache")
    rebuilt = fresh_builder.publish_new(archive.generation_id)
    assert rebuilt is not None
    assert rebuilt.new_rows == 100
    assert fresh_builder.publish_new(archive.generation_id) is None
    archive.check(reader)
    assert not reader.damaged(archive.generation_id)
    assert fresh_builder.verify(archive.generation_id) == []


def test_a_manifest_number_is_not_used_again_after_the_database_was_set_back(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path
) -> None:
    archive.write(archive.images[:10])
    builder.publish_new(archive.generation_id, force=True)
    with unit_of_work(archive.engine) as session:
        state = session.execute(text("SELECT * FROM index_state")).mappings().one()
    archive.write(archive.images[10:20])
    builder.publish_new(archive.generation_id, force=True)
    with unit_of_work(archive.engine) as session:
        session.execute(
            text("UPDATE index_state SET manifest = :manifest, watermark = (:watermark)::xid8"),
            {"manifest": state["manifest"], "watermark": str(state["watermark"])},
        )
    archive.check(a_fresh_index(tmp_path))
    builder.publish_new(archive.generation_id, force=True)
    assert published(archive) == 3
    archive.check(a_fresh_index(tmp_path))


# Garbage


def test_garbage_is_what_no_recent_manifest_needs_and_open_readers_do_not_mind(
    archive: VectorArchive, builder: IndexBuilder, index: VectorIndex, tmp_path: Path
) -> None:
    folder = tmp_path / "index" / f"generation-{archive.generation_id}"
    for start in range(0, 250, 50):
        archive.write(archive.images[start : start + 60])
        builder.publish_new(archive.generation_id, force=True)
    with Session(archive.engine.execution_options(isolation_level="REPEATABLE READ")) as late:
        late.execute(text("SELECT 1"))
        archive.check(index)
        builder.compact(archive.generation_id, purge=True)
        (folder / ".staging-left-by-a-crash").mkdir()
        names = set(folder.iterdir())
        assert builder.collect_garbage() == 0
        assert set(folder.iterdir()) == names

        assert collect_garbage(archive.engine, builder.store, grace_seconds=-1) > 5
        assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["manifest", "segment"]
        archive.check(index)
        # Whoever still looks at the time before finds everything, though its files are gone.
        image_id = archive.images[0]
        ids, _ = nearest(a_fresh_index(tmp_path), late, archive.generation_id, archive.held[image_id], 1)
        assert ids.tolist() == [image_id]
    assert builder.verify(archive.generation_id) == []


def test_the_index_of_a_generation_that_was_dropped_is_garbage(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path
) -> None:
    (tmp_path / "index" / "generation-77" / "segment-x").mkdir(parents=True)
    (tmp_path / "index" / "not ours").mkdir()
    assert builder.collect_garbage() == 1
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["not ours"]


# In a bucket


@pytest.fixture
def bucket_place(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> BucketStorage:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return BucketStorage(bucket, "some/prefix", s3_server.endpoint_url)


def test_an_index_in_a_bucket_works_like_one_in_a_folder(
    archive: VectorArchive, bucket_place: BucketStorage, tmp_path: Path
) -> None:
    builder = IndexBuilder(archive.engine, bucket_place, tmp_path / "builder")
    reader = VectorIndex(bucket_place, tmp_path / "reader")
    for start in range(0, 200, 50):
        archive.write(archive.images[start : start + 60])
        archive.erase(archive.images[start : start + 2])
        builder.publish_new(archive.generation_id, force=True)
        archive.check(reader, queries=1)
    assert builder.verify(archive.generation_id) == []
    builder.compact(archive.generation_id, purge=True)
    archive.check(reader)
    assert builder.verify(archive.generation_id) == []
    assert builder.collect_garbage() == 0
    assert collect_garbage(archive.engine, builder.store, grace_seconds=-1) > 4
    folder = f"generation-{archive.generation_id}"
    assert sorted(name.partition("-")[0] for name in bucket_place.names(folder)) == ["manifest", "segment"]
    archive.check(VectorIndex(bucket_place, tmp_path / "new"))
    assert not bucket_place.create(f"{folder}/manifest-{published(archive):012d}.json", b"")


def test_a_damaged_copy_of_a_segment_in_a_bucket_is_fetched_again(
    archive: VectorArchive, bucket_place: BucketStorage, tmp_path: Path
) -> None:
    builder = IndexBuilder(archive.engine, bucket_place, tmp_path / "builder")
    archive.write(archive.images[:50])
    builder.publish_new(archive.generation_id, force=True)
    archive.check(VectorIndex(bucket_place, tmp_path / "reader"))
    (copy,) = (tmp_path / "reader").rglob("vectors.faiss")
    flip(copy)
    reader = VectorIndex(bucket_place, tmp_path / "reader")
    archive.check(reader)
    assert reader.damaged(archive.generation_id) == ()


def test_a_disk_that_takes_no_copies_costs_no_result_and_no_segment_is_written_again_for_it(
    archive: VectorArchive, bucket_place: BucketStorage, tmp_path: Path
) -> None:
    builder = IndexBuilder(archive.engine, bucket_place, tmp_path / "builder")
    archive.write(archive.images[:50])
    builder.publish_new(archive.generation_id, force=True)
    archive.write(archive.images[:60])
    folder = f"generation-{archive.generation_id}"
    before = published(archive), sorted(bucket_place.names(folder))
    for name in ("full", "reader"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "segments").write_bytes(b"")  # no folder can be made here
    with pytest.raises(ServiceUnavailableError, match=r"cannot be copied to .* Free space"):
        IndexBuilder(archive.engine, bucket_place, tmp_path / "full").publish_new(archive.generation_id, force=True)
    assert (published(archive), sorted(bucket_place.names(folder))) == before
    reader = VectorIndex(bucket_place, tmp_path / "reader")
    archive.check(reader)
    assert "cannot be copied" in reader.damaged(archive.generation_id)[0]
    builder.publish_new(archive.generation_id, force=True)
    archive.check(VectorIndex(bucket_place, tmp_path / "new"))
    assert builder.verify(archive.generation_id) == []


def test_a_bucket_that_does_not_answer_costs_no_result(archive: VectorArchive, tmp_path: Path) -> None:
    place = BucketStorage("nowhere", "", "http://127.0.0.1:9")
    reader = VectorIndex(place, tmp_path / "reader")
    archive.write(archive.images[:50])
    with unit_of_work(archive.engine) as session:
        repository.begin_epoch(session, archive.generation_id)
        repository.publish(session, archive.generation_id, epoch=1, manifest=1, watermark=1)
    archive.check(reader)
    with pytest.raises(ServiceUnavailableError, match="s3://nowhere"):
        IndexBuilder(archive.engine, place, tmp_path / "builder").publish_new(archive.generation_id, force=True)

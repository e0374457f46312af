from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from storage.database import unit_of_work
from storage.errors import FatalError, NotFoundError, ServiceUnavailableError
from storage.index import delta
from storage.index import index as index_module
from storage.index.garbage import collect_garbage
from storage.results import vectors as repository
from tests.vector_archive import SIZE, VectorArchive, a_fresh_index, nearest, unit_vectors, write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder
    from storage.index.index import VectorIndex

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> VectorArchive:
    return VectorArchive(engine)


# What a search finds


def test_an_empty_generation_is_searched_without_an_error(archive: VectorArchive, index: VectorIndex) -> None:
    archive.check(index)


def test_without_a_published_index_everything_is_found(archive: VectorArchive, index: VectorIndex) -> None:
    archive.write(archive.images)
    archive.check(index)


@pytest.mark.parametrize("seed", range(3))
def test_searches_equal_brute_force_through_any_history(
    engine: Engine, index: VectorIndex, builder: IndexBuilder, tmp_path: Path, seed: int
) -> None:
    archive = VectorArchive(engine, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(40):
        match int(rng.integers(0, 10)):
            case 0 | 1 | 2 | 3:
                archive.write(rng.choice(archive.images, size=int(rng.integers(1, 120)), replace=False).tolist())
            case 4 | 5:
                archive.erase(rng.choice(archive.images, size=int(rng.integers(1, 120)), replace=False).tolist())
            case 6 | 7:
                builder.publish_new(archive.generation_id, force=True)
            case 8:
                builder.compact(archive.generation_id, purge=bool(rng.integers(0, 2)))
            case _:
                builder.collect_garbage()
        archive.check(index, queries=2)
        archive.check(a_fresh_index(tmp_path), queries=1)
    assert builder.verify(archive.generation_id) == []
    builder.rebuild(archive.generation_id)
    archive.check(index)
    assert builder.verify(archive.generation_id) == []


def test_generations_do_not_see_each_other(archive: VectorArchive, index: VectorIndex, builder: IndexBuilder) -> None:
    archive.write(archive.images[:50])
    other = archive.under_another_generation()
    other.write(archive.images[25:75])
    for generation in (archive, other):
        builder.publish_new(generation.generation_id, force=True)
        generation.check(index)


def test_an_unknown_generation_is_said_to_be_unknown(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder
) -> None:
    with unit_of_work(archive.engine) as session, pytest.raises(NotFoundError, match="generation 999"):
        index.view(session, 999)
    with pytest.raises(NotFoundError, match="generation 999"):
        builder.rebuild(999)
    with pytest.raises(NotFoundError, match="generation 999"):
        builder.verify(999)


@pytest.mark.parametrize(
    "query", [np.zeros(SIZE), np.full(SIZE, np.nan), np.eye(SIZE + 1)[0], np.eye(SIZE)[:1], 5 * np.eye(SIZE)[0]]
)
def test_a_query_that_is_not_one_unit_vector_is_refused(
    archive: VectorArchive, index: VectorIndex, query: np.ndarray
) -> None:
    archive.write(archive.images[:3])
    with unit_of_work(archive.engine) as session, pytest.raises(ValueError, match=r"length|shape"):
        nearest(index, session, archive.generation_id, query.astype(np.float32), 3)


def test_asking_for_no_neighbours_is_refused(archive: VectorArchive, index: VectorIndex) -> None:
    with unit_of_work(archive.engine) as session, pytest.raises(ValueError, match="at least 1"):
        nearest(index, session, archive.generation_id, np.eye(SIZE, dtype=np.float32)[0], 0)


def test_the_vector_of_an_image_is_the_one_that_was_written(archive: VectorArchive, index: VectorIndex) -> None:
    archive.write(archive.images[:2])
    with unit_of_work(archive.engine) as session:
        found = index.vector_of(session, archive.generation_id, archive.images[0])
        assert found is not None
        np.testing.assert_array_equal(found, archive.held[archive.images[0]])
        assert index.vector_of(session, archive.generation_id, archive.images[5]) is None


def test_a_stored_vector_of_a_wrong_size_is_an_error_that_names_the_image(
    archive: VectorArchive, index: VectorIndex
) -> None:
    archive.write(archive.images[:30])
    broken = archive.images[17]
    with unit_of_work(archive.engine) as session:
        session.execute(text("UPDATE vector SET v = v || v WHERE image_id = :id"), {"id": broken})
    with pytest.raises(FatalError, match=rf"image {broken}\b"):
        archive.found(index, unit_vectors(1, archive.rng)[0], 3)


def test_image_ids_may_be_as_large_as_the_database_allows(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder
) -> None:
    large = 2**62 + 12345
    with unit_of_work(archive.engine) as session:
        session.execute(
            text(
                "INSERT INTO image (id, archive_id, key, version, size) OVERRIDING SYSTEM VALUE "
                "SELECT :id, archive_id, 'large', '1', 1 FROM image LIMIT 1"
            ),
            {"id": large},
        )
    archive.write([archive.images[0], large])
    archive.check(index)
    builder.publish_new(archive.generation_id, force=True)
    archive.check(index)


# When a search finds it


def test_another_process_finds_a_vector_as_soon_as_it_is_committed(
    archive: VectorArchive, builder: IndexBuilder, tmp_path: Path
) -> None:
    archive.write(archive.images[:100])
    builder.publish_new(archive.generation_id, force=True)
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import numpy as np
        from storage.database import make_engine, unit_of_work
        from storage.index.index import VectorIndex
        from storage.index.file_storage import FolderStorage
        from storage.index.selection import Selection
        url, folder, generation_id, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
        engine, index = make_engine(url), VectorIndex(FolderStorage(folder / "index"), folder / "cache")
        for line in sys.stdin:
            query = np.array(line.split(), dtype=np.float32)
            with unit_of_work(engine) as session:
                found = Selection.of(index.view(session, generation_id), None)
                print(found.nearest(query, 1)[0][0], flush=True)
        """
    )
    url = archive.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", script, url, str(tmp_path), str(archive.generation_id), str(SIZE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for image_id in [*archive.images[100:110], archive.images[3]]:
            archive.write([image_id])
            child.stdin.write(" ".join(map(repr, archive.held[image_id].astype(float).tolist())) + "\n")
            child.stdin.flush()
            assert int(child.stdout.readline()) == image_id
        child.stdin.close()


def test_a_transaction_finds_what_it_wrote_and_nobody_else_does_until_it_commits(
    archive: VectorArchive, index: VectorIndex
) -> None:
    archive.write(archive.images[:10])
    archive.check(index)
    vector = unit_vectors(1, archive.rng)
    mine = archive.images[50]
    with Session(archive.engine) as session:
        write(session, archive.generation_id, [mine], vector)
        repository.erase(session, [archive.images[0]])
        ids, _ = nearest(index, session, archive.generation_id, vector[0], 100)
        assert ids[0] == mine
        assert archive.images[0] not in ids
        archive.check(index)
        session.rollback()
    archive.check(index)


def test_a_late_commit_with_a_low_transaction_id_is_not_missed(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder, tmp_path: Path
) -> None:
    slow, fast = archive.images[:2]
    vectors = unit_vectors(2, archive.rng)
    with Session(archive.engine) as session:
        write(session, archive.generation_id, [slow], vectors[:1])
        archive.write([fast])
        builder.publish_new(archive.generation_id, force=True)
        archive.check(index)
        session.commit()
    archive.held[slow] = vectors[0]
    with unit_of_work(archive.engine) as session:
        order = session.execute(text("SELECT image_id FROM vector ORDER BY xid")).scalars().all()
    assert order == [slow, fast]  # a reader that remembers the highest number it saw would miss the first
    archive.check(index)
    builder.publish_new(archive.generation_id, force=True)
    archive.check(index)
    archive.check(a_fresh_index(tmp_path))
    assert builder.verify(archive.generation_id) == []


def test_an_image_recorded_again_by_an_older_transaction_than_its_erasure_is_found(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder, tmp_path: Path
) -> None:
    image_id = archive.images[0]
    archive.write([image_id])
    archive.check(index)
    vector = unit_vectors(1, archive.rng)
    with Session(archive.engine) as oldest, Session(archive.engine) as older:
        oldest.execute(text("SELECT pg_current_xact_id()"))
        older.execute(text("SELECT pg_current_xact_id()"))
        archive.erase([image_id])
        archive.check(index)
        write(oldest, archive.generation_id, [image_id], vector)
        oldest.commit()
        archive.held[image_id] = vector[0]
        archive.check(index)
        # The vector is below this watermark, its earlier erasure is above.
        builder.publish_new(archive.generation_id, force=True)
        archive.check(index)
        archive.check(a_fresh_index(tmp_path))
    builder.publish_new(archive.generation_id, force=True)
    archive.check(a_fresh_index(tmp_path))
    assert builder.verify(archive.generation_id) == []


def test_threads_search_exactly_while_vectors_are_written_and_published(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder
) -> None:
    settled = archive.images[:500]
    archive.write(settled)
    held = dict(archive.held)

    def search(seed: int) -> int:
        rng = np.random.default_rng(seed)
        count = 0
        while not done:
            image_id = int(rng.choice(settled))
            with unit_of_work(archive.engine) as session:
                ids, _ = nearest(index, session, archive.generation_id, held[image_id], 3, settled)
            assert ids[0] == image_id
            assert len(ids) == 3
            count += 1
        return count

    done = False
    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(search, seed) for seed in range(4)]
        try:
            for start in range(500, 1500, 50):
                archive.write(archive.images[start : start + 50])
                if start % 200 == 0:
                    builder.publish_new(archive.generation_id, force=True)
        finally:
            done = True
        assert all(future.result() > 0 for future in searches)
    archive.check(index)


# What is erased


def test_what_is_erased_is_gone_at_once_and_from_the_files_after_a_purge(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder, tmp_path: Path
) -> None:
    archive.write(archive.images[:300])
    builder.publish_new(archive.generation_id, force=True)
    erased = archive.images[100:103]
    code = archive.held[erased[0]].astype("<f2").tobytes()
    archive.erase(erased)
    archive.check(index)

    builder.compact(archive.generation_id, purge=True)
    assert any(code in file.read_bytes() for file in (tmp_path / "index").rglob("*.faiss"))
    collect_garbage(archive.engine, builder.store, grace_seconds=-1)
    files = list((tmp_path / "index").rglob("*.faiss"))
    assert files
    assert not any(code in file.read_bytes() for file in files)
    archive.check(index)


def test_a_vector_deleted_behind_the_back_of_the_index_is_reported(
    archive: VectorArchive, builder: IndexBuilder
) -> None:
    archive.write(archive.images[:20])
    builder.publish_new(archive.generation_id, force=True)
    with unit_of_work(archive.engine) as session:
        session.execute(text("DELETE FROM vector WHERE image_id = :id"), {"id": archive.images[4]})
    (problem,) = builder.verify(archive.generation_id)
    assert f"for example image {archive.images[4]}" in problem


# What is shown


def test_the_status_counts_what_is_published_and_what_is_not(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder
) -> None:
    with unit_of_work(archive.engine) as session:
        before = index.status(session, archive.generation_id)
    assert (before.manifest, before.segments, before.vectors_stored, before.published_at) == (None, 0, 0, None)
    archive.write(archive.images[:200])
    builder.publish_new(archive.generation_id, force=True)
    archive.erase(archive.images[:10])
    archive.write(archive.images[190:230])
    with unit_of_work(archive.engine) as session:
        fresh = index.status(session, archive.generation_id)
    assert (fresh.segments, fresh.vectors_indexed, fresh.vectors_stored, fresh.delta) == (1, 200, 220, 40)
    builder.publish_new(archive.generation_id, force=True)
    with unit_of_work(archive.engine) as session:
        after = index.status(session, archive.generation_id)
    assert (after.segments, after.vectors_indexed, after.vectors_stored, after.delta) == (2, 220, 220, 0)
    assert after.bytes > 220 * 2 * SIZE
    assert after.published_at is not None


def test_too_much_to_hold_in_memory_is_a_clear_error(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(archive.images[:100])
    monkeypatch.setattr(index_module, "MAX_ROWS_BYTES", 99 * (2 * SIZE + index_module.COLUMNS_BYTES))
    with pytest.raises(ServiceUnavailableError, match=r"100 images .* run `ramq index rebuild`"):
        archive.check(index)
    builder.rebuild(archive.generation_id)
    archive.check(index)


def test_a_delta_that_nobody_publishes_stays_in_few_parts_without_a_change_in_the_answers(
    archive: VectorArchive, index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "MOST_PARTS", 3)
    for start in range(0, 200, 20):
        archive.write(archive.images[start : start + 25])
        archive.erase(archive.images[start : start + 2])
        archive.check(index)
        with unit_of_work(archive.engine) as session:
            parts = index.view(session, archive.generation_id).newer
        assert 1 <= len(parts) <= 3
        assert sum(part.live_count for part in parts) == len(archive.held)

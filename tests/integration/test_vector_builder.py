from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index import builder as builder_module
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.garbage import collect_garbage
from storage.results import vectors as repository
from tests.vector_archive import VectorArchive, a_fresh_index, published, unit_vectors, write

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.index.index import VectorIndex


pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> VectorArchive:
    return VectorArchive(engine)


# When there is something to publish


def test_few_new_vectors_wait_until_they_are_old_enough(engine: Engine, archive: VectorArchive, tmp_path: Path) -> None:
    builder = IndexBuilder(
        engine, FolderStorage(tmp_path / "index"), tmp_path / "cache", min_rows=100, max_age_seconds=3600
    )
    assert builder.publish_new(archive.generation_id, force=True) is None
    archive.write(archive.images[:5])
    first = builder.publish_new(archive.generation_id)  # nothing is published yet, so these are old enough
    assert first is not None
    assert first.new_rows == 5
    archive.write(archive.images[5:104])
    assert builder.publish_new(archive.generation_id) is None
    archive.write([archive.images[104]])
    second = builder.publish_new(archive.generation_id)
    assert second is not None
    assert (second.new_rows, second.segments) == (100, 2)
    archive.erase(archive.images[:1])
    assert builder.publish_new(archive.generation_id) is None
    builder.max_age_seconds = 0.0
    third = builder.publish_new(archive.generation_id)
    assert third is not None
    assert (third.new_rows, third.segments) == (0, 2)
    assert builder.publish_new(archive.generation_id) is None


def test_compaction_merges_small_segments_and_keeps_every_vector(
    archive: VectorArchive, builder: IndexBuilder, index: VectorIndex
) -> None:
    assert builder.compact(archive.generation_id) is None
    for start in range(0, 200, 50):
        archive.write(archive.images[start : start + 60])
        builder.publish_new(archive.generation_id, force=True)
    merged = builder.compact(archive.generation_id)
    assert merged is not None
    assert (merged.segments, merged.new_rows) == (1, 210)
    assert builder.compact(archive.generation_id) is None
    archive.check(index)
    assert builder.verify(archive.generation_id) == []


def test_a_rebuild_cuts_segments_between_transactions(archive: VectorArchive, tmp_path: Path) -> None:
    for start in range(0, 500, 50):
        archive.write(archive.images[start : start + 50])
    builder = IndexBuilder(archive.engine, FolderStorage(tmp_path / "index"), tmp_path / "cache", max_segment_rows=120)
    rebuilt = builder.rebuild(archive.generation_id)
    assert rebuilt is not None
    assert (rebuilt.segments, rebuilt.new_rows) == (5, 500)
    archive.check(a_fresh_index(tmp_path))
    assert builder.verify(archive.generation_id) == []


# Crashes


CRASHING_BUILDER = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from sqlalchemy import Engine, event
    from storage.database import make_engine
    from storage.index.builder import IndexBuilder
    from storage.index.file_storage import FolderStorage

    url, folder, generation_id, action = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    steps = fatal = 0

    def step(*_args, **_kwargs):
        global steps
        steps += 1
        if steps == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function):
        def stepping(*args, **kwargs):
            step()
            result = function(*args, **kwargs)
            step()
            return result
        return stepping

    for name in ("fsync", "rename", "replace", "mkdir"):
        setattr(os, name, around(getattr(os, name)))
    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)
    for line in sys.stdin:
        child = os.fork()
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        fatal = int(line)
        builder = IndexBuilder(make_engine(url), FolderStorage(folder / "index"), folder / "child-cache")
        if action == "publish_new":
            builder.publish_new(generation_id, force=True)
        elif action == "compact":
            builder.compact(generation_id, purge=True)
        else:
            builder.rebuild(generation_id)
        os._exit(0)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["publish_new", "compact", "rebuild"])
def test_a_builder_killed_at_any_step_leaves_the_last_published_state(
    archive: VectorArchive, builder: IndexBuilder, index: VectorIndex, tmp_path: Path, action: str
) -> None:
    archive.write(archive.images[:300])
    builder.publish_new(archive.generation_id, force=True)
    archive.erase(archive.images[:20])
    archive.write(archive.images[290:320])
    url = archive.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", CRASHING_BUILDER, url, str(tmp_path), str(archive.generation_id), action]
    kills = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as children:
        assert children.stdin is not None
        assert children.stdout is not None
        for fatal in range(1, 1000):
            before = published(archive)
            children.stdin.write(f"{fatal}\n")
            children.stdin.flush()
            outcome = int(children.stdout.readline())
            archive.check(index, queries=1)
            archive.check(a_fresh_index(tmp_path), queries=1)
            assert builder.verify(archive.generation_id) == []
            if outcome == 0:
                break
            assert outcome == -signal.SIGKILL
            kills += 1
            if published(archive) != before:
                archive.write(archive.images[:5])  # so that there is something to do again
        children.stdin.close()
    assert kills > 20
    builder.publish_new(archive.generation_id, force=True)
    collect_garbage(archive.engine, builder.store, grace_seconds=-1)
    names = [path.name for path in (tmp_path / "index" / f"generation-{archive.generation_id}").iterdir()]
    assert not [name for name in names if name.startswith(".")]
    archive.check(a_fresh_index(tmp_path))


@pytest.mark.parametrize("step", ["write", "write_manifest", "publish"])
def test_an_error_at_a_step_of_publication_changes_nothing_and_the_next_try_succeeds(
    archive: VectorArchive,
    builder: IndexBuilder,
    index: VectorIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    archive.write(archive.images[:50])
    builder.publish_new(archive.generation_id, force=True)
    archive.write(archive.images[40:90])
    before = published(archive)
    target: dict[str, tuple[object, str]] = {
        "write": (builder_module, "write"),
        "write_manifest": (builder.store, "write_manifest"),
        "publish": (builder_module.repository, "publish"),
    }

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*target[step], fail)
        with pytest.raises((OSError, ServiceUnavailableError), match="No space left"):
            builder.publish_new(archive.generation_id, force=True)
    assert published(archive) == before
    archive.check(index)
    assert builder.publish_new(archive.generation_id, force=True) is not None
    archive.check(a_fresh_index(tmp_path))
    assert builder.verify(archive.generation_id) == []


# More than one at a time


class Sequence:
    """A table whose rows are numbered by a sequence, and a reader that takes the last number for how far it is."""

    NEXT = text("INSERT INTO numbered DEFAULT VALUES")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with unit_of_work(engine) as session:
            session.execute(text("CREATE TABLE numbered (n bigserial)"))

    def after(self, number: int) -> list[int]:
        with unit_of_work(self._engine) as session:
            return list(session.scalars(text("SELECT n FROM numbered WHERE n > :after ORDER BY n"), {"after": number}))

    def follow(self, done: threading.Event) -> set[int]:
        seen: list[int] = []
        while not done.is_set():
            seen += self.after(max(seen, default=0))
        return set(seen)


@pytest.mark.slow
def test_nothing_is_missed_with_long_transactions_rollbacks_and_three_builders(
    archive: VectorArchive, builder: IndexBuilder, index: VectorIndex, tmp_path: Path
) -> None:
    """Four writers, each with images of its own, commit late, early or never, while three builders publish.

    That the writers are a trial is shown by a reader that goes by the numbers of a sequence: it misses some of them.
    """
    sequence = Sequence(archive.engine)
    results: list[dict[int, np.ndarray]] = []
    done = threading.Event()

    def keep_writing(number: int) -> None:
        rng = np.random.default_rng(number)
        mine = archive.images[number::4]
        held: dict[int, np.ndarray] = {}
        for _ in range(40):
            ids = sorted(rng.choice(mine, size=10, replace=False).tolist())
            vectors = unit_vectors(10, rng)
            with Session(archive.engine) as session:
                write(session, archive.generation_id, ids[:5], vectors[:5])
                session.execute(Sequence.NEXT)
                done.wait(float(rng.exponential(0.03)))
                write(session, archive.generation_id, ids[5:], vectors[5:])
                if rng.random() < 0.2:
                    session.rollback()
                else:
                    session.commit()
                    held.update(zip(ids, vectors, strict=True))
            if rng.random() < 0.3:
                with unit_of_work(archive.engine) as session:
                    repository.erase(session, ids[:2])
                for image_id in ids[:2]:
                    held.pop(image_id, None)
        results.append(held)

    def keep_building(number: int) -> int:
        mine = IndexBuilder(archive.engine, builder.store.place, tmp_path / f"cache-{number}")
        count = 0
        while not done.is_set():
            count += mine.publish_new(archive.generation_id, force=True) is not None
            mine.compact(archive.generation_id)
        return count

    with ThreadPoolExecutor(8) as threads:
        follower = threads.submit(sequence.follow, done)
        builders = [threads.submit(keep_building, number) for number in range(3)]
        writers = [threads.submit(keep_writing, number) for number in range(4)]
        for writer in writers:
            writer.result()
        done.set()
        assert sum(future.result() for future in builders) > 5
    assert follower.result() < set(sequence.after(0))
    for held in results:
        archive.held.update(held)
    archive.check(index)
    builder.publish_new(archive.generation_id, force=True)
    assert builder.verify(archive.generation_id) == []
    with unit_of_work(archive.engine) as session:
        status = index.status(session, archive.generation_id)
        manifest = builder.store.manifest(archive.generation_id, published(archive))
    assert (status.vectors_indexed, status.delta) == (len(archive.held), 0)
    assert all(left.hi <= right.lo for left, right in pairwise(manifest.segments))
    archive.check(a_fresh_index(tmp_path))


# Lists


def test_a_large_segment_gets_lists_and_small_ones_get_them_when_they_are_merged(
    archive: VectorArchive, builder: IndexBuilder, index: VectorIndex
) -> None:
    builder.flat_rows = 500
    for start in range(0, 1200, 300):
        archive.write(archive.images[start : start + 300])
        builder.publish_new(archive.generation_id, force=True)
    with unit_of_work(archive.engine) as session:
        scanned = index.status(session, archive.generation_id)
    assert (scanned.segments, scanned.listed_segments, scanned.lowest_recall) == (4, 0, None)

    builder.compact(archive.generation_id)
    archive.erase(archive.images[:5])
    archive.write(archive.images[5:10])
    builder.publish_new(archive.generation_id, force=True)  # the merged segment keeps what is known of it
    with unit_of_work(archive.engine) as session:
        merged = index.status(session, archive.generation_id)
    assert (merged.segments, merged.listed_segments) == (2, 1)
    assert merged.lowest_recall is not None
    assert merged.lowest_recall > 0.9
    assert builder.verify(archive.generation_id) == []

    shares = []
    for query in unit_vectors(20, archive.rng):
        expected = archive.expected(query, 10)
        shares.append(len(set(expected) & set(archive.found(index, query, 10))) / 10)
        few = archive.images[::3]
        assert archive.found(index, query, 10, few) == archive.expected(query, 10, few)
    assert np.mean(shares) > 0.9

"""What the index shows of each image is what the database holds, however it came to be so."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.index.columns import raw_rows
from storage.index.rows import NO_DATE
from storage.ledger import unfound
from storage.objects.base import ObjectInfo
from storage.results import archives, erasures, generations, images, records, vectors
from storage.results.packing import pack_vectors
from storage.results.vocabularies import VocabularySpec
from tests.plain_rows import PlainRow, plain
from tests.vector_archive import a_fresh_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.builder import IndexBuilder
    from storage.index.index import VectorIndex

pytestmark = pytest.mark.services

SIZE = 8
NAMES = [f"tag {n}" for n in range(20)]
LONG_AGO = dt.datetime(1969, 12, 31, 23, 59, 59, 123456, tzinfo=dt.UTC)


def live_rows(index: VectorIndex, session: Session, generation_id: int) -> list[PlainRow]:
    found = []
    for part in index.view(session, generation_id).parts:
        assert part.rows.tags.assigned_units.tolist() == [5000] * len(NAMES)
        rows = plain(raw_rows(part.rows))
        found += [row for n, row in enumerate(rows) if part.live is None or n in part.live]
    return sorted(found, key=lambda row: row.id)


class Archive:
    """Images with records of one generation, written the way planner and workers write them."""

    def __init__(self, engine: Engine, seed: int = 0) -> None:
        self.engine = engine
        self.rng = np.random.default_rng(seed)
        with unit_of_work(engine) as session:
            self.generation_id = generations.ensure(
                session,
                generations.GenerationSpec("g", "lite", "", "", "", SIZE),
                VocabularySpec("v", "own", NAMES, [None] * len(NAMES), [0.5] * len(NAMES)),
            )
            session.execute(text("INSERT INTO archive (uri) VALUES ('s3://one'), ('s3://two')"))

    def list(self, keys: Iterable[str], version: str = "v1", archive_id: int = 1, size: int = 5) -> None:
        modified = [None, LONG_AGO, dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)]
        page = [ObjectInfo(key, version, size, modified[int(self.rng.integers(3))]) for key in keys]
        with unit_of_work(self.engine) as session:
            images.upsert_page(session, archive_id, page)

    @property
    def ids(self) -> list[int]:
        with unit_of_work(self.engine) as session:
            return list(session.scalars(text("SELECT id FROM image ORDER BY id")))

    def row(self, image_id: int) -> records.RecordRow:
        tags = np.sort(self.rng.choice(len(NAMES), size=int(self.rng.integers(0, 6)), replace=False))
        found = self.rng.standard_normal((1, SIZE)).astype(np.float32)
        packed = pack_vectors(found / np.linalg.norm(found))[0]
        scores = self.rng.integers(1000, 10_000, size=len(tags)).tolist()
        return records.RecordRow(image_id, "v1", tags.tolist(), scores, "a 'caption', {quoted}", 4, 3, packed)

    def record(self, rows: Sequence[records.RecordRow], job_id: int = 1) -> None:
        with unit_of_work(self.engine) as session:
            provenance = records.Provenance(job_id, self.generation_id, "none")
            records.write_records(session, rows, provenance)

    def stored(self) -> list[PlainRow]:
        """What the database holds, read with plain SQL."""
        with unit_of_work(self.engine) as session:
            rows = session.execute(
                text(
                    """SELECT v.image_id, i.key, r.tags, r.scores, i.archive_id, r.job_id, i.modified_at, i.size
                       FROM vector v JOIN image i ON i.id = v.image_id
                       LEFT JOIN record r USING (image_id, generation_id)
                       WHERE generation_id = :id ORDER BY 1"""
                ),
                {"id": self.generation_id},
            ).all()
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return [
            PlainRow(
                id=row.image_id,
                key=row.key.encode(),
                tags=dict(zip(row.tags, row.scores, strict=True)),
                archive=row.archive_id,
                job=row.job_id,
                modified=(row.modified_at - epoch) // dt.timedelta(microseconds=1) if row.modified_at else NO_DATE,
                size=row.size,
            )
            for row in rows
        ]

    def shown(self, index: VectorIndex) -> list[PlainRow]:
        """What a view of the index shows: the live rows of all parts."""
        with unit_of_work(self.engine) as session:
            return live_rows(index, session, self.generation_id)

    def check(self, index: VectorIndex) -> None:
        assert self.shown(index) == self.stored()

    def delete(self, image_id: int) -> None:
        with unit_of_work(self.engine) as session:
            erasures.erase(session, [image_id])

    @property
    def is_somebody_waiting(self) -> bool:
        with unit_of_work(self.engine) as session:
            return bool(
                session.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND wait_event_type = 'Lock'"
                    )
                )
            )

    def check_counts(self, index: VectorIndex) -> None:
        """Numbers that are kept, against numbers that are counted."""
        with unit_of_work(self.engine) as session:
            recorded = index.archive_counts(session, self.generation_id)
            kept = [(view.id, view.images, view.recorded, view.missing) for view in archives.views(session, recorded)]
            counted = session.execute(
                text(
                    """SELECT a.id, count(i.id), count(v.image_id), count(i.missing_since) FROM archive AS a
                       LEFT JOIN image AS i ON i.archive_id = a.id
                       LEFT JOIN vector AS v ON v.image_id = i.id AND v.generation_id = :id GROUP BY a.id ORDER BY 1"""
                ),
                {"id": self.generation_id},
            )
            assert kept == [tuple(row) for row in counted]
            status = index.status(session, self.generation_id)
            assert status.vectors_stored == sum(recorded.values())


@pytest.fixture
def archive(engine: Engine) -> Archive:
    archive = Archive(engine)
    archive.list(["a/1.jpg", "b/ü 漢.jpg", "a/%_\\2.jpg", "z.jpg"])
    archive.list([f"two/{n}.jpg" for n in range(30)], archive_id=2)
    return archive


def test_the_index_shows_what_is_stored_through_any_history(
    archive: Archive, builder: IndexBuilder, index: VectorIndex, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    ids = archive.ids
    for step in range(60):
        some = rng.choice(ids, size=int(rng.integers(1, 9)), replace=False).tolist()
        match step % 6:
            case 0 | 1 | 2:
                archive.record([archive.row(image_id) for image_id in some], job_id=step)
            case 3:
                archive.list([f"two/{n}.jpg" for n in rng.choice(30, size=3)], f"v{step}", archive_id=2, size=step)
            case 4:
                with unit_of_work(archive.engine) as session:
                    vectors.erase(session, some[:2])
                    session.execute(text("DELETE FROM record WHERE image_id = ANY(:ids)"), {"ids": some[:2]})
                    images.upsert_page(session, 1, [])
                    unfound.mark_missing(session, 1, "a" if step % 4 else "", None, None)
                if step > 40:
                    archive.delete(some[0])
                    ids.remove(some[0])
            case _:
                builder.publish_new(archive.generation_id, force=True)
                builder.compact(archive.generation_id)
        archive.check(index)
        archive.check_counts(index)
    archive.check(a_fresh_index(tmp_path))
    assert builder.verify(archive.generation_id) == []


@pytest.mark.parametrize("field", ["tags", "scores", "job"])
def test_a_record_that_changes_with_the_same_vector_is_shown_as_it_is_now(
    archive: Archive, builder: IndexBuilder, index: VectorIndex, field: str
) -> None:
    rows = [dataclasses.replace(archive.row(n), tags=[3, 7], scores=[6000, 7000]) for n in archive.ids]
    archive.record(rows)
    builder.publish_new(archive.generation_id, force=True)
    archive.check(index)
    changes = {"tags": {"tags": [3, 8]}, "scores": {"scores": [6000, 7001]}, "job": {}}
    archive.record([dataclasses.replace(rows[5], **changes[field])], job_id=2 if field == "job" else 1)
    archive.check(index)
    with unit_of_work(archive.engine) as session:
        assert index.status(session, archive.generation_id).delta == 1
    builder.publish_new(archive.generation_id, force=True)
    archive.check(index)
    assert builder.verify(archive.generation_id) == []


def test_what_is_written_again_without_a_change_is_not_read_again(
    archive: Archive, builder: IndexBuilder, index: VectorIndex
) -> None:
    rows = [archive.row(image_id) for image_id in archive.ids]
    archive.record(rows)
    builder.publish_new(archive.generation_id, force=True)
    archive.record(rows)
    archive.list(["a/1.jpg", "z.jpg"])  # the same version: nothing changed
    with unit_of_work(archive.engine) as session:
        assert index.status(session, archive.generation_id).delta == 0


def test_an_object_that_a_listing_finds_changed_is_shown_with_its_new_size(
    archive: Archive, builder: IndexBuilder, index: VectorIndex
) -> None:
    archive.record([archive.row(image_id) for image_id in archive.ids])
    builder.publish_new(archive.generation_id, force=True)
    archive.list(["a/1.jpg", "new.jpg"], "v2", size=77)
    assert [row.size for row in archive.shown(index) if row.key == b"a/1.jpg"] == [77]
    archive.check(index)
    with unit_of_work(archive.engine) as session:
        assert index.status(session, archive.generation_id).delta == 1


def test_a_correction_by_hand_is_shown_once_the_image_is_touched(
    archive: Archive, builder: IndexBuilder, index: VectorIndex
) -> None:
    archive.record([archive.row(image_id) for image_id in archive.ids])
    builder.publish_new(archive.generation_id, force=True)
    corrected = archive.ids[3]
    with unit_of_work(archive.engine) as session:
        session.execute(
            text("UPDATE record SET tags = '{1}', scores = '{10000}' WHERE image_id = :id"), {"id": corrected}
        )
        vectors.touch(session, [corrected])
        shown = {row.id: row for row in live_rows(index, session, archive.generation_id)}
        assert shown[corrected].tags == {1: 10_000}  # within the transaction already
    archive.check(index)
    assert builder.verify(archive.generation_id) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE record SET tags = '{1}', scores = '{10000}' WHERE image_id = :id",
        "UPDATE record SET scores[1] = 1 WHERE image_id = :id",
        "UPDATE image SET size = 12345 WHERE id = :id",
        "UPDATE image SET key = 'another' WHERE id = :id",
        "UPDATE vector SET v = (SELECT v FROM vector WHERE image_id = :id + 1) WHERE image_id = :id",
    ],
)
def test_what_was_changed_behind_the_back_of_the_index_is_reported(
    archive: Archive, builder: IndexBuilder, change: str
) -> None:
    archive.record([dataclasses.replace(archive.row(n), tags=[3, 7], scores=[6000, 7000]) for n in archive.ids])
    builder.publish_new(archive.generation_id, force=True)
    assert builder.verify(archive.generation_id) == []
    with unit_of_work(archive.engine) as session:
        session.execute(text(change), {"id": archive.ids[4]})
    (problem,) = builder.verify(archive.generation_id)
    assert problem.endswith(f"differs from the database in 1 images, for example image {archive.ids[4]}")


def test_a_listing_and_a_deletion_of_the_same_images_do_not_wait_for_each_other_in_a_ring(
    archive: Archive, index: VectorIndex
) -> None:
    """A deletion that locked images first would hold what the listing wants next, and want what it holds."""
    first = archive.ids[0]
    with ThreadPoolExecutor(1) as thread:
        with unit_of_work(archive.engine) as listing:
            images.upsert_page(listing, 1, [])
            deletion = thread.submit(archive.delete, first)
            deadline = time.monotonic() + 30
            while not archive.is_somebody_waiting and time.monotonic() < deadline:
                time.sleep(0.02)
            assert archive.is_somebody_waiting
            assert unfound.mark_missing(listing, 1, "", None, None) == 4
        deletion.result(30)
    assert first not in archive.ids
    archive.check_counts(index)


def test_images_that_nobody_spoke_about_cost_no_look_at_the_vocabulary(engine: Engine, archive: Archive) -> None:
    names = [f"name {n}" for n in range(2000)]
    query = """SELECT c.tags, c.scores FROM image CROSS JOIN LATERAL
               corrected_tags(image.id, CAST(:generation_id AS smallint), '{3,8}', '{1000,2000}') AS c
               ORDER BY image.id"""
    with unit_of_work(engine) as session:
        generation_id = generations.ensure(
            session,
            generations.GenerationSpec("h", "lite", "h", "", "", SIZE),
            VocabularySpec("w", "large", names, [None] * len(names), [0.5] * len(names)),
        )
        # Nobody has counted the tags yet, which is when Postgres guessed wrong.
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"
        plan = session.execute(text(explained), {"generation_id": generation_id}).scalar_one()[0]["Plan"]
        assert [node["Actual Loops"] for node in nodes(plan) if node.get("Relation Name") == "tag"] == [0]
        session.execute(
            text(
                """INSERT INTO correction (image_id, name, spelling, is_present, said_by)
                   VALUES (:id, 'name 7', 'Name 7', true, 'ann'), (:id, 'name 8', 'name 8', false, 'ann')"""
            ),
            {"id": archive.ids[0]},
        )
        first, *others = session.execute(text(query), {"generation_id": generation_id}).all()
    assert first == ([3, 7], [1000, 10_001])
    assert others == [([3, 8], [1000, 2000])] * (len(archive.ids) - 1)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)

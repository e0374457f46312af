"""The rows of large reports: read along the index of keys, they are those that the database would sort."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.services.jobs import ClientOptions, JobClient
from storage.database import driver_connection, unit_of_work
from storage.errors import RamqError
from storage.ledger import ignored, listings, report_ignored, report_rows, reports, shards
from storage.objects.base import ObjectInfo, S3Options
from storage.objects.source import parse_source
from storage.results import archives, erasures, images
from tests.ledger import Ledger, listed
from tests.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg.errors import Diagnostic
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger.report_rows import Row

pytestmark = pytest.mark.services

PREFIX = "2024/"
PARTS = ("", "2024/", "2024/a/", "2024", "2024é/", "1999/", "zoo/", "2024/\U0010ffff", "2024/\ue000", "2024/😀")
REASONS = ("default", "film", "sidecar")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_rows, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(report_rows, "_IDS_AT_ONCE", 5)
    monkeypatch.setattr(report_rows, "_SHARDS_AT_ONCE", 2)


def both(engine: Engine, job_id: int) -> tuple[list[Row], list[Row]]:
    """The rows of a job, sorted by the database and read along the index; those of erased images in one order."""

    def told(rows: Iterator[Row]) -> list[Row]:
        found = list(rows)
        erased = [row for row in found if row.key is None]
        assert found[len(found) - len(erased) :] == erased
        return [row for row in found if row.key is not None] + sorted(erased, key=lambda row: row.outcome)

    with unit_of_work(engine) as session:
        return told(report_rows.in_order(session, job_id)), told(report_rows.scanned(session, job_id))


def require_same(engine: Engine, job_id: int) -> list[Row]:
    ordered, scanned = both(engine, job_id)
    assert scanned == ordered
    with unit_of_work(engine) as session:
        lines = list(reports.lines(session, job_id, 0))
    with unit_of_work(engine) as session:
        summary = reports.summary(session, job_id, 0)
    with unit_of_work(engine) as session:
        assert list(reports.lines(session, job_id)) == lines
    with unit_of_work(engine) as session:
        assert reports.summary(session, job_id) == summary
    assert hashlib.sha256(b"".join(lines)).hexdigest() == summary.sha256
    return ordered


class Made:
    """A job at random: what happens to images of a job over the years, and what should not happen."""

    def __init__(self, ledger: Ledger, chance: random.Random, prefix: str) -> None:
        self.ledger, self.chance = ledger, chance
        self.job_id = ledger.make_job()
        ledger.execute("UPDATE job SET prefix = :prefix WHERE id = :id", prefix=prefix, id=self.job_id)
        self.ids: list[int] = []
        with unit_of_work(ledger.engine) as session:
            other, _ = archives.ensure(session, parse_source("s3://others"))
            for round_ in range(6):  # of several listings, so that ids do not follow the order of keys
                names = [f"{chance.choice(PARTS)}{round_}/{number}" for number in range(chance.randrange(1, 12))]
                images.upsert_page(session, ledger.archive.id, listed(*names))
                self.ids += images.ids_of_page(session, ledger.archive.id)
                images.upsert_page(session, other.id, listed(*names))
            self._fill(session)
        self._change()

    def _fill(self, session: Session) -> None:
        chance = self.chance
        sizes = [chance.randrange(1, 9) for _ in range(chance.randrange(6))]
        # The same image may be in one shard twice, in two, and skipped as well.
        shards.add(session, self.job_id, [chance.choices(self.ids, k=size) for size in sizes])
        for _ in range(chance.randrange(4)):
            listings.add_skipped(session, self.job_id, chance.sample(self.ids, min(len(self.ids), 6)))
        for row in session.execute(text("SELECT id, image_ids FROM shard WHERE job_id = :id"), {"id": self.job_id}):
            codes = bytes(chance.choices(range(5), weights=(2, 6, 3, 1, 1), k=len(row.image_ids)))
            session.execute(text("UPDATE shard SET outcomes = :codes WHERE id = :id"), {"codes": codes, "id": row.id})
        for image_id in chance.sample(self.ids, len(self.ids) // 2):
            session.execute(
                text(
                    """INSERT INTO failure (job_id, image_id, generation_id, version, error_class, about_content,
                           detail, attempts)
                       VALUES (:job_id, :image_id, :generation_id, 'v1', :class, true, 'why', 1)"""
                ),
                {
                    "job_id": self.job_id,
                    "image_id": image_id,
                    "generation_id": self.ledger.generation_id,
                    "class": chance.choice(("corrupt", "missing", "timeout")),
                },
            )
        keys = list(session.scalars(text("SELECT key FROM image WHERE id = ANY(:ids)"), {"ids": self.ids}))
        for _ in range(chance.randrange(4)):
            chosen = {
                *chance.sample(keys, min(3, len(keys))),
                *(f"{part}Thumbs.db" for part in chance.sample(PARTS, 3)),
            }
            left_out = [ObjectInfo(key, "", 0, None, ignored=chance.choice(REASONS)) for key in chosen]
            ignored.add(session, self.job_id, left_out)

    def _change(self) -> None:
        """Move some images out of the prefix and into it, and erase some."""
        moved = self.chance.sample(self.ids, len(self.ids) // 4)
        for image_id in moved:
            key = f"{self.chance.choice(PARTS)}moved {image_id}"
            self.ledger.execute("UPDATE image SET key = :key WHERE id = :id", key=key, id=image_id)
        with unit_of_work(self.ledger.engine) as session:
            erasures.erase(session, self.chance.sample(self.ids, len(self.ids) // 5))


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("seed", range(12))
def test_both_ways_give_the_same_rows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, seed: int, prefix: str) -> None:
    monkeypatch.setattr(report_ignored, "MOST_OPEN", 50 * (seed % 2))
    monkeypatch.setattr(report_rows, "MOST_MOVED", 5 if seed % 3 else 1_000)
    made = Made(ledger, random.Random(seed), prefix)
    Made(ledger, random.Random(seed + 100), prefix)  # rows of another job do not matter
    require_same(ledger.engine, made.job_id)


def test_images_that_were_moved_are_found_wherever_they_are(engine: Engine, tmp_path: Path) -> None:
    root = tmp_path / "nas"
    for number in range(6):
        path = root / "2023" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture %d" % number)
    plan = Plan(engine, str(root))
    part = plan.run(prefix="2023").id
    whole = plan.run().id
    plan.work(fail={"2023/1.jpg": "corrupt"})
    plan.ledger.execute("UPDATE image SET key = '1999/moved.jpg' WHERE key = '2023/4.jpg'")
    plan.ledger.execute("UPDATE image SET key = 'zoo/moved.jpg' WHERE key = '2023/1.jpg'")
    for job_id in (part, whole):
        rows = require_same(engine, job_id)
        assert [row.key for row in rows] == [
            "1999/moved.jpg", *(f"2023/{number}.jpg" for number in (0, 2, 3, 5)), "zoo/moved.jpg"
        ]  # fmt: skip
    assert [row.error_class for row in require_same(engine, part)] == [*[None] * 5, "corrupt"]


def test_jobs_of_lists_and_pages_and_retries_give_the_same_rows(engine: Engine, tmp_path: Path) -> None:
    root = tmp_path / "nas"
    root.mkdir()
    for number in range(9):
        (root / f"{number}.jpg").write_bytes(b"picture %d" % number)
    (root / "thumbs.db").write_bytes(b"")
    plan = Plan(engine, str(root))
    (root / "list.txt").write_text("7.jpg\nthumbs.db\n3.jpg\n7.jpg\ngone.jpg\n1.jpg\n")
    of_list = JobClient(engine, ClientOptions("lite", "none", (), False, S3Options(None))).create(
        str(root / "list.txt")
    )
    plan.go_through()
    whole = plan.run()
    plan.work(fail={"3.jpg": "corrupt", "5.jpg": "timeout"})
    for job_id in (of_list.id, whole.id):
        require_same(engine, job_id)
    plan.ledger.reopen(whole.id)
    assert any(row.outcome == "pending" for row in require_same(engine, whole.id))
    plan.work()
    require_same(engine, whole.id)


def test_an_image_of_another_archive_is_not_counted_as_erased(ledger: Ledger) -> None:
    job_id = ledger.make_job([3])
    with unit_of_work(ledger.engine) as session:
        other, _ = archives.ensure(session, parse_source("s3://others"))
        archive_id = other.id
    ledger.execute(
        "UPDATE image SET archive_id = :archive_id WHERE key = :key", archive_id=archive_id, key=f"{job_id}/00001"
    )
    with unit_of_work(ledger.engine) as session, pytest.raises(RamqError, match="in another archive"):
        list(report_rows.scanned(session, job_id))


def said(session: Session, do: Any, **settings: str) -> list[str]:
    """What the server says meanwhile, with these settings."""
    messages: list[str] = []

    def told(diagnostic: Diagnostic) -> None:
        messages.append(diagnostic.message_primary or "")

    for name, value in {**settings, "client_min_messages": "log"}.items():
        session.execute(text(f"SET LOCAL {name} = '{value}'"))
    connection = driver_connection(session)
    connection.add_notice_handler(told)
    do()
    connection.remove_notice_handler(told)
    return messages


@pytest.fixture
def large(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> int:
    """A job of 20,000 images whose ids are not in the order of their keys. They do not fit into 64 kB."""
    monkeypatch.setattr(report_rows, "_ROWS_AT_ONCE", 500)
    job_id = ledger.make_job()
    with unit_of_work(ledger.engine) as session:
        archives.lock(session, [ledger.archive.id])
        session.execute(
            text(
                """INSERT INTO image (archive_id, key, version, size)
                   SELECT :archive_id, 'photos/' || md5(n::text), 'v1', 10 FROM generate_series(1, 20000) AS n"""
            ),
            {"archive_id": ledger.archive.id},
        )
        ids = list(session.scalars(text("SELECT id FROM image ORDER BY id")))
        shards.add(session, job_id, [ids[at : at + 1_000] for at in range(0, len(ids), 1_000)])
        session.execute(text("UPDATE job SET listed = 20000 WHERE id = :id"), {"id": job_id})
        session.execute(text("ANALYZE image, shard, archive, job"))
    return job_id


@pytest.mark.parametrize("prefix", ["", "photos"])
def test_the_index_of_keys_gives_the_order_and_nothing_is_sorted(ledger: Ledger, large: int, prefix: str) -> None:
    ledger.execute("UPDATE job SET prefix = :prefix WHERE id = :id", prefix=prefix, id=large)
    with unit_of_work(ledger.engine) as session:
        session.execute(text("LOAD 'auto_explain'"))
        plans = said(
            session, lambda: list(report_rows.scanned(session, large)), **{"auto_explain.log_min_duration": "0"}
        )
    [plan] = [plan for plan in plans if "FROM image WHERE archive_id" in plan]
    assert "Index Scan using uq_image_archive_id_key" in plan
    assert "Sort" not in plan
    for moved in (plan for plan in plans if "FROM image WHERE id" in plan):
        assert "Index Scan using pk_image" in moved


def test_a_large_report_writes_no_temporary_files_and_a_small_one_is_sorted(ledger: Ledger, large: int) -> None:
    def written(scans_from: int) -> tuple[list[str], list[bytes]]:
        lines: list[bytes] = []
        with unit_of_work(ledger.engine) as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            messages = said(
                session,
                lambda: lines.extend(reports.lines(session, large, scans_from)),
                work_mem="64kB",
                log_temp_files="0",
            )
        return [message for message in messages if "temporary file" in message], lines

    sorted_files, sorted_lines = written(20_001)
    files, lines = written(20_000)
    assert sorted_files
    assert not files
    assert lines == sorted_lines
    assert len(lines) == 20_000


@pytest.mark.parametrize("is_in_order", [True, False])
def test_ignored_keys_of_a_listing_are_not_sorted_and_those_of_a_list_are(ledger: Ledger, is_in_order: bool) -> None:
    job_id = ledger.make_job()
    names = [f"{number:05}.mov" for number in range(6_000)]
    pages = [names[at : at + 100] if is_in_order else names[at // 100 :: 60] for at in range(0, len(names), 100)]
    with unit_of_work(ledger.engine) as session:
        for page in pages:
            left_out = [ObjectInfo(key, "", 0, None, ignored=REASONS[len(key) % 3]) for key in page]
            ignored.add(session, job_id, left_out)
    with unit_of_work(ledger.engine) as session:
        found: list[Row] = []
        messages = said(
            session,
            lambda: found.extend(report_rows.scanned(session, job_id)),
            work_mem="64kB",
            log_temp_files="0",
        )
    assert [row.key for row in found] == names
    assert any("temporary file" in message for message in messages) is not is_in_order


@pytest.mark.parametrize(("prefix", "is_scanned"), [("", False), ("photos/", False), ("PREFIX", True)])
def test_a_job_of_few_images_of_a_large_archive_is_sorted_unless_they_are_all_below_its_prefix(
    ledger: Ledger, large: int, prefix: str, is_scanned: bool
) -> None:
    few = ledger.make_job([3])
    prefix = prefix.replace("PREFIX", f"{few}/")
    ledger.execute("UPDATE job SET prefix = :prefix WHERE id = :id", prefix=prefix, id=few)
    with unit_of_work(ledger.engine) as session:
        session.execute(text("LOAD 'auto_explain'"))
        calls = said(session, lambda: list(report_rows.rows(session, few, 0)), **{"auto_explain.log_min_duration": "0"})
    assert any("report_keys" in call for call in calls) is is_scanned


def test_a_reader_who_stops_leaves_the_transaction_usable(ledger: Ledger, large: int) -> None:
    with unit_of_work(ledger.engine) as session:
        rows = report_rows.scanned(session, large)
        first = next(rows)
        rows.close()  # type: ignore[attr-defined]  # a generator
        assert session.scalar(text("SELECT count(*) FROM pg_cursors")) == 0
        assert next(report_rows.scanned(session, large)) == first

"""A listing of the previous version goes on where it was, and a downgrade takes it back if one worker lists it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage import migrate
from storage.database import unit_of_work
from storage.ledger import ranges
from storage.objects import folder
from tests.plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

BEFORE, AFTER = "0042", "0043"
NAMES = [f"{number:02}.jpg" for number in range(10)]

ROWS = (
    "INSERT INTO archive (uri) VALUES (:uri)",
    """INSERT INTO image (archive_id, key, version, size, modified_at)
       SELECT 1, lpad(n::text, 2, '0') || '.jpg', 'v', 1, now() FROM generate_series(0, 4) AS n""",
    "INSERT INTO image (archive_id, key, version, size) VALUES (1, '98.jpg', 'v', 1)",
    """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, started_at, listed, list_cursor,
           list_epoch, list_lease_until, list_attempts)
       VALUES (1, :uri, '', 'lite', 'none', 0, now() + interval '1 hour', 5, '04.jpg', 7, now() - interval '1 h', 2)""",
    "INSERT INTO shard (job_id, image_ids, outcomes) VALUES (1, '{1,2,3,4,5}', '\\x0000000000')",
    """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, stage, with_job_id, state, list_cursor)
       VALUES (1, :uri, '', 'reader', 'none', 0, 'text', 1, 'cancelled', '1:0')""",
    """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, state, listed, listed_all_at,
           list_cursor) VALUES (1, :uri, '', 'lite', 'none', 0, 'cancelled', 5, now(), '04.jpg')""",
)


@pytest.fixture
def root(tmp_path: Path, engine: Engine) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for name in NAMES:
        (root / name).write_bytes(b"picture")
    migrate.upgrade(engine, BEFORE)
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(text(statement), {"uri": f"file://{root}"})
    return root


def test_a_job_in_the_middle_of_its_listing_goes_on_after_its_cursor(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 2)
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    plan = Plan(engine, f"file://{root}")
    ranges_of_jobs = """SELECT array_agg((job_id, cursor, until IS NULL, epoch, done_at IS NOT NULL)::text
                        ORDER BY job_id) FROM listing_range"""
    assert plan.ledger.scalar(ranges_of_jobs) == ["(1,04.jpg,t,7,f)", "(2,,t,0,f)", "(3,04.jpg,t,0,t)"]
    assert plan.ledger.scalar("SELECT follow_cursor FROM job WHERE id = 2") == "1:0"
    plan.go_through()
    view = plan.ledger.view(1)
    assert (view.listed, view.pending, view.is_listing) == (10, 10, False)
    assert plan.waiting() == NAMES
    assert plan.ledger.scalar("SELECT array_agg(key) FROM image WHERE missing_since IS NOT NULL") == ["98.jpg"]
    assert plan.ledger.scalar("SELECT array_agg(ARRAY[images, missing]) FROM archive") == [[11, 1]]


def test_a_downgrade_takes_a_listing_back_unless_several_workers_list_it(engine: Engine, root: Path) -> None:
    migrate.upgrade(engine, AFTER)
    with unit_of_work(engine) as session:
        ranges.cut(session, 1, "06.jpg")
    with pytest.raises(RuntimeError, match=r"several workers list job 1: .*`ramq cancel 1`"):
        migrate.downgrade(engine, BEFORE)
    with engine.begin() as connection:
        connection.execute(text("UPDATE listing_range SET done_at = now() WHERE job_id = 1 AND until = '06.jpg'"))
        connection.execute(text("UPDATE listing_range SET cursor = '08.jpg' WHERE job_id = 1 AND until IS NULL"))
    migrate.downgrade(engine, BEFORE)
    with engine.begin() as connection:
        cursors = connection.scalars(text("SELECT list_cursor FROM job ORDER BY id")).all()
        assert cursors == ["08.jpg", "1:0", "04.jpg"]
        connection.execute(text("DELETE FROM image WHERE key = '98.jpg'"))
        assert connection.scalar(text("SELECT images FROM archive")) == 5
    assert (root / NAMES[0]).exists()

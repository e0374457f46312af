"""Listing an archive again in which nothing changed writes next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.objects.base import MISSING_VERSION, ObjectInfo
from storage.results import images
from storage.tables import Archive

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services

PAGE = [ObjectInfo(f"{number:04}.jpg", "1", 100, None) for number in range(1000)]


@pytest.fixture
def archive_id(engine: Engine) -> int:
    with unit_of_work(engine) as session:
        archive = Archive(uri="s3://photographs/")
        session.add(archive)
        session.flush()
        return archive.id


def list_page(engine: Engine, archive_id: int, page: list[ObjectInfo]) -> tuple[int, int]:
    """Lists a page. Returns how many rows of images are locked or changed by it, and bytes of the log."""
    written = text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
    with unit_of_work(engine) as session:
        before = session.scalar(written)
        images.upsert_page(session, archive_id, page)
        touched = session.scalar(text("SELECT count(*) FROM image WHERE xmax::text = pg_current_xact_id()::xid::text"))
        return int(touched or 0), int((session.scalar(written) or 0) - (before or 0))


def test_a_page_in_which_nothing_changed_locks_no_image(engine: Engine, archive_id: int) -> None:
    _, log_at_first = list_page(engine, archive_id, PAGE)
    touched, log = list_page(engine, archive_id, PAGE)
    assert touched == 0
    assert log < log_at_first / 4


def test_what_changed_is_still_taken_and_numbers_are_not_used_up(engine: Engine, archive_id: int) -> None:
    list_page(engine, archive_id, PAGE)
    list_page(engine, archive_id, PAGE)
    changed = [ObjectInfo("0001.jpg", "2", 200, None), ObjectInfo("9999.jpg", "1", 100, None)]
    list_page(engine, archive_id, [*PAGE[:1], *changed])
    with unit_of_work(engine) as session:
        rows = {
            row.key: (row.id, row.version, row.size)
            for row in session.execute(text("SELECT id, key, version, size FROM image"))
        }
    assert rows["0001.jpg"][1:] == ("2", 200)
    # An image that is known takes a number only if it changed.
    assert rows["9999.jpg"][0] <= len(PAGE) + 2


def test_an_image_that_was_missing_is_found_again(engine: Engine, archive_id: int) -> None:
    list_page(engine, archive_id, PAGE[:3])
    list_page(engine, archive_id, [ObjectInfo("0001.jpg", MISSING_VERSION, 0, None)])
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE image SET missing_since = now(), version = '1' WHERE key = '0001.jpg'"))
    list_page(engine, archive_id, PAGE[:3])
    with unit_of_work(engine) as session:
        assert images.missing(session) == ()

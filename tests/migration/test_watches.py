"""Jobs of a database of the previous version are of no watch, and a downgrade keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage import migrate
from tests.migration.test_upgrade_with_data import ROWS

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services

BEFORE, AFTER = "0034", "0035"


def test_jobs_stay_as_they_are(engine: Engine) -> None:
    migrate.upgrade(engine, BEFORE)
    with engine.begin() as connection:
        for statement in ROWS[:6]:  # up to the jobs
            connection.execute(text(statement))
    migrate.upgrade(engine, AFTER)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT watch_id, of_keys FROM job")).all() == [(None, False)] * 2
        connection.execute(
            text(
                """INSERT INTO watch (archive_id, prefix, asks, priority, every_seconds, settle_seconds, events)
                   VALUES (1, '', '{}', 0, 3600, 2, 'none')"""
            )
        )
        connection.execute(text("INSERT INTO watch_event (watch_id, key) VALUES (1, 'a.jpg')"))
        connection.execute(text("INSERT INTO job_key VALUES (1, 'a.jpg')"))
    migrate.downgrade(engine, BEFORE)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM job")) == 2

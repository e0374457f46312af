"""Jobs that go on after the upgrade are reckoned as if one worker had done what is done of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage import migrate

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services

BEFORE, AFTER = "0045", "0046"


def test_seconds_of_workers_begin_with_those_of_the_job(engine: Engine) -> None:
    migrate.upgrade(engine, BEFORE)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO archive (uri) VALUES ('s3://photos')"))
        connection.execute(
            text(
                """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, state, active_seconds)
                   VALUES (1, '', '', 'lite', 'none', 0, 'running', 12), (1, '', '', 'lite', 'none', 0, 'done', 5)"""
            )
        )
    migrate.upgrade(engine, AFTER)
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT worked_seconds FROM job ORDER BY id")).all() == [12, 0]

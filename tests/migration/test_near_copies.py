"""Images that were read before: the upgrade leaves them without a hash of what they show, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage import migrate
from storage.database import unit_of_work
from storage.results import near_copies

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def test_images_that_were_read_before_have_no_hash_and_are_not_newer(engine: Engine) -> None:
    migrate.upgrade(engine, "0031")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO archive (uri) VALUES ('s3://photos')"))
        connection.execute(
            text(
                """INSERT INTO image (archive_id, key, version, size)
                   SELECT 1, n || '.jpg', 'v', 1 FROM generate_series(1, 1000) AS n"""
            )
        )
        connection.execute(text("INSERT INTO content SELECT id, version, decode('00', 'hex') FROM image"))
    migrate.upgrade(engine, "0032")
    with engine.begin() as connection:
        kept = connection.execute(text("SELECT count(*), count(shape), count(pixels), count(xid) FROM content")).one()
    assert tuple(kept) == (1000, 0, 0, 0)
    migrate.upgrade(engine)
    with unit_of_work(engine) as session:
        state = near_copies.state(session)
    assert (state.found_at, state.newer) == (None, 0)
    migrate.downgrade(engine, "0031")
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM content")) == 1000

"""Rows of a dump that is restored into a younger cluster get transaction ids of that cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.results import keyword_pairs, near_copies, restamping
from storage.tables import Base
from tests.services.command_line import run_here
from tests.services.web import services_of

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

FUTURE = "900000000000"


def execute(engine: Engine, statement: str) -> None:
    with unit_of_work(engine) as session:
        session.execute(text(statement))


def rows_of_the_future(engine: Engine) -> dict[str, int]:
    with unit_of_work(engine) as session:
        return {
            table: int(
                session.scalar(
                    text(f"SELECT count(*) FROM {table} WHERE {restamping._has(table)}xid > pg_current_xact_id()")
                )
                or 0
            )
            for table in restamping.FOLLOWED
        }


def restored(engine: Engine) -> None:
    """Gives the rows the ids of an old cluster."""
    execute(
        engine,
        """INSERT INTO keyword (image_id, words, folds, tokens)
            SELECT id, '{}', '{}', '{}' FROM image ORDER BY id LIMIT 5""",
    )
    execute(engine, "INSERT INTO located_image (image_id) SELECT id FROM image ORDER BY id LIMIT 5")
    execute(engine, "INSERT INTO erasure (image_id, generation_id) SELECT id + 1000, 1 FROM image ORDER BY id LIMIT 5")
    for table in restamping.FOLLOWED:
        execute(engine, f"UPDATE {table} SET xid = '{FUTURE}'::xid8")


def test_every_table_with_a_transaction_id_is_stamped_here_or_by_the_builder() -> None:
    stamped_by_builders = {"vector", "look", "crop"}
    with_xid = {name for name, table in Base.metadata.tables.items() if "xid" in table.columns}
    assert with_xid == set(restamping.FOLLOWED) | stamped_by_builders


def test_rows_of_a_dump_look_unchanged_once_they_are_stamped(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = services_of(client).engine
    monkeypatch.setattr(restamping, "ROWS_AT_ONCE", 4)  # several transactions
    assert restamping.stamp_again(engine) == 0
    restored(engine)
    with unit_of_work(engine) as session:
        assert restamping.is_restored(session)
    future = rows_of_the_future(engine)
    assert future["content"]
    assert restamping.stamp_again(engine) == sum(future.values())
    assert not any(rows_of_the_future(engine).values())
    with unit_of_work(engine) as session:
        assert not restamping.is_restored(session)


def test_new_images_are_newer_than_the_last_search_for_near_copies_again(client: TestClient) -> None:
    engine = services_of(client).engine
    execute(engine, f"INSERT INTO near_search (id, watermark, found_at) VALUES (1, '{FUTURE}'::xid8, now())")
    with unit_of_work(engine) as session:
        assert near_copies.state(session).newer == 0
    restamping.stamp_again(engine)
    with unit_of_work(engine) as session:
        assert near_copies.state(session).newer > 0


def test_regions_that_were_cropped_are_not_cropped_again(client: TestClient) -> None:
    engine = services_of(client).engine
    restored(engine)
    execute(engine, "CREATE TABLE cropping_of_this_test PARTITION OF cropping FOR VALUES IN (1)")
    execute(
        engine,
        f"""INSERT INTO cropping (image_id, generation_id, job_id, version, regions_xid)
            SELECT image_id, 1, 1, '1', CASE WHEN image_id % 2 = 0 THEN '{FUTURE}'::xid8 ELSE '7'::xid8 END
            FROM located_image""",
    )
    restamping.stamp_again(engine)
    with unit_of_work(engine) as session:
        rows = session.execute(
            text(
                """SELECT image_id, regions_xid = xid AS is_current FROM cropping JOIN located_image USING (image_id)"""
            )
        ).all()
    assert rows
    assert all(row.is_current == (row.image_id % 2 == 0) for row in rows)


def test_db_upgrade_stamps_them_and_says_so(client: TestClient, broker_url: str) -> None:
    services = services_of(client)
    restored(services.engine)
    environment = {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": broker_url,
    }
    done = run_here(["db", "upgrade"], environment)
    assert done.returncode == 0, done.stderr
    assert "was restored from a dump" in done.stderr
    assert "was restored" not in run_here(["db", "upgrade"], environment).stderr


def test_what_is_kept_of_keywords_is_brought_up_to_date_instead_of_read_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = services_of(client).engine
    monkeypatch.setattr(keyword_pairs, "MAX_CHANGED", 3)
    restored(engine)

    def kept() -> object:
        with unit_of_work(engine) as session:
            moment, pairs = keyword_pairs.every(session, "keyword")
        with unit_of_work(engine) as session:
            return keyword_pairs.since(session, "keyword", moment, pairs)

    assert kept() is None  # all of it looks changed, whenever somebody looks
    restamping.stamp_again(engine)
    assert kept() is not None

"""What keeps PostgreSQL from cleaning up is told, in words that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.doctor.database import upkeep_findings
from ramq.embedded import embedded
from storage import upkeep
from storage.database import make_engine, unit_of_work
from tests.services.standby import standby_of

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def troubles(engine: Engine) -> list[upkeep.Trouble]:
    with unit_of_work(engine) as session:
        return upkeep.troubles(session)


def command(engine: Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


def test_a_healthy_database_has_no_troubles(engine: Engine) -> None:
    assert troubles(engine) == []
    [finding] = upkeep_findings(engine)
    assert finding.state == "ok"


def test_a_transaction_that_is_open_for_long_is_named_with_what_ends_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LONG_SECONDS", 0)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_current_xact_id()"))
        pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        [trouble] = troubles(engine)
    assert trouble.is_fault
    assert f"process {pid}" in trouble.detail
    assert trouble.next == f'ramq db run psql -c "SELECT pg_terminate_backend({pid})"'
    assert troubles(engine) == []


def test_a_dump_that_takes_long_is_no_fault(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LONG_SECONDS", 0)
    engine = make_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("SET application_name = 'pg_dump'"))
        connection.execute(text("SELECT pg_current_xact_id()"))
        [trouble] = troubles(engine)
        connection.execute(text("SET application_name = 'ramq'"))
        connection.rollback()
    engine.dispose()
    assert not trouble.is_fault
    assert "pg_basebackup" in trouble.detail


def test_a_replication_slot_that_nobody_reads_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    command(engine, "SELECT pg_create_physical_replication_slot('left_over', true)")
    try:
        assert troubles(engine) == []  # it keeps next to nothing yet
        monkeypatch.setattr(upkeep, "_MOST_LOG_BYTES", -1)
        [trouble] = troubles(engine)
    finally:
        command(engine, "SELECT pg_drop_replication_slot('left_over')")
    assert trouble.is_fault
    assert "the replication slot left_over keeps 0.0 GB of log; nobody reads it" in trouble.detail
    assert "pg_drop_replication_slot('left_over')" in trouble.next


def test_transaction_ids_that_run_out_are_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_MOST_IDS", -1)
    [trouble] = troubles(engine)
    assert trouble.is_fault
    assert "of 2.1 billion transaction ids" in trouble.detail
    assert trouble.next.startswith("vacuumdb --freeze --dbname=")


def test_a_table_with_more_dead_rows_than_live_ones_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_MANY_DEAD", 50)
    command(engine, "CREATE TABLE worn (n integer) WITH (autovacuum_enabled = off)")
    command(engine, "INSERT INTO worn SELECT generate_series(1, 100)")
    command(engine, "DELETE FROM worn WHERE n > 10")
    engine.dispose()  # sessions tell what they did when they end
    [trouble] = troubles(engine)
    assert not trouble.is_fault
    assert "table worn has 90 dead rows and 10 live ones" in trouble.detail
    assert trouble.next.endswith('"VACUUM (VERBOSE, ANALYZE) worn"')


def test_a_standby_has_nothing_to_clean_up(database_url: str, tmp_path: Path) -> None:
    with standby_of(database_url, tmp_path / "standby") as url:
        standby = make_engine(url)
        assert troubles(standby) == []
        standby.dispose()


def test_autovacuum_that_is_off_and_a_log_that_is_not_archived_are_told(tmp_path: Path) -> None:
    with embedded(tmp_path / "data") as services:
        engine = make_engine(services.database_url)
        command(engine, "ALTER SYSTEM SET autovacuum = off")
        command(engine, "ALTER SYSTEM SET archive_mode = on")
        command(engine, "ALTER SYSTEM SET archive_command = 'false'")
        engine.dispose()
    with embedded(tmp_path / "data") as services:
        engine = make_engine(services.database_url)
        command(engine, "SELECT pg_switch_wal() FROM pg_create_restore_point('something to archive')")
        failed = text("SELECT failed_count FROM pg_stat_archiver")
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.scalar(failed):
                pass
        off, archive = troubles(engine)
        engine.dispose()
    assert off.is_fault
    assert "autovacuum is off" in off.detail
    assert archive.is_fault
    assert "it never worked" in archive.detail
    assert "SHOW archive_command" in archive.next

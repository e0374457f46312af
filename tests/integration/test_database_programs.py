"""Programs of PostgreSQL, run by ``ramq db run`` on the database of the settings."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import connection_variables, unit_of_work
from tests.services.command_line import COMMAND, run_here

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        (
            "postgresql+psycopg://ann:s%2Fe@db:5433/ramq?sslmode=require",
            {
                "PGUSER": "ann", "PGPASSWORD": "s/e", "PGHOST": "db", "PGPORT": "5433", "PGDATABASE": "ramq",
                "PGSSLMODE": "require",
            },
        ),
        (
            "postgresql+psycopg://ann@/ramq?host=one,two&port=1,2&target_session_attrs=read-write",
            {
                "PGUSER": "ann", "PGHOST": "one,two", "PGPORT": "1,2", "PGDATABASE": "ramq",
                "PGTARGETSESSIONATTRS": "read-write",
            },
        ),
        (
            "postgresql://ramq@/ramq?host=/tmp/ramq-0-1&port=5432&keepalives_idle=20",
            {"PGUSER": "ramq", "PGHOST": "/tmp/ramq-0-1", "PGPORT": "5432", "PGDATABASE": "ramq"},
        ),
    ],
)  # fmt: skip
def test_an_address_becomes_the_variables_that_programs_read(url: str, variables: dict[str, str]) -> None:
    assert connection_variables(url) == variables


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "db", "run", *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_a_program_runs_on_the_database_of_the_settings_and_its_status_is_ours(database_url: str) -> None:
    environment = {"RAMQ_DATABASE_URL": database_url, "PGDATABASE": "another"}
    done = run(environment, "psql", "-At", "-c", "SELECT current_database()")
    assert (done.returncode, done.stderr) == (0, "")
    assert database_url.endswith(done.stdout.strip()) or f"/{done.stdout.strip()}?" in database_url
    assert run(environment, "psql", "-c", "no statement").returncode == 1
    assert "no-such-program" in run_here(["db", "run", "no-such-program"], environment).stderr
    assert run_here(["db", "run", "no-such-program"], environment).returncode == 2
    assert "Example: ramq db run pg_dump" in run_here(["db", "run", "--help"], environment).stdout


def test_a_dump_of_the_embedded_stack_is_restored_into_another_one(tmp_path: Path) -> None:
    """As docs/backup.md has it: with the programs of that server, whatever the machine has."""
    stack, other = {"RAMQ_DATA_DIR": str(tmp_path / "stack")}, {"RAMQ_DATA_DIR": str(tmp_path / "other")}
    assert run_here(["user", "add", "ann"], stack).returncode == 0
    dump = str(tmp_path / "ramq.dump")
    done = run(stack, "pg_dump", "--format=custom", f"--file={dump}")
    assert (done.returncode, done.stderr) == (0, "")
    done = run(other, "pg_restore", "--no-owner", "--exit-on-error", "--dbname=ramq", dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ann" in run_here(["user", "list"], other).stdout


def test_ctrl_c_ends_the_statement_and_not_the_command_before_it(database_url: str, engine: Engine) -> None:
    environment = {**os.environ, "RAMQ_DATABASE_URL": database_url}
    command = [*COMMAND, "db", "run", "psql", "-c", "SELECT pg_sleep(600)"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _until_it_sleeps(engine)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode not in {0, 130}  # psql's own
    assert "canceling statement due to user request" in said
    assert "Traceback" not in said


def _until_it_sleeps(engine: Engine) -> None:
    ended = time.monotonic() + 60
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    while True:
        with unit_of_work(engine) as session:
            if session.scalar(text(sleeping)):
                return
        assert time.monotonic() < ended, "the statement did not begin in a minute"
        time.sleep(0.05)

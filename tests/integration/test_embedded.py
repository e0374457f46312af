"""The embedded PostgreSQL and Redis under users that come, go and are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from kombu import Connection
from sqlalchemy import make_url

from ramq.embedded import EmbeddedError, EmbeddedServices, embedded
from ramq.embedded.layout import Layout
from ramq.embedded.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.services

_USER = """
import sys
from pathlib import Path
from ramq.embedded import embedded
with embedded(Path(sys.argv[1])) as services:
    print(services.supervisor_pid, flush=True)
    sys.stdin.readline()
"""

_CHURN = """
import sys, time, random
from pathlib import Path
import psycopg
from sqlalchemy import make_url
from ramq.embedded import embedded
random.seed(sys.argv[2])
for _ in range(6):
    with embedded(Path(sys.argv[1])) as services:
        url = make_url(services.database_url).set(drivername="postgresql").render_as_string()
        with psycopg.connect(url) as connection:
            connection.execute("SELECT 1")
    time.sleep(random.random() * 0.3)
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def connected(services: EmbeddedServices) -> Iterator[psycopg.Connection]:
    url = make_url(services.database_url).set(drivername="postgresql").render_as_string()
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@contextmanager
def user_process(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the services until a line, or its end, reaches its input."""
    command = [sys.executable, "-c", _USER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def family(supervisor_pid: int) -> list[psutil.Process]:
    """The supervisor and all processes it answers for."""
    supervisor = psutil.Process(supervisor_pid)
    found = [supervisor, *supervisor.children(recursive=True)]
    assert {"postgres", "redis-server"} <= {process.name() for process in found}
    return found


def assert_all_end(processes: list[psutil.Process], *, at_once: bool = False) -> None:
    """They end soon; ``at_once``: of supervisor and services, all but the supervisor's last breath is over now."""
    if at_once:
        assert [process for process in processes[1:] if process.is_running()] == []
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


def test_what_is_written_is_there_after_the_services_were_stopped(data_dir: Path) -> None:
    with embedded(data_dir) as services:
        processes = family(services.supervisor_pid)
        with connected(services) as connection:
            connection.execute("CREATE TABLE notes (word text)")
            connection.execute("INSERT INTO notes VALUES ('猫')")
        with Connection(services.broker_url) as broker:
            broker.SimpleQueue("wake_up").put({"shard": 7})
    assert_all_end(processes, at_once=True)
    assert not Layout(data_dir.resolve()).sockets.exists()
    with embedded(data_dir) as services:
        with connected(services) as connection:
            assert connection.execute("SELECT word FROM notes").fetchall() == [("猫",)]
        with Connection(services.broker_url) as broker:
            assert broker.SimpleQueue("wake_up").get(timeout=5).payload == {"shard": 7}


def test_the_database_speaks_unicode_whatever_the_locale_of_the_user(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PGPORT", "6543")
    with embedded(data_dir) as services, connected(services) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        row = connection.execute("SELECT lower('ÄPFEL'), cardinality(show_trgm('苹果')), current_setting('fsync')")
        assert row.fetchone() == ("äpfel", 3, "on")


def test_processes_that_start_together_share_one_supervisor(data_dir: Path) -> None:
    with user_process(data_dir) as one, user_process(data_dir) as two, user_process(data_dir) as three:
        users = (one, two, three)
        pids = {int(user.stdout.readline()) for user in users if user.stdout}
        assert len(pids) == 1
        processes = family(*pids)
        for user in users:
            assert all(process.is_running() for process in processes), "a user is left"
            user.communicate("leave\n", timeout=30)
            assert user.returncode == 0
        assert_all_end(processes, at_once=True)


def test_a_killed_user_leaves_no_process_and_the_next_start_works(data_dir: Path) -> None:
    with user_process(data_dir) as user:
        assert user.stdout is not None
        processes = family(int(user.stdout.readline()))
        user.kill()
        assert_all_end(processes)
    with embedded(data_dir) as services, connected(services) as connection:
        connection.execute("SELECT 1")


def test_a_killed_supervisor_takes_its_services_along_and_the_next_user_finds_the_rows(data_dir: Path) -> None:
    with user_process(data_dir) as user:
        assert user.stdout is not None
        first_supervisor = int(user.stdout.readline())
        processes = family(first_supervisor)
        with embedded(data_dir) as services, connected(services) as connection:
            connection.execute("CREATE TABLE notes AS SELECT 'kept' AS word")
            os.kill(first_supervisor, signal.SIGKILL)
            psutil.wait_procs(processes[:1], timeout=20)
        # No waiting for the rest: the services may still be going down when the next supervisor comes.
        with embedded(data_dir) as services, connected(services) as connection:
            assert services.supervisor_pid != first_supervisor
            assert connection.execute("SELECT word FROM notes").fetchall() == [("kept",)]
        assert_all_end(processes)


@pytest.mark.parametrize("name", ["postgres", "redis-server"])
def test_a_service_that_is_killed_comes_back_at_the_same_address(data_dir: Path, name: str) -> None:
    with embedded(data_dir) as services:
        supervisor = psutil.Process(services.supervisor_pid)
        victim = next(process for process in supervisor.children() if process.name() == name)
        victim.kill()
        deadline = time.monotonic() + 30
        while name not in {child.name() for child in supervisor.children() if child.pid != victim.pid}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while True:
            try:
                with connected(services), Connection(services.broker_url) as broker:
                    broker.ensure_connection(max_retries=1)
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_users_that_come_while_others_leave_always_get_a_working_database(data_dir: Path) -> None:
    users = [subprocess.Popen([sys.executable, "-c", _CHURN, str(data_dir), str(number)]) for number in range(4)]
    assert [user.wait(timeout=120) for user in users] == [0, 0, 0, 0]


def test_two_data_folders_have_nothing_in_common(data_dir: Path) -> None:
    with embedded(data_dir / "a") as one, embedded(data_dir / "b") as two:
        assert one.supervisor_pid != two.supervisor_pid
        with connected(one) as connection:
            connection.execute("CREATE TABLE notes (word text)")
        with connected(two) as connection:
            assert connection.execute("SELECT to_regclass('notes')").fetchone() == (None,)


def test_a_path_longer_than_a_socket_address_with_spaces_and_quotes_works(tmp_path: Path) -> None:
    folder = tmp_path / ('a folder\'s "name" ' + "x" * 150)
    with embedded(folder) as services, connected(services) as connection:
        connection.execute("SELECT 1")
    shutil.rmtree(folder)


def test_a_data_folder_below_a_private_one_works_and_stays_private(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with embedded(private / "data") as services, connected(services) as connection:
        connection.execute("SELECT 1")
    assert private.stat().st_mode & 0o777 == 0o700
    assert (private / "data").stat().st_mode & 0o777 == 0o700
    shutil.rmtree(private)


def test_nothing_listens_on_the_network_and_other_users_are_kept_out(data_dir: Path) -> None:
    with embedded(data_dir) as services:
        processes = family(services.supervisor_pid)
        assert [connection for process in processes for connection in process.net_connections("tcp")] == []
        sockets = Layout(data_dir.resolve()).sockets
        assert sockets.stat().st_mode & 0o777 == 0o700


def test_a_number_in_postmaster_pid_that_belongs_to_another_program_is_no_obstacle(data_dir: Path) -> None:
    with embedded(data_dir):
        content = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        content[0] = str(stranger.pid)
        (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(content) + "\n")
        with embedded(data_dir) as services, connected(services) as connection:
            connection.execute("SELECT 1")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_unfinished_cluster_is_made_anew(data_dir: Path) -> None:
    (data_dir / "postgres.new").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    with embedded(data_dir) as services, connected(services) as connection:
        connection.execute("SELECT 1")
    assert not (data_dir / "postgres.new").exists()


def test_a_cluster_of_another_major_version_is_refused_with_what_to_do(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    with (
        pytest.raises(EmbeddedError, match=r"^[^\n]*was created by PostgreSQL 15, but this is \d+; dump it[^\n]*$"),
        embedded(data_dir),
    ):
        pass


def test_a_server_that_cannot_start_is_reported_in_one_line_with_its_log(data_dir: Path) -> None:
    with embedded(data_dir):
        pass
    (data_dir / "postgres" / "global" / "pg_control").unlink()
    with (
        pytest.raises(EmbeddedError, match=r"^postgres did not start: [^\n]*pg_control[^\n]*; see [^\n]*log$"),
        embedded(data_dir),
    ):
        pass


def test_a_damaged_append_only_file_is_reported_in_one_line_with_its_log(data_dir: Path) -> None:
    (data_dir / "redis").mkdir(parents=True)
    (data_dir / "redis" / "appendonly.aof").write_text("*1\r\nnonsense\r\n" * 9)
    with pytest.raises(EmbeddedError, match=r"^redis did not start: [^\n]*; see [^\n]*redis.log$"), embedded(data_dir):
        pass


def test_a_file_in_place_of_the_data_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I am a file")
    with pytest.raises(EmbeddedError, match=r"^cannot use the data folder [^\n]*$"), embedded(tmp_path / "data"):
        pass


def test_a_socket_folder_that_others_may_enter_is_refused(data_dir: Path) -> None:
    sockets = Layout.create(data_dir).sockets
    sockets.mkdir()
    sockets.chmod(0o777)
    try:
        with pytest.raises(EmbeddedError, match="other users can access"), embedded(data_dir):
            pass
    finally:
        sockets.rmdir()


def test_a_removed_data_folder_ends_the_services(data_dir: Path) -> None:
    with embedded(data_dir) as services:
        processes = family(services.supervisor_pid)
        shutil.rmtree(data_dir)
        assert_all_end(processes)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_cannot_connect(data_dir: Path) -> None:
    with embedded(data_dir) as services:
        url = make_url(services.database_url).set(drivername="postgresql").render_as_string()
        psql = Postgres(Layout(data_dir.resolve())).binaries / "psql"
        refused = subprocess.run(
            [psql, url, "-c", "SELECT 1"], user="nobody", capture_output=True, text=True, check=False
        )
        assert refused.returncode != 0
        assert "Permission denied" in refused.stderr

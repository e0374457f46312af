"""A real standby of the tests' PostgreSQL: a base backup that streams from it and may be searched."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine, make_url, text

from ramq.embedded.layout import Layout
from ramq.embedded.postgres import Postgres, _environment
from ramq.embedded.supervisor import _claim_socket_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def standby_of(url: str, data_dir: Path) -> Iterator[str]:
    """Run a standby while the block lasts; give the address under which it has the database of ``url``."""
    layout = Layout.create(data_dir)
    server = Postgres(layout)
    primary = make_url(url)
    with ExitStack() as cleanup:
        _claim_socket_folder(layout.sockets, server.owner, cleanup)
        layout.postgres.mkdir(mode=0o700)
        owner = server.owner
        if owner:
            os.chown(layout.postgres, owner.uid, owner.gid)
        command = [
            str(server.binaries / "pg_basebackup"),
            f"--pgdata={server._data_argument(layout.postgres)}",
            f"--host={primary.query['host']}",
            f"--port={primary.query['port']}",
            f"--username={primary.username}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--no-sync",
        ]
        subprocess.run(
            command,
            cwd=layout.postgres,
            env=_environment(),
            capture_output=True,
            check=True,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
        server.prepare()
        cleanup.callback(server.stop)
        server.start()
        yield make_url(server.url).set(database=primary.database).render_as_string(hide_password=False)


def catch_up(primary: Engine, standby: Engine, timeout_seconds: float = 60.0) -> None:
    """Wait until the standby has all that was written until now."""
    with primary.connect() as connection:
        written = connection.scalar(text("SELECT pg_current_wal_insert_lsn()::text"))
    deadline = time.monotonic() + timeout_seconds
    with standby.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(text("SELECT pg_last_wal_replay_lsn() >= (:lsn)::pg_lsn"), {"lsn": written}):
            assert time.monotonic() < deadline, "the standby does not catch up"
            time.sleep(0.01)


def pause(standby: Engine, *, is_paused: bool) -> None:
    """Let the standby fall behind, or go on."""
    with standby.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"SELECT pg_wal_replay_{'pause' if is_paused else 'resume'}()"))
        wanted = "paused" if is_paused else "not paused"
        while connection.scalar(text("SELECT pg_get_wal_replay_pause_state()")) != wanted:
            time.sleep(0.01)

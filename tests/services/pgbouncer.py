"""A real pgbouncer in front of the tests' PostgreSQL: transactions of many clients on few connections."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import make_url

from ramq.embedded.layout import Layout
from ramq.embedded.postgres import Postgres
from ramq.embedded.process import spawn, stop
from ramq.embedded.supervisor import _claim_socket_folder
from tests.services.missing import missing

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

_PORT = 6432  # names the socket
START_SECONDS = 30.0


@contextmanager
def pgbouncer_to(url: str, data_dir: Path, connections: int) -> Iterator[str]:
    """Run a pgbouncer while the block lasts; give the address under which it has the database of ``url``."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing("no pgbouncer is installed: apt-get install pgbouncer")
    address = make_url(url)
    layout = Layout.create(data_dir)
    owner = Postgres(layout).owner  # pgbouncer refuses to run as root, as PostgreSQL does
    with ExitStack() as cleanup:
        _claim_socket_folder(layout.sockets, owner, cleanup)
        configuration = layout.sockets / "pgbouncer.ini"
        configuration.write_text(
            f"""[databases]
{address.database} = host={address.query["host"]} port={address.query["port"]} user={address.username}
[pgbouncer]
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 100
unix_socket_dir = {layout.sockets}
listen_port = {_PORT}
"""
        )
        log = data_dir / "pgbouncer.log"
        process = spawn(
            [program, str(configuration)], cwd=layout.sockets, log=log, stop_signal=signal.SIGKILL, owner=owner
        )
        cleanup.callback(stop, process, signal.SIGTERM)
        pooled = address.update_query_dict({"host": str(layout.sockets), "port": str(_PORT)})
        _wait(process, pooled.set(drivername="postgresql").render_as_string(hide_password=False))
        yield pooled.render_as_string(hide_password=False)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return

"""A real Milvus server on loopback, with authentication on: all its parts in one process.

It is the program ``milvus-server`` of the package ``milvus`` (2.3.5), which needs an environment of its own:
``python -m venv DIR`` and ``DIR/bin/pip install milvus==2.3.5``. Tests find it on the path, or where ``MILVUS_SERVER``
says.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from storage.errors import ServiceUnavailableError
from storage.index.milvus.client import Milvus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 180
TICK_MS = 20
USER, PASSWORD = "root", "Milvus"  # what every new server has


@dataclass
class MilvusServer:
    """A server that can be killed and started again on its files.

    Attributes:
        program: ``milvus-server``.
        folder: for its files.
        port: where it listens.
    """

    program: str
    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _databases: int = field(default=0, init=False)

    def url(self, database: str = "", user: str = USER, password: str = PASSWORD) -> str:
        """Return the address of a database, as ``RAMQ_INDEX_URL`` has it."""
        return f"milvus+http://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        ended = time.monotonic() + START_SECONDS
        log = self.folder / "server.log"
        etcd = self.folder / "etcd.yaml"  # at its own ports, only one server could run on a machine
        client, peer = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
        etcd.write_text(
            f"data-dir: {self.folder / 'etcd'}\n"
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
        )
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    self.program,
                    *("--data", str(self.folder / "data")),
                    *("--proxy-port", str(self.port)),
                    *("--authorization-enabled", "true"),
                ],
                stdout=output,
                stderr=output,
                # Each request waits for a tick of the server. At its own 0.2 s, tests take minutes of waiting.
                env={**os.environ, "ETCD_CONFIG_PATH": str(etcd), "PROXY_TIMETICKINTERVAL": str(TICK_MS)},
                start_new_session=True,  # the program starts another, and leaves it when it is killed alone
            )
        while True:
            milvus = Milvus(self.url())
            try:
                milvus.check()
            except ServiceUnavailableError:
                assert self._process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
                assert time.monotonic() < ended, "the server did not answer in time"
                time.sleep(0.5)
            else:
                return
            finally:
                milvus.close()

    def kill(self) -> None:
        """End it as a lost machine would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def database(self) -> Iterator[Milvus]:
        """Yield a connection to an empty database, which is dropped afterwards."""
        self._databases += 1
        name = f"test_{self._databases}"
        with Milvus(self.url()).opened() as client:
            client.create_database(name)
        milvus = Milvus(self.url(name))
        yield milvus
        for collection in milvus.collections():
            milvus.drop(collection)
        milvus.close()
        with Milvus(self.url()).opened() as client:
            client.drop_database(name)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def milvus_server(folder: Path) -> Iterator[MilvusServer]:
    """Run a server in a folder. Skips the test where the program is not installed."""
    program = os.environ.get("MILVUS_SERVER") or shutil.which("milvus-server")
    if program is None:
        pytest.skip(
            "no milvus-server on the path: install milvus==2.3.5 elsewhere and set MILVUS_SERVER to its program"
        )
    server = MilvusServer(program, folder, _free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()

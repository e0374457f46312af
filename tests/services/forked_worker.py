"""Null workers that begin with everything loaded: each is forked from one process that imports it all once.

To load Python, Celery, SQLAlchemy and the rest costs more than most of the tests that start workers. The process that
forks has one thread and no engine, connection or settings: those a worker makes itself, from an environment of its
own, as if it had been started by a command. Linux only: elsewhere, and where loading is a part of what is tested,
``tests.services.fleet`` starts a new Python.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]

LOADED = (
    "billiard.pool",
    "boto3",
    "celery.app.routes",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.concurrency.thread",
    "celery.events.state",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "kombu.pidbox",
    "kombu.transport.redis",
    "numpy.ma",
    "numpy.random",
    "psycopg",
    "ramq.cli.stack",
    "ramq.worker_process",
    "sqlalchemy.dialects.postgresql.psycopg",
    "storage.index.builder",
    "storage.index.file_storage",
    "storage.objects.s3",
    "tests.services.fault_hooks",
    "tests.services.null_worker",
)
"""What a null worker imports until it waits for work. One that is missing here is loaded by each worker again."""

_MOST_BYTES = 1 << 20
_POLL_SECONDS = 0.01
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ForkedWorker:
    """What tests use of ``subprocess.Popen``, for a process that is a child of the one that forks."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how the process ended, as ``Popen.poll`` does; None while it runs."""
        if self.returncode is None:
            self.returncode = self._forks.ask(ended=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; return how."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"forked worker {self.pid}", timeout or 0)
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal. Until ``poll`` has told its end, the number of the process is nobody else's."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process without a word."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that forks, from outside. It ends when this one ends or closes it, and its workers with it."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(type=socket.SOCK_SEQPACKET)  # what is sent at once arrives at once
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(other.fileno())],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # a process with threads should not be forked
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )
        self._turn = threading.Lock()
        self._asked = 0

    def start(self, log: Path, environment: Mapping[str, str]) -> ForkedWorker:
        """Start a worker whose output is appended to ``log``."""
        return ForkedWorker(self, self.ask(log=str(log), environment=dict(environment)))

    def ask(self, **wanted: Any) -> Any:
        """Have the process that forks do something, and return its answer."""
        with self._turn:
            self._asked += 1
            self._socket.send(json.dumps([self._asked, wanted]).encode())
            while message := self._socket.recv(_MOST_BYTES):
                number, answer = json.loads(message)
                if number == self._asked:  # a test that ran out of time may have left an answer behind
                    return answer
        raise RuntimeError(f"the process that forks workers ended ({self._process.wait()}): its output says why")

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()


@cache
def forks() -> Forks:
    """Return the one of this process, started when it is first needed."""
    started = Forks()
    atexit.register(started.close)
    return started


def serve(descriptor: int) -> bool:
    """Do what is asked for until the other end is closed. Return whether this process is a worker now."""
    for name in LOADED:
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "something that was imported has started a thread"
    gc.collect()
    gc.freeze()  # or every worker would copy the pages of what all share, only to count references
    children: set[int] = set()
    with socket.socket(fileno=descriptor) as other:
        while message := other.recv(_MOST_BYTES):
            number, wanted = json.loads(message)
            if "ended" in wanted:
                answer = _how_ended(wanted["ended"], children)
            else:
                parent = os.getpid()
                answer = os.fork()
                if answer == 0:
                    _become_worker(parent, **wanted)
                    return True
                children.add(answer)
            other.send(json.dumps([number, answer]).encode())
    for child in children:
        os.kill(child, signal.SIGKILL)
    return False


def _how_ended(pid: int, children: set[int]) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    children.remove(pid)
    return os.waitstatus_to_exitcode(status)


def _become_worker(parent: int, log: str, environment: Mapping[str, str]) -> None:
    """Arrange in a new child what ``ramq.embedded.process.spawn`` arranges for a command."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__" and serve(int(sys.argv[1])):
    import_module("tests.services.null_worker").main()

"""The client side of the embedded services: join, wait for the addresses, leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.embedded.layout import EmbeddedError, Layout, open_lock, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_SECONDS = 0.03
_STOP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class EmbeddedServices:
    """Addresses of running services.

    Attributes:
        database_url: for SQLAlchemy. The database ``ramq`` exists, but the caller must create its tables.
        broker_url: for kombu and Celery.
        supervisor_pid: the process that owns both services.
    """

    database_url: str
    broker_url: str
    supervisor_pid: int


@contextmanager
def embedded(data_dir: Path, *, timeout_seconds: float = 120.0) -> Iterator[EmbeddedServices]:
    """Run PostgreSQL and Redis of ``data_dir`` during the block. Start them if they are not running.

    Any number of processes and threads may be inside the block at once. Leaving the last block returns only when both
    services have stopped. A user process that is killed has left.

    Raises:
        EmbeddedError: the services are not ready in time. The message has the reason and the log to read.
    """
    layout = Layout.create(data_dir)
    deadline = time.monotonic() + timeout_seconds
    users = _join(layout, deadline)
    try:
        yield _await_services(layout, deadline)
    finally:
        try:
            _leave(layout, users)
        finally:
            os.close(users)


def _join(layout: Layout, deadline: float) -> int:
    """Become a user, and return the descriptor of the lock. Wait while previous services are still stopping."""
    with ExitStack() as on_failure:
        try:
            users = open_lock(layout.users_lock)
            on_failure.callback(os.close, users)
            while not (joined := try_lock(users, exclusive=False)) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        except OSError as error:
            raise layout.unusable(error) from error
        if not joined:
            raise EmbeddedError(f"the embedded services are still stopping; see {layout.logs / 'supervisor.log'}")
        on_failure.pop_all()
    return users


def _await_services(layout: Layout, deadline: float) -> EmbeddedServices:
    while time.monotonic() < deadline:
        services = _read_services(layout)
        if services is not None:
            return services
        supervisor_lock = open_lock(layout.supervisor_lock)
        try:
            if try_lock(supervisor_lock, exclusive=True):
                _start_supervisor(layout, supervisor_lock, deadline)
                continue
        finally:
            # The supervisor keeps the lock, because it shares the open file.
            os.close(supervisor_lock)
        time.sleep(_POLL_SECONDS)
    raise EmbeddedError(f"the embedded services are not ready in time; see {layout.logs}")


def _start_supervisor(layout: Layout, supervisor_lock: int, deadline: float) -> None:
    """Start the supervisor, and return when its services are ready. From then on it owns ``supervisor_lock``."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    command = [sys.executable, "-P", "-m", "ramq.embedded.supervisor", str(layout.data_dir), str(supervisor_lock)]
    try:
        launch = subprocess.run(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            cwd="/",
            pass_fds=[supervisor_lock],
            start_new_session=True,
            timeout=max(deadline - time.monotonic(), 0.1),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedError(f"the embedded services are not ready in time; see {layout.logs}") from error
    if launch.returncode != 0:
        lines = (launch.stdout or launch.stderr).strip().splitlines()
        raise EmbeddedError(lines[-1] if lines else f"the supervisor was killed; see {layout.logs / 'supervisor.log'}")


def _read_services(layout: Layout) -> EmbeddedServices | None:
    """Return the addresses of a running supervisor, or None if there is none or if it is not ready yet.

    Raises:
        EmbeddedError: the supervisor is running, but its sockets are not visible from here.
    """
    try:
        descriptor = os.open(layout.services_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise layout.unusable(error) from error
    with os.fdopen(descriptor) as file:
        if try_lock(file.fileno(), exclusive=False):
            return None  # no supervisor holds the lock: a killed one left this file behind
        state = json.load(file)
    if not Path(state["sockets"]).is_dir() and layout.services_file.exists():
        raise EmbeddedError(
            f"the services of {layout.data_dir} run on another machine or in another container; "
            "stop them there, or choose another folder (RAMQ_DATA_DIR)"
        )
    return EmbeddedServices(state["database_url"], state["broker_url"], state["keeper_pid"])


def _leave(layout: Layout, users: int) -> None:
    """Stop being a user. The last user stops the supervisor and waits for its end."""
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    if not try_lock(users, exclusive=True):
        # There are other users, or another process is already stopping the services. In that case, wait for it.
        while not try_lock(users, exclusive=False) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return
    services = _read_services(layout)
    if services is None:
        return
    with suppress(ProcessLookupError):
        os.kill(services.supervisor_pid, signal.SIGTERM)
    supervisor_lock = open_lock(layout.supervisor_lock)
    try:
        while not try_lock(supervisor_lock, exclusive=True):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"the embedded services do not stop; see {layout.logs / 'supervisor.log'}")
            time.sleep(_POLL_SECONDS)
    finally:
        os.close(supervisor_lock)

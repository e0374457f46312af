"""The process that owns the embedded services of one data folder: ``python -m ramq.embedded.supervisor DATA LOCK``.

It starts both services, publishes their addresses, restarts a service that fails, and stops both when the last user has
left. The services are its children and end with it, so they stop even if it is killed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ramq.embedded.layout import EmbeddedError, Layout, open_lock, try_lock
from ramq.embedded.postgres import Postgres
from ramq.embedded.services import Redis, Service, rotate

if TYPE_CHECKING:
    from ramq.embedded.process import Owner

_log = logging.getLogger("ramq.supervisor")

_POLL_SECONDS = 0.25
_RESTARTS_AT_MOST = 5
_RESTART_WINDOW_SECONDS = 60.0
_READY = "ready"


def main() -> int:
    """Fork. The launcher waits for the outcome and prints the reason of a failure. The supervisor keeps running."""
    layout, supervisor_lock = Layout(Path(sys.argv[1])), int(sys.argv[2])
    os.set_inheritable(supervisor_lock, False)
    read_end, write_end = os.pipe()
    if os.fork() != 0:
        os.close(write_end)
        with os.fdopen(read_end) as outcome:
            message = outcome.read()
        if message == _READY:
            return 0
        sys.stdout.write(message)
        return 1
    os.close(read_end)
    _detach(layout.logs / "supervisor.log")
    with os.fdopen(write_end, "w") as launcher:
        return _keep(layout, launcher)


def _detach(log: Path) -> None:
    """Redirect our output to the log, and make SIGTERM run the clean-up."""
    rotate(log)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _keep(layout: Layout, launcher: TextIO) -> int:
    try:
        with ExitStack() as cleanup:
            services = _start(layout, cleanup)
            users = open_lock(layout.users_lock)
            _say(launcher, _READY)
            _watch(layout, services, users)
            # This lock is kept until our end, so that no new user joins services that are stopping.
    except EmbeddedError as error:
        _log.error("%s", error)
        _say(launcher, str(error))
    except OSError as error:
        _log.exception("the supervisor cannot continue")
        _say(launcher, str(layout.unusable(error)))
    else:
        return 0
    return 1


def _say(launcher: TextIO, message: str) -> None:
    """Send a message to the launcher once, if it still exists."""
    if launcher.closed:
        return
    try:
        launcher.write(message)
        launcher.close()
    except BrokenPipeError:
        _log.info("the launcher has ended and did not receive: %s", message)


def _start(layout: Layout, cleanup: ExitStack) -> list[Service]:
    postgres = Postgres(layout)
    services: list[Service] = [postgres, Redis(layout)]
    for service in services:
        service.prepare()
    _claim_socket_folder(layout.sockets, postgres.owner, cleanup)
    for service in services:
        cleanup.callback(service.stop)
        service.start()
        _log.info("%s is ready at %s", service.name, service.url)
    _publish(layout, services, cleanup)
    # This clean-up runs first, so that a second SIGTERM does not interrupt the others.
    cleanup.callback(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    return services


def _claim_socket_folder(folder: Path, owner: Owner | None, cleanup: ExitStack) -> None:
    """Create the folder of the sockets, or reuse our own from before.

    Raises:
        EmbeddedError: another user owns it or may write to it, and could listen on sockets in it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    ours = {os.geteuid()} | ({owner.uid} if owner else set())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
        raise EmbeddedError(f"other users can access {folder}; remove it and start again")
    if owner:
        os.chown(folder, owner.uid, owner.gid)
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    # Programs that clean temporary folders skip locked ones.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    cleanup.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _publish(layout: Layout, services: list[Service], cleanup: ExitStack) -> None:
    """Write the addresses. The file is locked before it becomes visible, because only the lock makes them valid."""
    database, broker = services
    state = {
        "database_url": database.url,
        "broker_url": broker.url,
        "sockets": str(layout.sockets),
        "keeper_pid": os.getpid(),
    }
    draft = layout.services_file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = open_lock(draft)
    cleanup.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, json.dumps(state).encode())
    draft.rename(layout.services_file)
    cleanup.callback(layout.services_file.unlink, missing_ok=True)


def _watch(layout: Layout, services: list[Service], users: int) -> None:
    """Watch the services and restart those that end. Return when no user is left, or the data folder was removed.

    Raises:
        EmbeddedError: a service fails repeatedly.
    """
    restarts: list[float] = []
    while not try_lock(users, exclusive=True):
        if not _is_same_file(users, layout.users_lock):
            _log.warning("%s was removed while in use; stopping", layout.data_dir)
            return
        for service in services:
            if not service.has_ended():
                continue
            now = time.monotonic()
            restarts = [*(then for then in restarts if now - then < _RESTART_WINDOW_SECONDS), now]
            if len(restarts) > _RESTARTS_AT_MOST:
                raise EmbeddedError(f"{service.name} fails repeatedly; see {service.log}")
            _log.warning("%s ended unexpectedly; restarting it", service.name)
            service.start()
        time.sleep(_POLL_SECONDS)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())

"""What a test sees of shards and workers from outside, in the database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import unit_of_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.wiring import Services
    from tests.services.fleet import Fleet, Process


def scalar(services: Services, statement: str, **values: object) -> object:
    """The one value that a statement gives."""
    with unit_of_work(services.engine) as session:
        return session.scalar(text(statement), values)


def leases_of(services: Services, process: Process) -> dict[int, int]:
    """The shards that a worker process holds, each with its epoch."""
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text("SELECT id, epoch FROM shard WHERE state = 'leased' AND owner LIKE :owner"),
            {"owner": f"%-{process.pid}-%"},
        )
        return {row.id: row.epoch for row in rows}


def until(is_so: Callable[[], bool], fleet: Fleet, limit_seconds: float = 120.0) -> None:
    """Wait until something holds; a test that waits in vain shows what the workers said."""
    deadline = time.monotonic() + limit_seconds
    while not is_so():
        assert time.monotonic() < deadline, fleet.log()[-4000:]
        time.sleep(0.1)


def seconds_until_taken_over(services: Services, leases: dict[int, int], limit_seconds: float) -> float:
    """Wait until every one of these leases has a later epoch; return how long the last one took."""
    began = time.monotonic()
    while True:
        with unit_of_work(services.engine) as session:
            rows = session.execute(text("SELECT id, epoch FROM shard WHERE id = ANY(:ids)"), {"ids": list(leases)})
            left = [row.id for row in rows if row.epoch <= leases[row.id]]
        waited = time.monotonic() - began
        if not left:
            return waited
        assert waited < limit_seconds, f"shards {left} were not taken over within {limit_seconds} s"
        time.sleep(0.05)


def is_stopped(process: Process) -> bool:
    """Whether a process is halted by SIGSTOP."""
    try:
        status = Path(f"/proc/{process.pid}/stat").read_text()
    except FileNotFoundError:  # no Linux, or gone
        return False
    return status.rpartition(")")[2].split()[0] in "Tt"


def wait_until_stopped(process: Process, fleet: Fleet, limit_seconds: float = 60.0) -> None:
    """Wait until a worker has stopped itself where it was told to."""
    deadline = time.monotonic() + limit_seconds
    while not is_stopped(process):
        assert process.poll() is None, fleet.log()[-3000:]
        assert time.monotonic() < deadline, fleet.log()[-3000:]
        time.sleep(0.02)


def acknowledged(path: Path) -> list[int]:
    """The images whose commit a worker was told of (see ``fault_hooks``), a line that is being written left out."""
    return [int(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def size_of(path: Path) -> int:
    """How many bytes a file has; none if it is not there."""
    return path.stat().st_size if path.exists() else 0

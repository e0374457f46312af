"""Worker processes that a test starts, kills, stops and counts, and the counters it checks at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from ramq.embedded.process import spawn
from ramq.wiring import Services
from storage.database import make_engine, unit_of_work
from tests.services.forked_worker import ROOT, ForkedWorker, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ramq.settings import Settings
    from storage.ledger.views import JobView

Process = subprocess.Popen[bytes] | ForkedWorker
TIMEOUT_SECONDS = 120.0
_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.05, 0.15
"""Between two looks at a job. Each is several queries, so a long wait is looked at less often than a short one."""


@dataclass
class Fleet:
    """Processes of ``ramq worker`` on one database and broker."""

    folder: Path
    environment: dict[str, str]
    is_null: bool
    processes: list[Process] = field(default_factory=list)

    def start(self, count: int = 1, **environment: str) -> list[Process]:
        """Start workers and return them."""
        started = [self._start({**self.environment, **environment}) for _ in range(count)]
        self.processes += started
        return started

    def _start(self, environment: dict[str, str]) -> Process:
        log = self.folder / "worker.log"
        # What is wrong with a clock must be so before a module is loaded: some keep the function that tells the time.
        if self.is_null and sys.platform == "linux" and "FAULT_SKEW_SECONDS" not in environment:
            return forks().start(log, environment)
        module = ["tests.services.null_worker"] if self.is_null else ["ramq.cli.main", "worker"]
        command = [sys.executable, "-m", *module]
        return spawn(command, cwd=ROOT, log=log, stop_signal=signal.SIGKILL, env=environment)

    def kill(self, process: Process) -> None:
        """End a worker without a word."""
        process.kill()
        process.wait()
        self.processes.remove(process)

    def log(self) -> str:
        """What all workers said."""
        path = self.folder / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        """Kill whoever is left."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


@contextmanager
def running_fleet(settings: Settings, folder: Path, *, is_null: bool = True, **environment: str) -> Iterator[Fleet]:
    """Give a fleet on the services that ``settings`` name; nobody of it survives the block."""
    assert settings.database_url
    assert settings.broker_url
    fleet = Fleet(
        folder,
        {
            **os.environ,
            "RAMQ_DATA_DIR": str(settings.data_dir),
            "RAMQ_DATABASE_URL": settings.database_url,
            "RAMQ_BROKER_URL": settings.broker_url,
            "RAMQ_LEASE_SECONDS": "3",
            "RAMQ_SHARD_SIZE": "64",
            "RAMQ_BATCH_SIZE": "16",
            "OMP_NUM_THREADS": "1",
            # Each is a new Python: for most of these tests, that is more work than all their pictures. The tests that
            # are about decoders ask for two.
            **({"RAMQ_DECODE_THREADS": "1"} if is_null else {}),
            **environment,
        },
        is_null,
    )
    try:
        yield fleet
    finally:
        fleet.end()


@contextmanager
def client_services(settings: Settings) -> Iterator[Services]:
    """What a person would hold: services on the same database."""
    assert settings.database_url
    engine = make_engine(settings.database_url)
    try:
        yield Services(settings, engine, settings.broker_url, is_reachable=False)
    finally:
        engine.dispose()


def wait_for(
    services: Services, job_id: int, fleet: Fleet, until: Callable[[JobView], bool], timeout: float = TIMEOUT_SECONDS
) -> JobView:
    """Return the job once ``until`` holds; the counters must add up all the while."""
    began = time.monotonic()
    while True:
        view = services.jobs.get(job_id)
        assert view.listed == view.done + view.skipped + view.failed + view.pending
        assert min(view.done, view.skipped, view.failed, view.pending) >= 0
        if until(view):
            return view
        waited = time.monotonic() - began
        assert waited < timeout, f"{view}\n{fleet.log()[-4000:]}"
        time.sleep(min(max(waited / 20, _LEAST_PAUSE_SECONDS), _MOST_PAUSE_SECONDS))


def check_counters(services: Services, job_id: int) -> None:
    """Compare a job's counts with the rows themselves: nothing lost, nothing twice."""
    view = services.jobs.get(job_id)
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                """
                SELECT (SELECT count(*) FROM record WHERE job_id = :id) AS records,
                    (SELECT count(*) FROM vector v JOIN record r USING (image_id, generation_id)
                     WHERE r.job_id = :id) AS vectors,
                    (SELECT count(*) FROM failure WHERE job_id = :id AND NOT retrying) AS failures,
                    (SELECT count(*) FROM record JOIN failure USING (image_id, job_id) WHERE job_id = :id) AS both_ways,
                    count(id) AS in_shards, count(DISTINCT id) AS distinct_in_shards
                FROM (SELECT unnest(image_ids) AS id FROM shard WHERE job_id = :id) AS leased
                """
            ),
            {"id": job_id},
        ).one()
    assert rows.records == rows.vectors == view.done
    assert rows.failures == view.failed
    assert rows.both_ways == 0
    assert rows.in_shards == rows.distinct_in_shards == view.done + view.failed + view.pending

"""A long run under faults: does anything grow that should not? For ``benchmarks.chaos --soak`` and its test."""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
from sqlalchemy import text

from benchmarks.fault_injector import WITHOUT_STORE, FaultInjector
from ramq.broker import broker_client
from ramq.settings import Settings
from storage.database import unit_of_work
from storage.errors import RamqError
from storage.migrate import upgrade
from tests.services.breakable import breakable_services
from tests.services.checker import check_index
from tests.services.fleet import check_counters, client_services, running_fleet
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from ramq.wiring import Services
    from tests.services.breakable import BreakableServices
    from tests.services.fleet import Fleet

LEASE_SECONDS = 4
PAUSE_SECONDS = (4.0, 12.0)
WARM_SECONDS = 20.0
"""A process is measured from this age on: before, it is still loading."""
SKEWS = (600, -600, 0)


class Sizes:
    """How large each worker process was from when it was warm: what it keeps is told from what it takes for a while.

    Who publishes the index takes memory for it and gives it back; what is never given back again is a leak.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, list[int]] = {}

    def look(self, fleet: Fleet) -> None:
        """Measure every worker that is old enough."""
        for process in fleet.processes:
            try:
                seen = psutil.Process(process.pid)
                if time.time() - seen.create_time() > WARM_SECONDS:
                    self._sizes.setdefault(process.pid, []).append(seen.memory_info().rss)
            except psutil.NoSuchProcess:
                continue

    @property
    def kept_bytes(self) -> int:
        """How far the process that grew most never fell back to its first size, in the last third of its life."""
        return max((min(sizes[-(len(sizes) // 3 + 1) :]) - sizes[0] for sizes in self._sizes.values()), default=0)

    @property
    def peak_bytes(self) -> int:
        """By how much a process was larger than at first, at most."""
        return max((max(sizes) - sizes[0] for sizes in self._sizes.values()), default=0)


def soak(images: int, workers: int, minutes: float, seed: int) -> dict[str, Any]:
    """Work on ``images`` pictures until they are done or the time is over; then the counters must balance.

    Raises:
        AssertionError: something was lost, doubled or wrong.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramq-soak-")))
        running = stack.enter_context(breakable_services(folder / "services"))
        server = PostgresServer(running.database_url)
        settings = Settings(
            data_dir=folder / "data", database_url=server.create_database("soak"), broker_url=running.broker_url
        )
        (folder / "data").mkdir()
        (folder / "photos").mkdir()
        services = stack.enter_context(client_services(settings))
        upgrade(services.engine)
        environment: dict[str, Any] = {
            "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
            "RAMQ_SHARD_SIZE": "256",
            "RAMQ_BATCH_SIZE": "64",
            "NULL_MODEL_COUNT": str(folder / "counted"),
            "FAULT_MADE_UP": str(images),
        }
        fleet = stack.enter_context(running_fleet(settings, folder, **environment))
        for number in range(workers):
            fleet.start(1, FAULT_SKEW_SECONDS=str(SKEWS[number % len(SKEWS)]))
        chance = random.Random(seed)
        fault_injector = FaultInjector(
            fleet, running, None, chance, sleep_seconds=2 * LEASE_SECONDS, kinds=WITHOUT_STORE
        )
        job = services.jobs.create(str(folder / "photos"))
        figures = _watch(services, job.id, running, fault_injector, 60 * minutes)
        fault_injector.rest()
        check_counters(services, job.id)
        check_index(services)
        view = services.jobs.get(job.id)
        inferred = (folder / "counted").stat().st_size
        assert view.failed == 0
        return {
            "images": images,
            "workers": workers,
            "seed": seed,
            "state": view.state,
            "done": view.done,
            "repeated_percent": round(100 * (inferred - view.done) / max(1, view.done), 2),
            "faults": dict(fault_injector.faults),
            **figures,
            **_bloat(services),
        }


def _watch(
    services: Services, job_id: int, running: BreakableServices, fault_injector: FaultInjector, seconds: float
) -> dict[str, Any]:
    sizes, most_redis, longest = Sizes(), 0, 0
    began = time.monotonic()
    next_strike = began + PAUSE_SECONDS[1]
    while True:
        fault_injector.tend()
        sizes.look(fault_injector.fleet)
        if time.monotonic() > next_strike:
            fault_injector.strike()
            next_strike = time.monotonic() + fault_injector.random.uniform(*PAUSE_SECONDS)
        broker = broker_client(running.broker_url)
        most_redis = max(most_redis, cast("dict[str, int]", broker.info("memory"))["used_memory"])
        longest = max(longest, broker.llen("ramq:ramq.lite"))
        broker.close()
        try:
            view = services.jobs.get(job_id)
            assert view.listed == view.done + view.skipped + view.failed + view.pending, view
            is_late = time.monotonic() - began > seconds
            if is_late and not view.is_over:
                services.jobs.cancel(job_id)
            if view.is_over or is_late:
                break
        except RamqError:
            pass  # PostgreSQL is on its way back
        time.sleep(0.2)
    elapsed = time.monotonic() - began
    time.sleep(2 * LEASE_SECONDS)  # what was in hand is written or given back
    done = services.jobs.get(job_id).done
    return {
        "seconds": round(elapsed, 1),
        "images_per_second": round(done / elapsed, 1),
        "most_kept_by_a_worker_mb": round(sizes.kept_bytes / 1e6, 1),
        "most_taken_by_a_worker_mb": round(sizes.peak_bytes / 1e6, 1),
        "redis_most_mb": round(most_redis / 1e6, 2),
        "longest_queue": longest,
    }


def _bloat(services: Services) -> dict[str, Any]:
    """How many rows of the two busiest tables are dead, of all: what vacuum has not taken back yet."""
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                """SELECT relname, round(100.0 * n_dead_tup / greatest(n_live_tup + n_dead_tup, 1), 1)::float AS dead
                   FROM pg_stat_user_tables WHERE relname IN ('shard', 'job') OR relname LIKE 'record%'"""
            )
        )
        return {"dead_rows_percent": {row.relname: row.dead for row in rows}}

"""Workers that stop and wake up after their lease: what they still hold in their hands reaches nobody."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from storage.database import LOCKED_IDLE_SECONDS
from tests.services.checker import check_job, fill, picture
from tests.services.fleet import wait_for
from tests.services.watch import acknowledged, leases_of, seconds_until_taken_over, wait_until_stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

LEASE_SECONDS = 2
COUNT = 64


def run_with_a_zombie(
    services: Services, fleet: Fleet, folder: Path, **fault_hooks: str
) -> tuple[int, dict[str, bytes]]:
    """A worker stops before it writes; its pictures change, another worker does them; the first one wakes up."""
    files = fill(folder, COUNT)
    job = services.jobs.create(str(folder))
    fleet.environment |= {"RAMQ_LEASE_SECONDS": str(LEASE_SECONDS)}
    [zombie] = fleet.start(1, FAULT_STOP="before_write", **fault_hooks)
    wait_until_stopped(zombie, fleet)
    for number, name in enumerate(files):
        files[name] = picture(10_000 + number)
        (folder / name).write_bytes(files[name])
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.done >= COUNT // 2)
    zombie.send_signal(signal.SIGCONT)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    deadline = time.monotonic() + 20
    while "fenced" not in fleet.log() and time.monotonic() < deadline and not fault_hooks:
        time.sleep(0.1)
    return job.id, files


@pytest.mark.slow
def test_a_batch_that_comes_after_its_lease_is_fenced_and_newer_results_stand(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    """At least one commit is refused and logged; every record is that of the newer bytes."""
    job_id, files = run_with_a_zombie(services, fleet, tmp_path / "photos")
    assert "fenced" in fleet.log()
    check_job(services, job_id, files)


@pytest.mark.slow
def test_without_the_fence_the_checks_of_a_zombie_fail(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    """Shows that the test above bites: the same story, with a worker whose writes ask for no lease."""
    told = tmp_path / "acknowledged"
    job_id, files = run_with_a_zombie(
        services, fleet, tmp_path / "photos", FAULT_NO_FENCE="1", FAULT_ACKNOWLEDGED=str(told)
    )
    deadline = time.monotonic() + 30
    while not acknowledged(told):  # what the zombie had in its hands arrives
        assert time.monotonic() < deadline, fleet.log()[-3000:]
        time.sleep(0.05)
    with pytest.raises(AssertionError):
        check_job(services, job_id, files)


@pytest.mark.slow
def test_a_worker_that_stops_in_the_middle_of_a_transaction_holds_its_shard_only_for_a_while(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Its locks end with its transaction, which the database ends: taken over after that, a lease and 5 seconds."""
    files = fill(tmp_path / "photos", COUNT)
    job = services.jobs.create(str(tmp_path / "photos"))
    fleet.environment |= {"RAMQ_LEASE_SECONDS": str(LEASE_SECONDS)}
    [sleeper] = fleet.start(1, FAULT_STOP="in_write")
    wait_until_stopped(sleeper, fleet)
    held = leases_of(services, sleeper)
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda _: len(services.jobs.workers()) == 2)
    seconds_until_taken_over(services, held, amount(2, 1) * (LOCKED_IDLE_SECONDS + LEASE_SECONDS + 5))
    sleeper.send_signal(signal.SIGCONT)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)
    assert sleeper.poll() is None


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_keeps_its_lease_until_its_batch_is_written(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    """A batch of a large model on a CPU takes longer than a lease."""
    files = fill(tmp_path / "photos", COUNT)
    job, count = services.jobs.create(str(tmp_path / "photos")), tmp_path / "count"
    fleet.environment |= {"RAMQ_LEASE_SECONDS": str(LEASE_SECONDS), "NULL_MODEL_COUNT": str(count)}
    [worker] = fleet.start(1, NULL_MODEL_SECONDS=str(3 * LEASE_SECONDS))
    wait_for(services, job.id, fleet, lambda _: count.exists())
    fleet.start(1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)
    assert count.stat().st_size == COUNT, "recognised twice"

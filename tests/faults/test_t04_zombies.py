"""Workers that stop and wake up after their lease: what they still hold in their hands reaches nobody."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from storage.database import LOCKED_IDLE_SECONDS
from tests.services.checker import check_job, fill, picture
from tests.services.crew import wait_for
from tests.services.watch import acknowledged, leases_of, seconds_until_taken_over, wait_until_stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.crew import Crew

LEASE_SECONDS = 2
COUNT = 64


def run_with_a_zombie(services: Services, crew: Crew, folder: Path, **misfortune: str) -> tuple[int, dict[str, bytes]]:
    """A worker stops before it writes; its pictures change, another worker does them; the first one wakes up."""
    files = fill(folder, COUNT)
    job = services.jobs.create(str(folder))
    crew.environment |= {"RAMQ_LEASE_SECONDS": str(LEASE_SECONDS)}
    [zombie] = crew.start(1, MISFORTUNE_STOP="before_write", **misfortune)
    wait_until_stopped(zombie, crew)
    for number, name in enumerate(files):
        files[name] = picture(10_000 + number)
        (folder / name).write_bytes(files[name])
    crew.start(1)
    wait_for(services, job.id, crew, lambda view: view.done >= COUNT // 2)
    zombie.send_signal(signal.SIGCONT)
    wait_for(services, job.id, crew, lambda view: view.is_over)
    deadline = time.monotonic() + 20
    while "fenced" not in crew.log() and time.monotonic() < deadline and not misfortune:
        time.sleep(0.1)
    return job.id, files


@pytest.mark.slow
def test_a_batch_that_comes_after_its_lease_is_fenced_and_newer_results_stand(
    services: Services, crew: Crew, tmp_path: Path
) -> None:
    """At least one commit is refused and logged; every record is that of the newer bytes."""
    job_id, files = run_with_a_zombie(services, crew, tmp_path / "photos")
    assert "fenced" in crew.log()
    check_job(services, job_id, files)


@pytest.mark.slow
def test_without_the_fence_the_checks_of_a_zombie_fail(services: Services, crew: Crew, tmp_path: Path) -> None:
    """Shows that the test above bites: the same story, with a worker whose writes ask for no lease."""
    told = tmp_path / "acknowledged"
    job_id, files = run_with_a_zombie(
        services, crew, tmp_path / "photos", MISFORTUNE_NO_FENCE="1", MISFORTUNE_ACKNOWLEDGED=str(told)
    )
    deadline = time.monotonic() + 30
    while not acknowledged(told):  # what the zombie had in its hands arrives
        assert time.monotonic() < deadline, crew.log()[-3000:]
        time.sleep(0.05)
    with pytest.raises(AssertionError):
        check_job(services, job_id, files)


@pytest.mark.slow
def test_a_worker_that_stops_in_the_middle_of_a_transaction_holds_its_shard_only_for_a_while(
    services: Services, crew: Crew, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Its locks end with its transaction, which the database ends: taken over after that, a lease and 5 seconds."""
    files = fill(tmp_path / "photos", COUNT)
    job = services.jobs.create(str(tmp_path / "photos"))
    crew.environment |= {"RAMQ_LEASE_SECONDS": str(LEASE_SECONDS)}
    [sleeper] = crew.start(1, MISFORTUNE_STOP="in_write")
    wait_until_stopped(sleeper, crew)
    held = leases_of(services, sleeper)
    crew.start(1)
    wait_for(services, job.id, crew, lambda _: len(services.jobs.workers()) == 2)
    seconds_until_taken_over(services, held, amount(2, 1) * (LOCKED_IDLE_SECONDS + LEASE_SECONDS + 5))
    sleeper.send_signal(signal.SIGCONT)
    wait_for(services, job.id, crew, lambda view: view.is_over)
    check_job(services, job.id, files)
    assert sleeper.poll() is None

"""Workers that are told to stop in the middle of a job: their number is reduced, or their machine is taken away."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.services.checker import check_job, fill
from tests.services.fleet import check_counters, wait_for
from tests.services.watch import leases_of, scalar, size_of, until

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

STOPS = 20
LEASE_SECONDS = 600
"""Longer than the test: a shard that was not given back would never be finished."""


@pytest.mark.slow
def test_workers_that_are_told_to_stop_give_everything_back_and_nothing_is_recognised_twice(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    count, chance = 2_400, random.Random(4)
    source, counted = tmp_path / "photos", tmp_path / "counted"
    files = fill(source, count)
    fleet.environment |= {
        "NULL_MODEL_COUNT": str(counted),
        "NULL_MODEL_SECONDS": "0.08",
        "RAMQ_BATCH_SIZE": "8",
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    job = services.jobs.create(str(source))
    fleet.start(2)
    for number in range(STOPS):
        at = count * (number + 1) // (STOPS + 2)
        wait_for(services, job.id, fleet, lambda view, at=at: view.done > at)
        until(lambda: any(leases_of(services, process) for process in fleet.processes), fleet)
        stopped = chance.choice([process for process in fleet.processes if leases_of(services, process)])
        time.sleep(chance.uniform(0, 0.1))  # anywhere in a batch
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(30) == 0
        fleet.processes.remove(stopped)
        # Free at once, and with a clean record: the next holder does not take it for a shard that kills workers.
        assert leases_of(services, stopped) == {}
        assert scalar(services, "SELECT count(*) FROM shard WHERE state = 'ready' AND owner IS NOT NULL") == 0
        assert scalar(services, "SELECT count(*) FROM shard WHERE state = 'ready' AND attempts > 0") == 0
        assert scalar(services, "SELECT count(*) FROM worker WHERE pid = :pid", pid=stopped.pid) == 0
        fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)

    check_job(services, job.id, files)
    assert size_of(counted) == count


@pytest.mark.slow
def test_a_batch_that_takes_longer_than_there_is_time_is_given_back_unfinished(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    """Its shard is free while the model still works on it. What it makes of it is not written."""
    count, batch = 48, 16
    source, counted = tmp_path / "photos", tmp_path / "counted"
    files = fill(source, count)
    fleet.environment |= {"NULL_MODEL_COUNT": str(counted), "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS)}
    job = services.jobs.create(str(source))
    [slow] = fleet.start(1, NULL_MODEL_SECONDS="14", RAMQ_GRACE_SECONDS="1")
    until(lambda: size_of(counted) == batch, fleet)
    slow.send_signal(signal.SIGTERM)
    began = time.monotonic()
    until(lambda: leases_of(services, slow) == {}, fleet)
    assert time.monotonic() - began < 8
    assert slow.poll() is None, "the model still works on the batch"
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert slow.wait(60) == 0

    check_job(services, job.id, files)
    check_counters(services, job.id)
    assert count < size_of(counted) <= count + batch
    assert "the grace period is over" in fleet.log()

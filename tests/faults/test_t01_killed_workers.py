"""Workers that are killed: what is repeated is bounded, and what they held is taken over in time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.services.checker import check_job, check_second_run, fill
from tests.services.fleet import wait_for
from tests.services.watch import leases_of, seconds_until_taken_over, size_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

LEASE_SECONDS = 2


@pytest.mark.slow
def test_workers_killed_at_random_cost_little_and_what_they_held_is_taken_over_in_time(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Recognised again: 5 % at most. Each dead lease is taken over within a lease and 2 seconds."""
    count, kills, chance = amount(1_600, 40_000), amount(3, 20), random.Random(1)
    source, counted = tmp_path / "photos", tmp_path / "counted"
    files = fill(source, count)
    fleet.environment |= {
        "NULL_MODEL_COUNT": str(counted),
        "NULL_MODEL_SECONDS": "0.06",
        "RAMQ_BATCH_SIZE": "8",
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    job = services.jobs.create(str(source))
    fleet.start(3)
    taken_over = []
    for number in range(kills):
        at = count * (number + 1) // (kills + 2)
        wait_for(services, job.id, fleet, lambda view, at=at: view.done > at and len(fleet.processes) == 3)
        victim = chance.choice([process for process in fleet.processes if leases_of(services, process)])
        fleet.kill(victim)
        held = leases_of(services, victim)
        fleet.start(1)
        taken_over.append(seconds_until_taken_over(services, held, amount(3, 1) * (LEASE_SECONDS + 2)))
    first = wait_for(services, job.id, fleet, lambda view: view.is_over)

    check_job(services, job.id, files)
    recognised = size_of(counted)
    assert count <= recognised <= 1.05 * count, f"{recognised} of {count}"
    check_second_run(services, fleet, str(source), first)
    assert size_of(counted) == recognised

"""Messages that come ten times, in any order, and long after their job: a doubled wake-up is one wake-up."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from ramq.broker import broker_client
from tests.services.checker import check_job, fill
from tests.services.fleet import wait_for
from tests.services.watch import size_of
from workers.app import KEY_PREFIX, WakeUps, make_app
from workers.messages import queue_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

COPIES = 10


@pytest.mark.slow
def test_a_storm_of_doubled_and_stale_messages_makes_no_work(
    services: Services, fleet: Fleet, broker_url: str, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Images recognised: 1.01 times those there are, at most."""
    count, chance, counted = amount(400, 40_000), random.Random(5), tmp_path / "counted"
    fleet.environment |= {
        "NULL_MODEL_COUNT": str(counted),
        "NULL_MODEL_SECONDS": "0.05",
        "FAULT_SLICE_SECONDS": "0.5",
    }
    files = fill(tmp_path / "photos", count)
    broker, queue = broker_client(broker_url), f"{KEY_PREFIX}{queue_of('lite')}"
    WakeUps(make_app(broker_url, ("lite",)), broker).send("lite", 20)
    stale: list[bytes] = broker.lrange(queue, 0, -1)  # type: ignore[assignment]  # typed for both kinds of client
    assert len(stale) == 20
    fleet.start(2)
    job = services.jobs.create(str(tmp_path / "photos"))
    for number in range(4):
        wait_for(services, job.id, fleet, lambda view, number=number: view.done >= count * number // 5)
        waiting: list[bytes] = broker.lrange(queue, 0, -1)  # type: ignore[assignment]
        storm = [*waiting[-20:], *stale] * COPIES
        chance.shuffle(storm)
        broker.lpush(queue, *storm)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    broker.lpush(queue, *stale * COPIES)
    check_job(services, job.id, files)
    assert count <= size_of(counted) <= 1.01 * count

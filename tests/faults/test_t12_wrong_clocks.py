"""Workers whose clocks are wrong: only the database's time counts."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

import pytest

from tests.services.checker import check_job, fill
from tests.services.fault_hooks import set_clock_wrong
from tests.services.fleet import wait_for
from tests.services.watch import leases_of, scalar, seconds_until_taken_over, size_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

LEASE_SECONDS = 2
SKEW_SECONDS = 600


@pytest.mark.slow
def test_clocks_that_are_wrong_by_minutes_steal_no_lease_and_leave_none_behind(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """No image is recognised twice while everybody lives; a dead lease is taken over within a lease and 5 seconds.

    Every worker does a part, so that each hears wake-ups that a clock which differs by minutes has sent.
    """
    count, counted = amount(700, 40_000), tmp_path / "counted"
    files = fill(tmp_path / "photos", count)
    fleet.environment |= {
        "NULL_MODEL_COUNT": str(counted),
        "NULL_MODEL_SECONDS": "0.1",
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
        "FAULT_SLICE_SECONDS": "0.5",
    }
    skews = (SKEW_SECONDS, -SKEW_SECONDS, 0)
    processes = [fleet.start(1, FAULT_SKEW_SECONDS=str(skew))[0] for skew in skews]
    wait_for_workers = 3
    job = services.jobs.create(str(tmp_path / "photos"))
    services.jobs.pause(job.id)
    while len([one for one in services.jobs.workers() if one.is_alive]) < wait_for_workers:
        assert [process.poll() for process in processes] == [None] * 3, fleet.log()[-3000:]
    services.jobs.resume(job.id)
    wait_for(services, job.id, fleet, lambda view: view.done > count // 2)
    assert size_of(counted) <= services.jobs.get(job.id).done + 3 * 2 * 64  # at most what is in their hands
    owners = "SELECT count(DISTINCT substring(owner FROM '-([0-9]+)-[^-]*$')) FROM shard WHERE owner IS NOT NULL"
    assert scalar(services, owners) == len(skews)
    early = wait_for(services, job.id, fleet, lambda view: view.done > 3 * count // 5)
    assert early.failed == 0
    fleet.kill(processes[0])
    held = leases_of(services, processes[0])
    seconds_until_taken_over(services, held, amount(3, 1) * (LEASE_SECONDS + 5))
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)
    assert size_of(counted) <= count + 2 * 64  # what the killed one had in its hands


def test_the_wrong_clock_of_these_tests_reaches_what_was_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    import time as real  # noqa: PLC0415

    module = type(sys)("imported_before")
    module.datetime, module.time = dt.datetime, real.time  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "modules", {"imported_before": module})
    set_clock_wrong(SKEW_SECONDS)
    assert module.time() - real.time() == pytest.approx(SKEW_SECONDS, abs=5)  # type: ignore[attr-defined]
    skew = module.datetime.now(dt.UTC) - dt.datetime.now(dt.UTC)  # type: ignore[attr-defined]
    assert skew.total_seconds() == pytest.approx(SKEW_SECONDS, abs=5)
    assert isinstance(dt.datetime.now(dt.UTC), module.datetime)  # type: ignore[attr-defined]

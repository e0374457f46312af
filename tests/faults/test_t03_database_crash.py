"""PostgreSQL crashes and stays away: workers wait for it, and what was acknowledged is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.checker import check_job, fill
from tests.services.fleet import client_services, running_fleet, wait_for
from tests.services.watch import acknowledged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.breakable import BreakableServices

LEASE_SECONDS = 2


@pytest.mark.slow
def test_a_database_that_crashes_and_stays_away_loses_no_acknowledged_commit_and_no_worker(
    breakable: BreakableServices, breakable_settings: Settings, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """No worker ends; the images whose commit a worker was told of are in the table after every crash."""
    count, crashes = amount(600, 40_000), amount(3, 4)
    files = fill(tmp_path / "photos", count)
    told = tmp_path / "acknowledged"
    environment = {
        "NULL_MODEL_SECONDS": "0.1",
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
        "FAULT_ACKNOWLEDGED": str(told),
    }
    with (
        client_services(breakable_settings) as services,
        running_fleet(breakable_settings, tmp_path, **environment) as fleet,
    ):
        fleet.start(2)
        job = services.jobs.create(str(tmp_path / "photos"))
        for number in range(crashes):
            at = count * number // (crashes + 1)
            wait_for(services, job.id, fleet, lambda view, at=at: view.done > at)
            is_last = number == crashes - 1
            breakable.crash_postgres(seconds_away=amount(2 * LEASE_SECONDS, 20) if is_last else 0.0)
            known = acknowledged(told)
            with unit_of_work(services.engine) as session:
                recorded = set(session.scalars(text("SELECT image_id FROM record")))
            assert known
            assert set(known) <= recorded
        wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
        assert [process.poll() for process in fleet.processes] == [None, None]

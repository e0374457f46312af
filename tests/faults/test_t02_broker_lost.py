"""A broker that forgets, dies and comes back empty: it carries wake-ups only, and they are sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.broker import broker_client
from tests.services.checker import check_job, check_second_run, fill
from tests.services.fleet import client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.breakable import BreakableServices

RECOVERY_SECONDS = 30.0


@pytest.mark.slow
def test_work_goes_on_by_itself_however_often_the_broker_forgets_everything(
    breakable: BreakableServices, breakable_settings: Settings, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Emptied and restarted empty, in turns: each time more is done within half a minute, with no action of anybody.

    Turns are short, so that workers wait for wake-ups all the time.
    """
    count, faults = amount(600, 40_000), amount(4, 8)
    files = fill(tmp_path / "photos", count)
    environment = {"NULL_MODEL_SECONDS": "0.1", "FAULT_SLICE_SECONDS": "0.5"}
    with (
        client_services(breakable_settings) as services,
        running_fleet(breakable_settings, tmp_path, **environment) as fleet,
    ):
        fleet.start(2)
        job = services.jobs.create(str(tmp_path / "photos"))
        for number in range(faults):
            at = count * number // (faults + 1)
            before = wait_for(services, job.id, fleet, lambda view, at=at: view.done > at)
            if number % 2:
                breakable.empty_redis(seconds_away=1.0)
            else:
                broker_client(breakable.broker_url).flushall()
            more = before.done + count // (faults + 2)
            wait_for(
                services,
                job.id,
                fleet,
                lambda view, more=more: view.done > more or view.is_over,
                timeout=RECOVERY_SECONDS,
            )
        first = wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
        breakable.empty_redis()  # while nobody has anything to do
        check_second_run(services, fleet, str(tmp_path / "photos"), first)
        assert [process.poll() for process in fleet.processes] == [None, None]

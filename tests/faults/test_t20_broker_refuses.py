"""A broker that answers, but takes no writes: full, read-only, or short of replicas. It carries wake-ups only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.broker import broker_client
from ramq.doctor import examine
from tests.services.checker import check_job, check_second_run, fill
from tests.services.fleet import client_services, running_fleet, wait_for
from tests.services.watch import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.breakable import BreakableServices

_AWAY = "127.0.0.1 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("CONFIG SET maxmemory {}", "maxmemory"),
        ("REPLICAOF {}", "read only replica"),
        ("CONFIG SET min-replicas-to-write {}", "good replicas"),
    ],
    ids=["full", "read-only", "no replicas"],
)
def test_work_goes_on_without_wake_ups_and_everybody_says_why_there_are_none(
    breakable: BreakableServices,
    breakable_settings: Settings,
    tmp_path: Path,
    amount: Callable[[int, int], int],
    setting: str,
    says: str,
) -> None:
    """Turns are short, so that workers need a wake-up for each, or look for work by themselves. None of them ends."""
    files = fill(tmp_path / "photos", amount(240, 4_000))
    environment = {"NULL_MODEL_SECONDS": "0.2", "FAULT_SLICE_SECONDS": "0.5", "FAULT_SILENCE_SECONDS": "1"}
    broker = broker_client(breakable.broker_url)
    with (
        client_services(breakable_settings) as services,
        running_fleet(breakable_settings, tmp_path, **environment) as fleet,
    ):
        fleet.start(2)
        job = services.jobs.create(str(tmp_path / "photos"))
        wait_for(services, job.id, fleet, lambda view: view.done > 0)
        try:
            broker.execute_command(*setting.format(_AWAY if "REPLICAOF" in setting else 1).split())
            assert says in services.ready()["broker"]
            [found] = [finding for finding in examine(breakable_settings) if finding.name == "broker"]
            assert found.state == "fault"
            assert says in found.detail
            first = wait_for(services, job.id, fleet, lambda view: view.is_over)
            until(lambda: "the broker answered with an error" in fleet.log(), fleet)
        finally:
            broker.execute_command(*setting.format("NO ONE" if "REPLICAOF" in setting else 0).split())
        check_job(services, job.id, files)
        check_second_run(services, fleet, str(tmp_path / "photos"), first)
        assert services.ready()["broker"] == "ok"
        assert [process.poll() for process in fleet.processes] == [None, None]

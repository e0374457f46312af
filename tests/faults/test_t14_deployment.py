"""A new model is deployed in the middle of a job: no job's results are made by two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.checker import check_index, fill
from tests.services.fleet import check_counters, wait_for
from tests.services.watch import scalar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

NEW_WEIGHTS = "1" * 64


@pytest.mark.slow
def test_workers_of_another_model_leave_a_job_alone_and_jobs_are_not_mixed(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Half the workers have new weights: job one is all the old model's, job two all the new one's; no attempt is lost.

    The refusal says on the job what it waits for when nobody is left who could do it.
    """
    count = amount(500, 40_000)
    fill(tmp_path / "photos", count)
    fleet.environment |= {"NULL_MODEL_SECONDS": "0.1"}
    first = services.jobs.create(str(tmp_path / "photos"))
    [old] = fleet.start(1, NULL_MODEL_SECONDS="1.5")
    wait_for(services, first.id, fleet, lambda view: view.done > 0)
    fleet.start(1, NULL_MODEL_WEIGHTS=NEW_WEIGHTS)
    wait_for(services, first.id, fleet, lambda _: "refused" in fleet.log())
    fleet.kill(old)
    stuck = wait_for(services, first.id, fleet, lambda view: view.note is not None)
    assert stuck.note is not None
    assert "waiting for workers with the lite of generation" in stuck.note
    second = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, second.id, fleet, lambda view: view.is_over)
    assert services.jobs.get(first.id).pending > 0
    assert scalar(services, "SELECT max(attempts) FROM shard WHERE state = 'ready'") == 0
    fleet.start(1)
    wait_for(services, first.id, fleet, lambda view: view.is_over)

    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                """SELECT job_id, weights_sha256, count(*) AS n FROM record
                   JOIN generation ON generation.id = generation_id GROUP BY 1, 2 ORDER BY 1"""
            )
        ).all()
    assert [tuple(row) for row in rows] == [(first.id, "0" * 64, count), (second.id, NEW_WEIGHTS, count)]
    for job in (first, second):
        assert (services.jobs.get(job.id).done, services.jobs.get(job.id).failed) == (count, 0)
    check_counters(services, first.id)
    check_index(services)

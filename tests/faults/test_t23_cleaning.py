"""A data set is cleaned while workers are killed: its labels are those of a calm run."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.datasets import tasks, versions
from tests.engine_archive import NAME, stored_labels, view, write_version
from tests.services.checker import fill
from tests.services.fleet import TIMEOUT_SECONDS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from storage.datasets.versions import VersionView
    from tests.services.fleet import Fleet


def follow(
    services: Services, step: VersionView, fleet: Fleet, until: Callable[[VersionView], bool] | None = None
) -> VersionView:
    """Return a version once its step is far enough, by default at its end."""
    began = time.monotonic()
    while True:
        seen = view(services, step)
        if seen.state != "running" or (until is not None and until(seen)):
            return seen
        assert time.monotonic() - began < TIMEOUT_SECONDS, f"{seen}\n{fleet.log()[-4000:]}"
        time.sleep(0.02)


def expire(services: Services) -> None:
    """Let the leases of workers that are no more run out."""
    with unit_of_work(services.engine) as session:
        session.execute(
            text("UPDATE dataset_task SET lease_until = now() - interval '1 second' WHERE state = 'leased'")
        )


def kill_one_at_work(services: Services, fleet: Fleet, chance: random.Random) -> None:
    """End a worker that is cleaning a tag."""
    with unit_of_work(services.engine) as session:
        owners = session.scalars(text("SELECT owner FROM dataset_task WHERE state = 'leased' ORDER BY number")).all()
    at_work = [each for each in fleet.processes if any(f"-{each.pid}-" in owner for owner in owners)]
    fleet.kill(chance.choice(at_work or fleet.processes))


@pytest.mark.slow
def test_labels_are_those_of_a_calm_run_whoever_dies(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Workers are killed at random while they clean tags, one after the other."""
    count, kills, chance = amount(60, 2_000), amount(3, 20), random.Random(23)
    fill(tmp_path / "photos", count)
    fleet.environment |= {"FAULT_CLEAN_SECONDS": "0.2"}
    fleet.start(2)
    recognised = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, recognised.id, fleet, lambda job: job.is_over)
    write_version(services, [])
    labelled = follow(services, services.dataset_steps.generate(NAME), fleet)
    assert labelled.state == "done"
    asked = {"regions": "located", "outlier_share": 0.3, "min_regions": 3}
    step = services.dataset_steps.clean(NAME, **asked)  # type: ignore[arg-type]
    for number in range(kills):

        def far(seen: VersionView, number: int = number) -> bool:
            return seen.phase == "cluster" and seen.tasks_done > seen.tasks * (number + 1) // (kills + 2)

        assert follow(services, step, fleet, far).state == "running"
        kill_one_at_work(services, fleet, chance)
        fleet.start(1)
        expire(services)
    disturbed = follow(services, step, fleet)
    assert (disturbed.state, disturbed.note) == ("done", None)
    calm = follow(services, services.dataset_steps.clean(f"{NAME}@{labelled.number}", **asked), fleet)  # type: ignore[arg-type]
    assert calm.sha256 == disturbed.sha256
    assert stored_labels(services, calm).keys() == stored_labels(services, labelled).keys()
    assert disturbed.counts["cleaned"] == calm.counts["cleaned"]
    assert disturbed.counts["cleaned"]["dropped"].keys() >= {"contradicted", "outlier"}
    with unit_of_work(services.engine) as session:
        results = tasks.results(session, step.id, "cluster")
        owners = session.scalars(
            text("SELECT count(*) FROM dataset_task WHERE version_id = :id AND epoch > 1"), {"id": step.id}
        ).one()
        assert versions.view(session, step.id).counts["cleaned"]["labels"] == sum(each["labels"] for each in results)
    assert owners > 0, "a worker was killed in the middle of a tag"

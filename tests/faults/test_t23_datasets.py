"""Workers are killed while they build a data set: the version is the same as without."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.dataset_views import BuildRequest
from storage.database import unit_of_work
from tests.datasets import MadeUp, work
from tests.services.fleet import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.wiring import Services
    from storage.datasets.versions import VersionView
    from tests.services.fleet import Fleet

KILLS = 4


def wait_until(services: Services, version: VersionView, is_so: Callable[[VersionView], bool]) -> VersionView:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not is_so(seen := services.datasets.get(version.id)):
        assert time.monotonic() < end, f"{seen.state} {seen.phase} {seen.tasks_done} {seen.note}"
        time.sleep(0.05)
    return seen


@pytest.mark.slow
def test_a_build_survives_the_death_of_its_workers(services: Services, fleet: Fleet) -> None:
    made_up = MadeUp(services.engine, ["dog", "cat", "lawn", "tree"])
    count = 12_000
    captions = ["a dog on a lawn beside a tree" if n % 3 else None for n in range(count)]
    made_up.add([f"{n:05}.jpg" for n in range(count)], [[n % 4] for n in range(count)], captions=captions)
    request = BuildRequest(sources=("file:///made-up",))
    whole = work(services, services.datasets.build("whole", request))
    broken = services.datasets.build("broken", request)
    for number in range(KILLS):
        [victim] = fleet.start(1)
        done = number + 1

        def is_under_way(view: VersionView, done: int = done) -> bool:
            return view.state == "done" or view.phase != "label" or view.tasks_done >= done

        wait_until(services, broken, is_under_way)
        fleet.kill(victim)
        with unit_of_work(services.engine) as session:  # let the minute pass that the dead one's lease lasts
            session.execute(text("UPDATE dataset_task SET lease_until = now() WHERE state = 'leased'"))
    fleet.start(2)
    ended = wait_until(services, broken, lambda view: view.state in {"done", "failed"})
    assert (ended.state, ended.sha256, ended.counts) == ("done", whole.sha256, whole.counts), fleet.log()
    with unit_of_work(services.engine) as session:
        tasks = session.execute(
            text(
                """SELECT count(*), sum((result ->> 'images')::int) FROM dataset_task
                   WHERE version_id = :id AND phase = 'label'"""
            ),
            {"id": broken.id},
        ).one()
    assert tuple(tasks) == (12, count), "each image was labelled once"

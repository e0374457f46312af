"""Two stages over the same images while workers die: both are complete, and a picture kills in its own stage only."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.crop_archive import BOXES, check_crops, image_ids, locate, start, stored
from tests.services.checker import check_index, check_report, check_results, fill, seen
from tests.services.fleet import wait_for
from tests.services.null_reader import read
from tests.services.null_worker import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet


def check_readings(services: Services, files: Mapping[str, bytes], failed: Collection[str] = ()) -> None:
    """Every reading holds what its picture's bytes say; no key has two."""
    with unit_of_work(services.engine) as session:
        rows = session.execute(text("SELECT key, lines FROM image JOIN reading ON image_id = image.id")).all()
    assert sorted(row.key for row in rows) == sorted(set(files) - set(failed))
    for row in rows:
        assert row.lines == [line.text for line in read(seen(files[row.key])).lines], row.key


@pytest.mark.slow
def test_both_stages_are_complete_whoever_dies(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Workers of both stages and of one, killed at random while they hold shards of either."""
    count, kills, chance = amount(600, 10_000), amount(4, 30), random.Random(21)
    source = tmp_path / "photos"
    files = fill(source, count)
    fleet.environment |= {"NULL_MODEL_SECONDS": "0.05", "RAMQ_BATCH_SIZE": "8", "RAMQ_LEASE_SECONDS": "2"}
    kinds = ({}, {}, {"RAMQ_STAGES": "text"}, {"RAMQ_STAGES": "recognition"})
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    for kind in kinds:
        fleet.start(1, **kind)
    for number in range(kills):
        least = count * (number + 1) // (kills + 2)
        wait_for(services, other.id, fleet, lambda view, least=least: view.done > least or view.is_over)
        fleet.kill(chance.choice(fleet.processes))
        fleet.start(1, **chance.choice(kinds))
    fleet.start(1)
    for each in (job, other):
        view = wait_for(services, each.id, fleet, lambda view: view.is_over)
        assert (view.state, view.listed, view.done) == ("done", count, count)
        check_report(services, each.id, dict.fromkeys(files, ("done", None)))
    check_results(services, files)
    check_readings(services, files)
    check_index(services)


@pytest.mark.slow
def test_a_picture_that_kills_readers_is_found_and_is_recognised_all_the_same(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    files = fill(source, 40)
    fatal = "00011.png"
    fleet.environment |= {"NULL_READER_POISON": digest(seen(files[fatal])), "RAMQ_LEASE_SECONDS": "1"}
    job = services.jobs.create(str(source), stages=["text"])
    [other] = services.jobs.followers(job.id)
    fleet.start(2)

    def replaced(view: object) -> bool:
        for process in [each for each in fleet.processes if each.poll() is not None]:
            fleet.processes.remove(process)
            fleet.start(1)
        return view.is_over  # type: ignore[attr-defined, no-any-return]  # a view of a job

    first, second = (wait_for(services, each.id, fleet, replaced) for each in (job, other))
    assert (first.done, first.failed) == (len(files), 0)
    assert (second.done, second.failures_by_class) == (len(files) - 1, {"worker_crash": 1})
    check_results(services, files)
    check_readings(services, files, {fatal})


@pytest.mark.slow
def test_every_region_has_its_vector_once_whoever_dies(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    count, kills, chance = amount(200, 4_000), amount(3, 30), random.Random(22)
    source = tmp_path / "photos"
    files = fill(source, count)
    fleet.environment |= {"RAMQ_LEASE_SECONDS": "2", "RAMQ_SHARD_SIZE": "16"}
    fleet.start(2)
    wait_for(services, services.jobs.create(str(source)).id, fleet, lambda view: view.is_over)
    for number, image_id in enumerate(image_ids(services)):
        locate(services, image_id, *list(BOXES)[: number % 4])
    for process in list(fleet.processes):
        fleet.kill(process)
    fleet.environment["NULL_MODEL_SECONDS"] = "0.05"
    job = start(services)
    fleet.start(3)
    for number in range(kills):
        least = count * (number + 1) // (kills + 2)
        wait_for(services, job.id, fleet, lambda view, least=least: view.done > least or view.is_over)
        fleet.kill(chance.choice(fleet.processes))
        fleet.start(1)
    view = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert (view.state, view.listed, view.done, view.failed) == ("done", count, count, 0)
    check_report(services, job.id, dict.fromkeys(files, ("done", None)))
    assert len(stored(services)) == sum(number % 4 for number in range(count))
    check_crops(services)
    check_index(services)
    again = wait_for(services, start(services).id, fleet, lambda view: view.is_over)
    assert (again.done, again.skipped) == (0, count)

"""Tags are located while workers die: every image has what its picture and its tags say, and no region twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.results import region_search, regions
from storage.results.region_lists import EVERY
from storage.search.views import SearchQuery
from tests.services.checker import check_report, check_results, fill, prepared, seen
from tests.services.fleet import wait_for
from tests.services.null_locator import find
from tests.services.null_worker import digest, expected

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet


def check_regions(services: Services, files: Mapping[str, bytes], failed: Collection[str] = ()) -> None:
    """Every image has one result, which is what its bytes say, and search counts the same."""
    with unit_of_work(services.engine) as session:
        rows = session.execute(text("SELECT image_id, key FROM image JOIN localization ON image_id = image.id")).all()
        views = regions.views(session, [row.image_id for row in rows])
        lists = region_search.find(session, None, list(region_search.sizes(session))).whole
    assert sorted(row.key for row in rows) == sorted(set(files) - set(failed))
    assert views.keys() == {row.image_id for row in rows}
    shown = []
    for row in sorted(rows, key=lambda row: row.image_id):
        tags = [f"tag {number}" for number in expected(prepared(files[row.key])).tag_ids]
        wanted = find(seen(files[row.key]), tags).regions
        found = sorted(views[row.image_id].regions, key=lambda region: region.tag)
        assert [region.tag for region in found] == [region.tag for region in wanted], row.key
        for one, other in zip(found, wanted, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-4), row.key
        shown += [(row.image_id, region.tag, 1) for region in wanted]
    counted = [
        (image_id, name, count)
        for name, each in lists.items()
        for image_id, count in zip(each.ids.tolist(), each.regions.tolist(), strict=True)
        if name != EVERY
    ]
    assert sorted(counted) == sorted(shown)


@pytest.mark.slow
def test_every_image_is_located_whoever_dies(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Workers are killed at random while they hold shards."""
    count, kills, chance = amount(400, 10_000), amount(4, 30), random.Random(22)
    files = fill(tmp_path / "photos", count)
    fleet.environment |= {"NULL_LOCATOR_SECONDS": "0.005", "RAMQ_LEASE_SECONDS": "2", "RAMQ_SHARD_SIZE": "16"}
    fleet.start(2)
    recognised = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, recognised.id, fleet, lambda view: view.is_over)
    [job] = services.stages.start("locate", SearchQuery())
    for number in range(kills):
        least = count * (number + 1) // (kills + 2)
        wait_for(services, job.id, fleet, lambda view, least=least: view.done > least or view.is_over)
        fleet.kill(chance.choice(fleet.processes))
        fleet.start(1)
    view = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert (view.state, view.listed, view.done) == ("done", count, count)
    check_report(services, job.id, dict.fromkeys(files, ("done", None)))
    check_results(services, files)
    check_regions(services, files)


@pytest.mark.slow
def test_a_picture_that_kills_locators_is_found(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    files = fill(tmp_path / "photos", 40)
    fatal = "00011.png"
    fleet.environment |= {"NULL_LOCATOR_POISON": digest(seen(files[fatal])), "RAMQ_LEASE_SECONDS": "1"}
    fleet.start(2)
    recognised = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, recognised.id, fleet, lambda view: view.is_over)
    [job] = services.stages.start("locate", SearchQuery())

    def replaced(view: object) -> bool:
        for process in [each for each in fleet.processes if each.poll() is not None]:
            fleet.processes.remove(process)
            fleet.start(1)
        return view.is_over  # type: ignore[attr-defined, no-any-return]  # a view of a job

    view = wait_for(services, job.id, fleet, replaced)
    assert (view.done, view.failures_by_class) == (len(files) - 1, {"worker_crash": 1})
    check_results(services, files)
    check_regions(services, files, {fatal})

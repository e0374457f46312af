"""Workers that are killed while they register and recognise pages of files: no page is lost, and none counts twice."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from sqlalchemy import text

from storage.database import unit_of_work
from tests.faults.test_t21_stages import check_readings
from tests.services.checker import check_index, check_job, check_report, picture
from tests.services.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet


def fill(folder: Path, files: int, chance: random.Random) -> dict[str, bytes]:
    """Make a folder of files of 1 to 40 pages. Return what each page shows, by its key."""
    folder.mkdir()
    shown, seed = {}, 0
    for number in range(files):
        name, pages = f"{number:04}.tif", []
        for page in range(1, chance.choice((1, 1, 2, 3, 5, 8, 40)) + 1):
            seed += 1
            body = picture(seed)
            pages.append(Image.open(io.BytesIO(body)))
            shown[name if page == 1 else f"{name}/page-{page:05}"] = body
        pages[0].save(folder / name, "TIFF", save_all=True, append_images=pages[1:])
    return shown


@pytest.mark.slow
def test_every_page_is_recognised_and_read_once_whoever_dies(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    kills, chance = amount(4, 40), random.Random(25)
    shown = fill(tmp_path / "scans", amount(60, 1_500), chance)
    fleet.environment |= {
        "NULL_MODEL_SECONDS": "0.05",
        "RAMQ_BATCH_SIZE": "8",
        "RAMQ_SHARD_SIZE": "32",
        "RAMQ_LEASE_SECONDS": "2",
    }
    kinds = ({}, {"RAMQ_STAGES": "text"}, {"RAMQ_STAGES": "recognition"})
    job = services.jobs.create(str(tmp_path / "scans"), pages=True, stages=["text"])
    [reading] = services.jobs.followers(job.id)
    for kind in kinds:
        fleet.start(1, **kind)
    for number in range(kills):
        least = len(shown) * (number + 1) // (kills + 2)
        wait_for(services, job.id, fleet, lambda view, least=least: view.done > least or view.is_over)
        fleet.kill(chance.choice(fleet.processes))
        fleet.start(1, **chance.choice(kinds))
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    other = wait_for(services, reading.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, shown)
    assert (other.state, other.listed, other.done) == ("done", len(shown), len(shown))
    check_report(services, reading.id, dict.fromkeys(shown, ("done", None)))
    check_readings(services, shown)
    check_index(services)
    with unit_of_work(services.engine) as session:
        assert not session.scalar(text("SELECT count(*) FROM image WHERE missing_since IS NOT NULL"))
    again = services.jobs.create(str(tmp_path / "scans"), pages=True)
    view = wait_for(services, again.id, fleet, lambda view: view.is_over)
    assert (view.listed, view.done, view.skipped) == (len(shown), 0, len(shown))

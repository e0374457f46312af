"""A job that is paused or cancelled while it is being listed, and a report that still accounts for every key."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.services.checker import check_job, fill
from tests.services.fleet import check_counters, wait_for
from tests.services.watch import size_of

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

PAGE = 1_000
COUNT = 3 * PAGE
MOST_SECONDS = 2.0
"""After which a pause or a cancel must have reached every worker."""


def outcomes(services: Services, job_id: int) -> Counter[str]:
    return Counter(json.loads(line)["outcome"] for line in services.jobs.report_lines(job_id))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pause", "cancel"])
def test_a_job_that_is_stopped_while_it_is_listed_starts_nothing_more_and_accounts_for_every_key(
    services: Services, fleet: Fleet, tmp_path: Path, ending: str
) -> None:
    """Two seconds later no image is begun and no page is listed; done and pending are all that was listed.

    A paused job goes on from there, and loses or doubles nothing.
    """
    files, counted = fill(tmp_path / "photos", COUNT), tmp_path / "counted"
    fleet.environment |= {
        "NULL_MODEL_COUNT": str(counted),
        "NULL_MODEL_SECONDS": "0.1",
        "FAULT_PAGE_SECONDS": "2",
        "RAMQ_BATCH_SIZE": "64",
    }
    job = services.jobs.create(str(tmp_path / "photos"))
    fleet.start(2)
    wait_for(services, job.id, fleet, lambda view: PAGE <= view.listed < COUNT and view.done > 0)
    (services.jobs.pause if ending == "pause" else services.jobs.cancel)(job.id)
    time.sleep(MOST_SECONDS)
    view, begun = services.jobs.get(job.id), size_of(counted)
    time.sleep(MOST_SECONDS)
    later = services.jobs.get(job.id)
    assert (later.listed, later.done, size_of(counted)) == (view.listed, view.done, begun)
    assert later.listed < COUNT
    assert outcomes(services, job.id) == {"done": later.done, "pending": later.listed - later.done}
    check_counters(services, job.id)
    if ending == "pause":
        services.jobs.resume(job.id)
        wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
        assert size_of(counted) <= COUNT + 2 * 2 * 64  # of each worker, a batch in hand and one behind it

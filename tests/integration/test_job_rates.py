"""How fast a job goes and how long it takes, when some of its images took over the results of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.ledger import rates, workers

if TYPE_CHECKING:
    from storage.ledger.views import JobView
    from tests.ledger import Ledger
    from tests.same_picture import Photos

pytestmark = pytest.mark.services


def beat(ledger: Ledger, job_id: int, name: str, rate: float) -> None:
    with unit_of_work(ledger.engine) as session:
        workers.beat(
            session,
            name,
            host="here",
            pid=1,
            device="cpu",
            model="lite",
            job_id=job_id,
            images_per_second=rate,
            stages={},
        )


def half_done(ledger: Ledger, *, copied: int) -> JobView:
    """A job on which two workers work, in a stretch of images with the same bytes as others."""
    job_id = ledger.make_job()
    ledger.execute(
        """UPDATE job SET listed = 1000, done = 590, failed = 10, copied = :copied, active_seconds = 40,
               worked_seconds = 60, stage_seconds = '{"fetch": 6, "decode": 20, "infer": 30, "write": 4}'
           WHERE id = :id""",
        copied=copied,
        id=job_id,
    )
    for name in ("first", "second"):
        beat(ledger, job_id, name, 1000.0)
    return ledger.view(job_id)


def test_a_stretch_of_copies_does_not_promise_that_all_the_rest_are_copies(ledger: Ledger) -> None:
    view = half_done(ledger, copied=300)
    assert (view.pending, view.images_per_second) == (400, 2000.0)
    assert view.eta_seconds == pytest.approx(400 / (2 * 600 / 60))


def test_without_copies_the_time_left_follows_the_rate_of_the_moment(ledger: Ledger) -> None:
    assert half_done(ledger, copied=0).eta_seconds == pytest.approx(400 / 2000)


def test_copies_do_not_make_the_steps_faster_that_they_do_not_pass(ledger: Ledger) -> None:
    view = half_done(ledger, copied=300)
    assert {each.stage: each.images_per_second for each in view.stages} == {
        "fetch": 100,
        "decode": 15,
        "infer": 10,
        "write": 150,
    }
    assert view.bottleneck == "infer"
    everything = half_done(ledger, copied=600)
    assert [each.images_per_second for each in everything.stages] == [100, None, None, 150]


def test_the_rate_of_earlier_jobs_is_that_of_recognised_images(ledger: Ledger) -> None:
    half_done(ledger, copied=300)
    half_done(ledger, copied=600)
    with unit_of_work(ledger.engine) as session:
        found = rates.measured(session, "recognition", ledger.generation_id, {})
    assert found == rates.Rate(300, 40.0, is_alike=True)


def test_a_worker_says_how_long_it_worked_on_a_job(photos: Photos) -> None:
    assert photos.scalar("SELECT worked_seconds FROM job") > 0

"""What the ledger knows of workers that leave work to others, and of how long a job was worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.ledger import claims, jobs, listings, shards, workers
from storage.ledger.shards import DONE
from storage.ledger.waiting import Able, Barred

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.ledger import Ledger

pytestmark = pytest.mark.services


def outcomes(*values: int) -> bytes:
    return bytes(values)


@pytest.mark.parametrize(
    ("barred", "is_taken"),
    [
        (Barred(models=["ram"]), True),
        (Barred(models=["lite"]), False),
        (Barred(models=["none"]), False),  # its captioner
        (Barred(archives=["s3://photos"]), False),
        (Barred(archives=["s3://others"]), True),
    ],
)
def test_work_that_a_worker_is_not_fit_for_is_left_to_others(ledger: Ledger, barred: Barred, is_taken: bool) -> None:
    job_id = ledger.make_job([1])
    with unit_of_work(ledger.engine) as session:
        assert (claims.claim(session, owner="w", lease_seconds=9, able=Able(barred=barred)) is not None) == is_taken
    ledger.execute("UPDATE job SET listed_all_at = NULL WHERE id = :id", id=job_id)
    with unit_of_work(ledger.engine) as session:
        listing = listings.claim(session, loaded=None, is_begun=True, lease_seconds=9, able=Able(barred=barred))
    assert (listing is not None) == (is_taken or list(barred.models) == ["none"])  # listing writes no captions


def test_the_time_that_a_job_was_worked_on_counts_once_however_many_did(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([1, 1, 1])
    for number, seconds in enumerate((10.0, 10.0, 4.0)):
        shard = ledger.must_claim()
        ledger.write(shard, outcomes(DONE))
        if number == 2:  # the third began after a pause
            ledger.execute("UPDATE job SET active_until = now() - interval '1 hour'")
        with unit_of_work(engine) as session:
            shards.close(session, shard.id, shard.epoch, {}, seconds)
    view = ledger.view(job_id)
    assert view.active_seconds == pytest.approx(14, abs=1)  # the first two at the same time
    assert view.images_per_second == pytest.approx(3 / view.active_seconds)


def test_nobody_says_when_a_paused_or_waiting_job_will_end(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([1, 1])
    shard = ledger.must_claim()
    ledger.write(shard, outcomes(DONE))
    with unit_of_work(engine) as session:
        shards.close(session, shard.id, shard.epoch, {}, 2.0)
        workers.beat(
            session, "w", host="h", pid=1, device="cpu", model="lite", job_id=job_id, images_per_second=0.5, stages={}
        )
    assert ledger.view(job_id).eta_seconds == pytest.approx(2)
    with unit_of_work(engine) as session:
        jobs.set_note(session, job_id, "waiting: the store is down")
    assert ledger.view(job_id).eta_seconds is None
    ledger.set_state(job_id, "paused")
    paused = ledger.view(job_id)
    assert (paused.eta_seconds, paused.images_per_second) == (None, 0.5)

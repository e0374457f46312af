"""What the ledger knows of workers that leave work to others, and of how long a job was worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.ledger import claims, jobs, listings, shards, workers
from storage.ledger.shards import DONE
from storage.ledger.waiting import Able, Barred
from storage.results import generations
from storage.results.generations import StageSpec
from workers.recorded import follow

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
        listing = listings.claim(session, loaded=(), is_begun=True, lease_seconds=9, able=Able(barred=barred))
    assert (listing is not None) == (is_taken or list(barred.models) == ["none"])  # listing writes no captions


def test_a_job_begins_at_once_if_its_model_is_one_of_those_that_are_loaded(ledger: Ledger) -> None:
    job_id = ledger.make_job([1])
    ledger.execute("UPDATE job SET listed_all_at = NULL, generation_id = NULL WHERE id = :id", id=job_id)
    for loaded, is_taken in (((), False), (("ram",), False), (("lite", "ram"), True)):
        with unit_of_work(ledger.engine) as session:
            listing = listings.claim(session, loaded=loaded, is_begun=True, lease_seconds=9)
        assert (listing is not None) == is_taken


def test_the_time_that_a_job_was_worked_on_counts_once_however_many_did(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([1, 1, 1])
    for number, seconds in enumerate((10.0, 10.0, 4.0)):
        shard = ledger.must_claim()
        ledger.write(shard, outcomes(DONE))
        if number == 2:  # the third began after a pause
            ledger.execute("UPDATE job SET active_until = now() - interval '1 hour'")
        with unit_of_work(engine) as session:
            shards.close(session, shard.id, shard.epoch, {}, active_seconds=seconds)
    view = ledger.view(job_id)
    assert view.active_seconds == pytest.approx(14, abs=1)  # the first two at the same time
    assert view.images_per_second == pytest.approx(3 / view.active_seconds)


def test_nobody_says_when_a_paused_or_waiting_job_will_end(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([1, 1])
    shard = ledger.must_claim()
    ledger.write(shard, outcomes(DONE))
    with unit_of_work(engine) as session:
        shards.close(session, shard.id, shard.epoch, {}, active_seconds=2.0)
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


def make_stages(ledger: Ledger, sizes: list[int]) -> tuple[int, int]:
    """A job of recognition, and one of the text of the same images that goes with it."""
    first = ledger.make_job(sizes)
    with unit_of_work(ledger.engine) as session:
        text_generation = generations.ensure_of_stage(session, StageSpec("text", "f", "reader", "w", "p"))
        second = jobs.create(
            session,
            archive=ledger.archive,
            source=ledger.archive.uri,
            prefix="",
            model="reader",
            captioner="none",
            priority="normal",
            stage="text",
            with_job_id=first,
        )
        jobs.set_generation(session, second, text_generation)
        follow(session, first, 256)
    return first, second


BOTH = Able(stages=("recognition", "text"))
ONLY_TEXT = Able(stages=("text",))


def claim_all(ledger: Ledger, able: Able) -> list[claims.ClaimedShard]:
    with unit_of_work(ledger.engine) as session:
        shard = claims.claim(session, owner="w", lease_seconds=9, able=able)
        if shard is None:
            return []
        return [shard, *claims.claim_together(session, shard, owner="w", lease_seconds=9, able=able)]


def test_a_worker_of_both_stages_takes_the_same_images_of_both_and_nobody_takes_them_twice(ledger: Ledger) -> None:
    first, second = make_stages(ledger, [3, 2])
    for size in (3, 2):
        leased = claim_all(ledger, BOTH)
        assert [shard.job_id for shard in leased] == [first, second]
        assert leased[0].image_ids == leased[1].image_ids
        assert len(leased[0].image_ids) == size
    assert claim_all(ledger, BOTH) == []


def test_a_shard_of_text_is_left_to_who_recognises_its_images_unless_nobody_here_can(ledger: Ledger) -> None:
    first, second = make_stages(ledger, [1, 1, 1])
    [alone] = claim_all(ledger, ONLY_TEXT)
    assert alone.job_id == second
    assert [shard.job_id for shard in claim_all(ledger, BOTH)] == [first]  # its text is held by the other worker
    assert [shard.job_id for shard in claim_all(ledger, BOTH)] == [first, second]
    barred = Able(stages=("recognition", "text"), barred=Barred(models=["lite"]))
    assert [shard.job_id for shard in claim_all(ledger, barred)] == [second]


def test_a_shard_whose_holders_die_goes_alone(ledger: Ledger) -> None:
    first, second = make_stages(ledger, [4])
    seen = []
    for number in range(4):
        seen.append([(shard.job_id, shard.attempts) for shard in claim_all(ledger, BOTH)])
        if number < 2:
            ledger.expire()
    assert seen == [[(first, 1), (second, 1)], [(first, 2), (second, 2)], [(first, 3)], [(second, 3)]]


def test_a_further_stage_waits_under_its_own_name_and_a_follower_does_not_wait_for_a_listing(ledger: Ledger) -> None:
    first, second = make_stages(ledger, [1, 1])
    with unit_of_work(ledger.engine) as session:
        assert shards.backlog(session) == {"lite": 2, "text": 2}
    ledger.execute("UPDATE job SET listed_all_at = NULL WHERE id IN (:a, :b)", a=first, b=second)
    with unit_of_work(ledger.engine) as session:
        assert shards.backlog(session) == {"lite": 3, "text": 2}


def test_jobs_of_different_stages_share_workers_fairly(ledger: Ledger) -> None:
    recognition = ledger.make_job([1] * 4)
    _, text = make_stages(ledger, [1] * 4)
    ledger.execute("UPDATE job SET state = 'paused' WHERE id NOT IN (:a, :b)", a=recognition, b=text)
    turns = [claim_all(ledger, BOTH)[0].job_id for _ in range(6)]
    assert turns == [recognition, text] * 3

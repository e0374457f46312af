"""The ledger on a real database: leases, fences, counters."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError
from storage.ledger import claims, failures, jobs, retries, shards
from storage.ledger.shards import DONE, FAILED, PENDING, SKIPPED, FencedError
from storage.results import erasures
from tests.ledger import LEASE_SECONDS, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.ledger.claims import ClaimedShard

pytestmark = pytest.mark.services


def outcomes(*values: int) -> bytes:
    return bytes(values)


# Leases ------------------------------------------------------------------------------------------------------------


def test_a_shard_is_claimed_once_and_carries_all_that_its_holder_needs(ledger: Ledger) -> None:
    job_id = ledger.make_job([3])
    shard = ledger.must_claim("me")
    assert (shard.job_id, shard.epoch, shard.attempts, shard.tries) == (job_id, 1, 1, 0)
    assert (shard.probe, shard.probe_deaths, shard.outcomes) == (None, 0, bytes(3))
    assert (shard.archive_uri, shard.model, shard.captioner) == ("s3://photos", "lite", "none")
    assert shard.generation_id == ledger.generation_id
    assert len(shard.image_ids) == 3
    assert ledger.claim() is None


def test_two_claimers_never_get_the_same_shard(ledger: Ledger) -> None:
    ledger.make_job([1] * 40)
    ledger.make_job([1] * 40)
    got: list[int] = []
    gate = threading.Barrier(8)

    def claim_all() -> None:
        gate.wait()
        misses = 0
        while misses < 3:  # a claimer may meet only shards that another is just taking
            shard = ledger.claim()
            if shard is None:
                misses += 1
            else:
                got.append(shard.id)

    threads = [threading.Thread(target=claim_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while (shard := ledger.claim()) is not None:
        got.append(shard.id)
    assert len(got) == len(set(got)) == 80


def test_a_lease_that_ran_out_is_taken_over_and_one_that_is_renewed_is_not(ledger: Ledger, engine: Engine) -> None:
    ledger.make_job([2])
    first = ledger.must_claim("first")
    ledger.expire()
    with unit_of_work(engine) as session:
        assert shards.renew(session, first.id, first.epoch, LEASE_SECONDS)
    assert ledger.claim("second") is None
    ledger.expire()
    second = ledger.must_claim("second")
    assert (second.id, second.epoch, second.attempts) == (first.id, first.epoch + 1, 2)
    with unit_of_work(engine) as session:
        assert not shards.renew(session, first.id, first.epoch, LEASE_SECONDS)


FENCED_CALLS: dict[str, Callable[[Ledger, ClaimedShard], object]] = {
    "write": lambda ledger, shard: ledger.write(shard, outcomes(DONE, FAILED)),
    "close": lambda ledger, shard: ledger.close(shard),
}


@pytest.mark.parametrize("call", FENCED_CALLS)
def test_an_old_holder_writes_neither_records_nor_failures_nor_outcomes(ledger: Ledger, call: str) -> None:
    job_id = ledger.make_job([2])
    old = ledger.must_claim()
    ledger.expire()
    new = ledger.must_claim()
    with pytest.raises(FencedError, match="taken over"):
        FENCED_CALLS[call](ledger, old)
    for table in ("record", "vector", "failure"):
        assert ledger.scalar(f"SELECT count(*) FROM {table}") == 0
    assert ledger.scalar("SELECT outcomes FROM shard") == bytes(2)
    assert ledger.view(job_id).pending == 2
    ledger.write(new, outcomes(DONE, FAILED))
    assert ledger.view(job_id).pending == 0


def test_an_old_holder_can_neither_note_a_suspect_nor_give_back_nor_speak_for_the_job(
    ledger: Ledger, engine: Engine
) -> None:
    job_id = ledger.make_job([2])
    old = ledger.must_claim()
    ledger.expire()
    ledger.must_claim("new")
    with pytest.raises(FencedError), unit_of_work(engine) as session:
        shards.set_probe(session, old.id, old.epoch, 0)
    ledger.give_back(old, is_transient=True, note="waiting: old news")
    assert ledger.view(job_id).note is None
    assert ledger.scalar("SELECT state FROM shard") == "leased"
    assert ledger.scalar("SELECT owner FROM shard") == "new"


def test_a_fence_holds_against_a_takeover_until_the_batch_is_committed(ledger: Ledger, engine: Engine) -> None:
    ledger.make_job([1])
    shard = ledger.must_claim()
    ledger.expire()
    with unit_of_work(engine) as session:
        shards.require_held(session, shard.id, shard.epoch)
        assert ledger.claim("greedy") is None
        shards.advance(session, shard.id, shard.epoch, outcomes(DONE), LEASE_SECONDS)
    assert ledger.claim("greedy") is None


def test_work_given_back_in_good_order_is_no_mark_against_it(ledger: Ledger) -> None:
    ledger.make_job([3])
    shard = ledger.must_claim()
    ledger.write(shard, outcomes(DONE, PENDING, PENDING))
    ledger.give_back(shard)
    again = ledger.must_claim()
    assert (again.attempts, again.tries, again.outcomes) == (1, 0, outcomes(DONE, PENDING, PENDING))


def test_trouble_is_counted_noted_and_waited_for(ledger: Ledger) -> None:
    job_id = ledger.make_job([1])
    ledger.give_back(ledger.must_claim(), is_transient=True, delay_seconds=100, note="waiting: the store is down")
    assert ledger.claim() is None
    assert ledger.view(job_id).note == "waiting: the store is down"
    ledger.execute("UPDATE shard SET next_try_at = now()")
    shard = ledger.must_claim()
    assert (shard.tries, shard.attempts) == (1, 1)
    ledger.write(shard, outcomes(DONE))
    ledger.close(shard)
    assert ledger.scalar("SELECT note FROM job") is None


def test_why_a_job_failed_is_said_whatever_its_last_shards_do(ledger: Ledger, engine: Engine) -> None:
    """The batches that were in flight when it failed are closed, or given back with news of their own, after it."""
    job_id = ledger.make_job([1, 1])
    closing, giving_back = ledger.must_claim(), ledger.must_claim()
    with unit_of_work(engine) as session:
        jobs.fail(session, job_id, "stopped: may not read")
    ledger.write(closing, outcomes(DONE))
    ledger.close(closing)
    ledger.give_back(giving_back, is_transient=True, note="waiting: the store is down")
    assert (ledger.view(job_id).state, ledger.view(job_id).note) == ("failed", "stopped: may not read")


def test_a_lease_that_is_given_back_unused_is_as_if_it_had_not_been_taken(ledger: Ledger, engine: Engine) -> None:
    """Deaths before it stay counted, and its holder's own suspect is not blamed."""
    ledger.make_job([3])
    for _ in range(2):
        shard = ledger.must_claim()
        with unit_of_work(engine) as session:
            shards.set_probe(session, shard.id, shard.epoch, 1)
        ledger.expire()
    shard = ledger.must_claim()
    assert (shard.attempts, shard.probe, shard.probe_deaths) == (3, 1, 2)
    with unit_of_work(engine) as session:
        shards.set_probe(session, shard.id, shard.epoch, 2)
    ledger.give_back(shard)
    shard = ledger.must_claim()
    assert (shard.attempts, shard.probe, shard.probe_deaths) == (3, 1, 2)


def test_deaths_are_counted_for_the_image_that_was_alone_and_for_no_other(ledger: Ledger, engine: Engine) -> None:
    ledger.make_job([3])
    for deaths in (0, 1, 2):
        shard = ledger.must_claim()
        assert shard.probe_deaths == deaths
        assert shard.attempts == deaths + 1
        with unit_of_work(engine) as session:
            shards.set_probe(session, shard.id, shard.epoch, 1)
        ledger.expire()
    shard = ledger.must_claim()
    assert (shard.probe, shard.probe_deaths) == (1, 3)
    with unit_of_work(engine) as session:
        shards.set_probe(session, shard.id, shard.epoch, 2)  # a new suspect begins without a past
    ledger.expire()
    shard = ledger.must_claim()
    assert (shard.probe, shard.probe_deaths) == (2, 1)
    ledger.write(shard, outcomes(PENDING, FAILED, PENDING))
    ledger.expire()
    shard = ledger.must_claim()
    assert (shard.probe, shard.probe_deaths, shard.attempts) == (None, 0, 1)


# Who is next -------------------------------------------------------------------------------------------------------


def test_urgent_jobs_come_first_and_equal_ones_share_the_workers(ledger: Ledger) -> None:
    low = ledger.make_job([1] * 2, priority="low")
    one, two = ledger.make_job([1] * 4), ledger.make_job([1] * 4)
    high = ledger.make_job([1] * 2, priority="high")
    order = [ledger.must_claim().job_id for _ in range(12)]
    assert order[:2] == [high, high]
    assert [Counter(order[2:n]) for n in (4, 6, 8, 10)] == [Counter({one: n, two: n}) for n in (1, 2, 3, 4)]
    assert order[10:] == [low, low]


def test_only_running_jobs_of_models_that_a_worker_has_are_claimed(ledger: Ledger) -> None:
    job_id = ledger.make_job([1], model="ram")
    assert ledger.claim(models=["lite"]) is None
    for state in ("paused", "cancelled", "failed"):
        ledger.set_state(job_id, state)
        assert ledger.claim() is None
    ledger.set_state(job_id, "running")
    assert ledger.claim(models=["lite", "ram"]) is not None


def test_a_holder_learns_with_its_next_batch_that_the_job_was_paused(ledger: Ledger) -> None:
    job_id = ledger.make_job([2])
    shard = ledger.must_claim()
    ledger.set_state(job_id, "paused")
    assert ledger.write(shard, outcomes(DONE, PENDING)) == "paused"
    ledger.give_back(shard)
    assert ledger.claim() is None
    assert ledger.finish() == []
    ledger.set_state(job_id, "running")
    assert ledger.must_claim().outcomes == outcomes(DONE, PENDING)


def test_the_backlog_counts_what_could_be_claimed_now(ledger: Ledger, engine: Engine) -> None:
    ledger.make_job([1, 1, 1])
    paused = ledger.make_job([1], model="ram")
    ledger.set_state(paused, "paused")
    ledger.must_claim()
    with unit_of_work(engine) as session:
        assert shards.backlog(session) == {"lite": 2}
    ledger.expire()
    with unit_of_work(engine) as session:
        assert shards.backlog(session) == {"lite": 3}


def test_a_job_in_a_state_that_does_not_allow_it_is_left_alone(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([1])
    with pytest.raises(ConflictError, match=f"job {job_id} is running"), unit_of_work(engine) as session:
        jobs.set_state(session, job_id, to="running", allowed=("paused",))
    with pytest.raises(NotFoundError, match="there is no job 999"), unit_of_work(engine) as session:
        jobs.set_state(session, 999, to="paused", allowed=("running",))


# Counters -------------------------------------------------------------------------------------------------------------


def test_a_job_is_done_when_it_is_listed_and_no_shard_is_open(ledger: Ledger) -> None:
    job_id = ledger.make_job([1, 1])
    ledger.execute("UPDATE job SET listed_all_at = NULL")
    for _ in range(2):
        assert ledger.finish() == []
        shard = ledger.must_claim()
        ledger.write(shard, outcomes(DONE))
        assert ledger.finish() == []
        ledger.close(shard)
    assert ledger.finish() == []
    ledger.execute("UPDATE job SET listed_all_at = now()")
    assert ledger.finish() == [job_id]
    assert ledger.finish() == []
    view = ledger.view(job_id)
    assert (view.state, view.done, view.pending) == ("done", 2, 0)
    assert {stage.stage: stage.seconds for stage in view.stages} == {"fetch": 2.0, "infer": 1.0}
    assert view.bottleneck == "fetch"


def test_an_image_deleted_while_its_shard_waits_leaves_no_trace_and_can_be_skipped(
    ledger: Ledger, engine: Engine
) -> None:
    job_id = ledger.make_job([2])
    shard = ledger.must_claim()
    with unit_of_work(engine) as session:
        assert erasures.erase(session, [shard.image_ids[0]]).images == 1
    ledger.write(shard, outcomes(SKIPPED, DONE))
    ledger.close(shard)
    assert ledger.finish() == [job_id]
    view = ledger.view(job_id)
    assert (view.done, view.skipped, view.failed, view.pending) == (1, 1, 0, 0)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_retry_of_one_class_reopens_those_images_and_no_others(
    ledger: Ledger, engine: Engine, is_closed: bool
) -> None:
    job_id = ledger.make_job([3])
    shard = ledger.must_claim()
    ledger.write(shard, outcomes(FAILED, DONE, PENDING), error_class="missing")
    with unit_of_work(engine) as session:
        assert failures.views(session, job_id, error_class="corrupt", limit=9, cursor=None).items == []
    second = ledger.scalar("SELECT outcomes FROM shard")
    ledger.write(
        claims.ClaimedShard(**{name: getattr(shard, name) for name in shard.__slots__} | {"outcomes": second}),
        outcomes(FAILED, DONE, FAILED),
        error_class="corrupt",
    )
    assert ledger.view(job_id).failures_by_class == {"corrupt": 1, "missing": 1}
    if is_closed:
        ledger.close(shard)
        assert ledger.finish() == [job_id]
    assert ledger.reopen(job_id, "unheard of") == 0
    assert ledger.reopen(job_id, "missing") == 1
    view = ledger.view(job_id)
    assert (view.state, view.done, view.failed, view.pending) == ("running", 1, 1, 1)
    assert view.failures_by_class == {"corrupt": 1}
    with pytest.raises(FencedError):  # whoever held the shard knows its outcomes as they were
        ledger.write(shard, outcomes(FAILED, DONE, FAILED))
    again = ledger.must_claim()
    assert again.outcomes == outcomes(PENDING, DONE, FAILED)
    ledger.write(again, outcomes(FAILED, DONE, FAILED), error_class="forbidden")
    ledger.close(again)
    with unit_of_work(engine) as session:
        page = failures.views(session, job_id, error_class="forbidden", limit=9, cursor=None)
    assert [(item.attempts, item.detail) for item in page.items] == [(2, "why")]
    assert ledger.finish() == [job_id]


def test_a_success_after_a_retry_takes_the_failure_away(ledger: Ledger) -> None:
    job_id = ledger.make_job([1])
    shard = ledger.must_claim()
    ledger.write(shard, outcomes(FAILED))
    ledger.close(shard)
    ledger.reopen(job_id)
    again = ledger.must_claim()
    ledger.write(again, outcomes(DONE))
    ledger.close(again)
    assert ledger.scalar("SELECT count(*) FROM failure") == 0
    assert ledger.view(job_id).failed == 0


def test_a_retry_at_the_very_end_of_a_job_keeps_it_open(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([1])
    shard = ledger.must_claim()
    ledger.write(shard, outcomes(FAILED))
    ledger.close(shard)
    finished: list[list[int]] = []
    thread = threading.Thread(target=lambda: finished.append(ledger.finish()))
    with unit_of_work(engine) as session:
        retries.reopen_failed(session, job_id, None)
        thread.start()
        thread.join(timeout=1)  # either it waits for this transaction or it passes the job by
    thread.join()
    assert finished == [[]]
    assert ledger.view(job_id).state == "running"
    assert ledger.claim() is not None


def test_failures_are_paged_in_order(ledger: Ledger, engine: Engine) -> None:
    job_id = ledger.make_job([7])
    shard = ledger.must_claim()
    ledger.write(shard, bytes([FAILED] * 7))
    keys: list[str] = []
    cursor = None
    with unit_of_work(engine) as session:
        while True:
            page = failures.views(session, job_id, error_class=None, limit=3, cursor=cursor)
            keys += [item.key for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert keys == [f"{job_id}/{number:05}" for number in range(7)]

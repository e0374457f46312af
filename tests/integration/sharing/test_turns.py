"""Whose turn it is when shards are claimed: by weights, by jobs, and by priorities, on a real database."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import claims, quotas
from storage.ledger.quotas import QuotaView
from storage.ledger.turns import OTHERS_EVERY
from tests.ledger import LEASE_SECONDS, Ledger

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.ledger.claims import ClaimedShard
    from storage.ledger.views import Priority

pytestmark = pytest.mark.services

USERS = ("ann", "bob", "cid")


def owner_of(ledger: Ledger, shard: ClaimedShard) -> str:
    owner: str = ledger.scalar("SELECT coalesce(counts_for, said_by) FROM job WHERE id = :id", id=shard.job_id)
    return owner


def claimed_by(ledger: Ledger, count: int) -> list[str]:
    return [owner_of(ledger, ledger.must_claim()) for _ in range(count)]


def weigh(ledger: Ledger, **weights: float) -> None:
    with unit_of_work(ledger.engine) as session:
        for name, weight in weights.items():
            quotas.put(session, QuotaView("share", "user", name, weight))


def test_small_users_wait_for_a_claim_of_each_other_user_at_most(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.make_job([4] * 30, by="greedy")
    assert claimed_by(ledger, 20) == ["greedy"] * 20
    small = [f"small{number}" for number in range(9)]
    for name in small:
        ledger.make_job([4], by=name)
    first = claimed_by(ledger, 11)
    assert set(small) <= set(first)
    assert claimed_by(ledger, 5) == ["greedy"] * 5


def test_the_jobs_of_a_user_take_turns(ledger: Ledger) -> None:
    ids = [ledger.make_job([1, 1], by="ann") for _ in range(3)]
    assert [ledger.must_claim().job_id for _ in range(6)] == ids * 2


def test_a_user_with_twice_the_share_gets_twice_as_many_images(ledger: Ledger) -> None:
    weigh(ledger, ann=2.0)
    ledger.make_job([5] * 40, by="ann")
    ledger.make_job([5] * 40, by="bob")
    assert Counter(claimed_by(ledger, 30)) == {"ann": 20, "bob": 10}


def test_images_are_shared_not_shards(ledger: Ledger) -> None:
    ledger.make_job([12] * 10, by="ann")
    ledger.make_job([3] * 40, by="bob")
    assert Counter(claimed_by(ledger, 20)) == {"ann": 4, "bob": 16}


def test_who_had_nothing_waiting_gets_no_more_for_it(ledger: Ledger) -> None:
    ledger.make_job([1], by="bob")
    ledger.make_job([1] * 40, by="ann")
    claimed_by(ledger, 20)
    ledger.make_job([1] * 20, by="bob")
    assert Counter(claimed_by(ledger, 10)) == {"ann": 5, "bob": 5}


def test_jobs_that_nobody_is_noted_for_are_of_one_user(ledger: Ledger) -> None:
    ledger.make_job([1] * 9)
    ledger.make_job([1] * 9, by="local")
    ledger.make_job([1] * 9, by="ann")
    ids = Counter(
        ledger.scalar("SELECT said_by FROM job WHERE id = :id", id=ledger.must_claim().job_id) for _ in "12345678"
    )
    assert ids == {None: 2, "local": 2, "ann": 4}


def test_a_higher_priority_goes_first_and_no_other_waits_for_ever(ledger: Ledger) -> None:
    names: tuple[Priority, ...] = ("high", "normal", "low")
    ids = {ledger.make_job([1] * 70, priority=name, by="ann"): name for name in names}
    claimed = [ids[ledger.must_claim().job_id] for _ in range(4 * OTHERS_EVERY)]
    assert claimed[: OTHERS_EVERY - 1] == ["high"] * (OTHERS_EVERY - 1)
    assert Counter(claimed) == {"high": 4 * (OTHERS_EVERY - 1), "normal": 2, "low": 2}


@pytest.mark.parametrize("with_quota", [False, True])
def test_eight_workers_claim_each_shard_once_and_no_claim_fails(
    ledger: Ledger, engine: Engine, with_quota: bool
) -> None:
    if with_quota:
        weigh(ledger, ann=3.0)
    for name in (*USERS, *USERS):
        ledger.make_job([2] * 20, by=name)
    gate = threading.Barrier(8)

    def claim_all(_: int) -> list[int]:
        gate.wait()
        got, misses = [], 0
        while misses < 3:  # a claimer may meet only shards that another is just taking
            with unit_of_work(engine) as session:
                shard = claims.claim(session, owner="w", lease_seconds=LEASE_SECONDS)
                if shard is not None:
                    claims.claim_together(session, shard, owner="w", lease_seconds=60, able=claims.ABLE)
            misses += shard is None
            got += [] if shard is None else [shard.id]
        return got

    with ThreadPoolExecutor(8) as pool:
        got = list(itertools.chain.from_iterable(pool.map(claim_all, range(8))))
    while (shard := ledger.claim()) is not None:
        got.append(shard.id)
    assert len(got) == len(set(got)) == 120
    assert ledger.scalar("SELECT sum(claims) FROM turn") == 120


# The rule --------------------------------------------------------------------------------------------------------

SIZES = st.integers(min_value=1, max_value=9)
MORE = st.tuples(st.sampled_from(USERS), st.lists(SIZES, min_size=1, max_size=6))
EVENTS = st.lists(st.one_of(MORE, st.none(), st.none()), min_size=12, max_size=45)  # None: a claim
WEIGHTS = st.fixed_dictionaries({name: st.sampled_from([0.5, 1.0, 2.0, 3.0]) for name in USERS})


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, weights=WEIGHTS)
def test_over_any_span_two_users_that_wait_get_their_shares_within_a_shard(
    ledger: Ledger, events: list[tuple[str, list[int]] | None], weights: dict[str, float]
) -> None:
    for table in ("turn", "shard", "listing_range", "job", "quota"):
        ledger.execute(f"DELETE FROM {table}")
    weigh(ledger, **weights)
    jobs = {name: ledger.make_job(by=name) for name in USERS}
    waiting = dict.fromkeys(USERS, 0)
    history: list[tuple[str | None, int, dict[str, int]]] = []  # who was given how many images, who waited before
    largest = dict.fromkeys(USERS, 0)
    for event in events:
        if event is not None:
            name, sizes = event
            with unit_of_work(ledger.engine) as session:
                for size in sizes:
                    session.execute(
                        text("INSERT INTO shard (job_id, image_ids, outcomes) VALUES (:job, :ids, :outcomes)"),
                        {"job": jobs[name], "ids": list(range(size)), "outcomes": bytes(size)},
                    )
            waiting[name] += len(sizes)
            largest[name] = max(largest[name], *sizes)
            continue
        before = dict(waiting)
        shard = ledger.claim()
        assert (shard is None) == (not any(before.values()))
        if shard is not None:
            name = owner_of(ledger, shard)
            waiting[name] -= 1
            history.append((name, len(shard.image_ids), before))
    for start, end in itertools.combinations(range(len(history) + 1), 2):
        span = history[start:end]
        busy = [name for name in USERS if all(before[name] for _, _, before in span)]
        given = {name: sum(size for who, size, _ in span if who == name) / weights[name] for name in busy}
        for one, other in itertools.combinations(busy, 2):
            bound = largest[one] / weights[one] + largest[other] / weights[other]
            assert abs(given[one] - given[other]) <= bound + 1e-6, (span, one, other)

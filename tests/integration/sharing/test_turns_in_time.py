"""Users share the time of workers, not their numbers of images: a user with slow pictures gets no more of it."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import quotas, shards, turns
from storage.ledger.quotas import QuotaView

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.ledger.claims import ClaimedShard
    from tests.ledger import Ledger

pytestmark = pytest.mark.services

WORKERS = 3
RENEWED_SECONDS = 10.0
"""How often the holder of a shard that takes longer than expected charges what it took until now."""


@dataclass
class Fleet:
    """Workers in simulated time on a real ledger: each claims a shard, works, and settles it.

    Attributes:
        seconds: how long a shard of a user takes.
        deaths: the share of workers that die with a shard, half way through it.
        given: seconds of workers, by user.
        most: the largest difference of what two users were given, each divided by its weight, at any time.
    """

    ledger: Ledger
    seconds: dict[str, Callable[[], float]]
    weights: dict[str, float] = field(default_factory=dict)
    deaths: float = 0.0
    given: Counter[str] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    most: float = 0.0
    longest: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(45))

    def run(self, until: float) -> None:
        with unit_of_work(self.ledger.engine) as session:
            owners = {row.id: row.said_by for row in session.execute(text("SELECT id, said_by FROM job"))}
        events: list[tuple[float, int, float, ClaimedShard | None]] = [
            (0.0, number, 0.0, None) for number in range(WORKERS)
        ]
        while events:
            now, worker, left, shard = heapq.heappop(events)
            if now > until:
                return
            if shard is not None and left > 0:
                self._charge_on(shard)
            elif shard is not None:
                self._end(shard, owners[shard.job_id])
                shard = None
            if shard is None:
                shard = self.ledger.must_claim()
                left = self.seconds[owners[shard.job_id]]()
                self.longest = max(self.longest, left)
                self._working[shard.id] = 0.0
            step = min(left, RENEWED_SECONDS)
            self.given[owners[shard.job_id]] += step
            self._working[shard.id] += step
            shares = [self.given[name] / self.weights.get(name, 1.0) for name in self.seconds]
            self.most = max(self.most, max(shares) - min(shares))
            heapq.heappush(events, (now + step, worker, left - step, self._noted(shard)))

    def __post_init__(self) -> None:
        self._working: dict[int, float] = {}
        self._charges: dict[int, turns.Charge] = {}

    def _noted(self, shard: ClaimedShard) -> ClaimedShard:
        return replace(shard, charge=self._charges.pop(shard.id, shard.charge))

    def _charge_on(self, shard: ClaimedShard) -> None:
        worked = self._working[shard.id]
        if worked > shard.charge.seconds:
            with unit_of_work(self.ledger.engine) as session:
                turns.settle(session, shard.charge, worked)
            self._charges[shard.id] = turns.Charge(shard.charge.job_id, worked)

    def _end(self, shard: ClaimedShard, owner: str) -> None:
        if self.chance.random() < self.deaths:
            self.ledger.execute("UPDATE shard SET lease_until = now() - interval '1 s' WHERE id = :id", id=shard.id)
            return
        self.shards[owner] += 1
        self.ledger.close(shard, self._working[shard.id])


def test_a_user_whose_pictures_are_twenty_times_as_slow_gets_as_much_time_as_others(ledger: Ledger) -> None:
    ledger.make_job([4] * 100, by="slow")
    ledger.make_job([4] * 400, by="fast")
    fleet = Fleet(ledger, {"slow": lambda: 20.0, "fast": lambda: 1.0})
    fleet.run(200.0)
    # What is held at a time, and one shard of each: 100 seconds. In turns of images it would be 540.
    assert fleet.most <= (WORKERS + 2) * fleet.longest
    assert fleet.shards["fast"] > 10 * fleet.shards["slow"]


def test_weights_are_of_time_too(ledger: Ledger) -> None:
    with unit_of_work(ledger.engine) as session:
        quotas.put(session, QuotaView("share", "user", "slow", 3.0))
    ledger.make_job([4] * 200, by="slow")
    ledger.make_job([4] * 800, by="fast")
    fleet = Fleet(ledger, {"slow": lambda: 10.0, "fast": lambda: 1.0}, weights={"slow": 3.0})
    fleet.run(200.0)
    assert fleet.given["slow"] == pytest.approx(3 * fleet.given["fast"], rel=0.2)


def test_a_user_whose_shards_vary_is_not_charged_for_what_they_did_not_take(ledger: Ledger) -> None:
    chance = random.Random(7)
    ledger.make_job([4] * 700, by="even")
    ledger.make_job([4] * 700, by="uneven")
    fleet = Fleet(ledger, {"even": lambda: 2.0, "uneven": lambda: chance.choice((0.1, 0.1, 0.1, 7.7))})
    fleet.run(240.0)
    assert fleet.most <= (WORKERS + 2) * fleet.longest


def test_workers_that_die_are_charged_to_the_user_whose_shard_they_held(ledger: Ledger) -> None:
    ledger.make_job([4] * 400, by="ann")
    ledger.make_job([4] * 400, by="bob")
    fleet = Fleet(ledger, {"ann": lambda: 5.0, "bob": lambda: 2.0}, deaths=0.2)
    fleet.run(160.0)
    assert fleet.most <= (WORKERS + 2) * fleet.longest


def turn_of(ledger: Ledger, owner: str) -> tuple[float, float, float | None]:
    with unit_of_work(ledger.engine) as session:
        row = session.execute(text("SELECT ended, owed, image_seconds FROM turn WHERE owner = :o"), {"o": owner}).one()
        return row.ended, row.owed, row.image_seconds


def test_what_a_shard_took_replaces_what_was_charged_and_the_next_claim_is_charged_by_it(ledger: Ledger) -> None:
    ledger.make_job([4] * 5, by="ann")
    first = ledger.must_claim()
    assert first.charge.seconds == pytest.approx(4 * turns.USUAL_SECONDS)
    ledger.close(first, 8.0)
    assert turn_of(ledger, "ann") == (8.0, 0.0, 2.0)
    second = ledger.must_claim()
    assert second.charge.seconds == pytest.approx(8.0)
    ledger.close(second, 2.0)
    assert turn_of(ledger, "ann") == (16.0, 6.0, 1.25)
    third = ledger.must_claim()
    assert turn_of(ledger, "ann")[:2] == pytest.approx((16.0, 1.0)), "what is owed is used first"
    with unit_of_work(ledger.engine) as session:
        turns.settle(session, third.charge, 9.0)
    assert turn_of(ledger, "ann")[:2] == pytest.approx((19.0, 0.0))


def test_a_shard_that_is_given_back_is_charged_what_it_took(ledger: Ledger) -> None:
    ledger.make_job([4] * 2, by="ann")
    shard = ledger.must_claim()
    with unit_of_work(ledger.engine) as session:
        assert shards.give_back(session, shard)
        turns.settle(session, shard.charge, 0.1)
        assert not shards.give_back(session, shard), "a lease that is over is given back once"
    ended, owed, pace = turn_of(ledger, "ann")
    assert (ended - owed, pace) == (pytest.approx(0.1), None)


def test_who_comes_back_is_owed_nothing_any_more(ledger: Ledger) -> None:
    ledger.make_job([10], by="bob")
    ledger.make_job([1] * 60, by="ann")
    bob = next(shard for shard in iter(ledger.must_claim, None) if len(shard.image_ids) == 10)
    ledger.close(bob, 0.1)
    for _ in range(20):  # the clock passes the end of bob's claim
        ledger.must_claim()
    ledger.make_job([1] * 20, by="bob")
    assert turn_of(ledger, "bob")[1] > 0
    clock = ledger.scalar("SELECT max(began) FROM turn")
    ledger.must_claim()
    ended, owed, pace = turn_of(ledger, "bob")
    assert (ended, owed) == (pytest.approx(clock + pace), 0.0)

"""The counters of jobs through random histories: they balance at every commit."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from storage.ledger import claims
from storage.ledger.shards import DONE, FAILED, PENDING, SKIPPED, FencedError

if TYPE_CHECKING:
    from storage.ledger.claims import ClaimedShard
    from tests.ledger import Ledger

pytestmark = pytest.mark.services


class Model:
    """What the counters should say, kept in plain dictionaries beside the real ones."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self.job_ids = [ledger.make_job([3, 4, 2]), ledger.make_job([5])]
        self.held: list[ClaimedShard] = []
        self.stale: list[ClaimedShard] = []

    def step(self) -> None:
        actions = (self.claim, self.write, self.write, self.write, self.close, self.give_back, self.expire, self.reopen)
        self.random.choice((*actions, self.steer, self.write_as_a_stale_holder, self.ledger.finish))()

    def claim(self) -> None:
        shard = self.ledger.claim()
        if shard is not None:
            self.stale += [old for old in self.held if old.id == shard.id]
            self.held = [old for old in self.held if old.id != shard.id] + [shard]

    def current(self, shard: ClaimedShard) -> bytes:
        return bytes(self.ledger.scalar("SELECT outcomes FROM shard WHERE id = :id", id=shard.id))

    def write(self) -> None:
        if self.held:
            shard = self.random.choice(self.held)
            now = self.current(shard)
            new = bytes(old or self.random.choice((PENDING, DONE, DONE, FAILED, SKIPPED)) for old in now)
            known = claims.ClaimedShard(**{name: getattr(shard, name) for name in shard.__slots__} | {"outcomes": now})
            self.ledger.write(known, new, error_class=self.random.choice(("corrupt", "missing")))

    def close(self) -> None:
        for shard in list(self.held):
            if PENDING not in self.current(shard):
                self.ledger.close(shard)
                self.held.remove(shard)

    def give_back(self) -> None:
        if self.held:
            self.ledger.give_back(self.held.pop(), is_transient=self.random.random() < 0.5)

    def expire(self) -> None:
        self.ledger.expire()

    def reopen(self) -> None:
        self.ledger.reopen(self.random.choice(self.job_ids), self.random.choice((None, "corrupt", "missing")))
        epochs = {
            shard.id: self.ledger.scalar("SELECT epoch FROM shard WHERE id = :id", id=shard.id) for shard in self.held
        }
        self.stale += [shard for shard in self.held if epochs[shard.id] != shard.epoch]
        self.held = [shard for shard in self.held if epochs[shard.id] == shard.epoch]

    def steer(self) -> None:
        job_id = self.random.choice(self.job_ids)
        if self.ledger.view(job_id).state in {"running", "paused"}:
            self.ledger.set_state(job_id, self.random.choice(("running", "paused")))

    def write_as_a_stale_holder(self) -> None:
        if self.stale:
            shard = self.random.choice(self.stale)
            with pytest.raises(FencedError):
                self.ledger.write(shard, bytes([DONE] * len(shard.image_ids)))

    def check(self) -> None:
        for job_id in self.job_ids:
            view = self.ledger.view(job_id)
            bytes_of_job = self.ledger.scalar(
                "SELECT string_agg(outcomes, ''::bytea) FROM shard WHERE job_id = :id", id=job_id
            )
            counts = Counter(bytes(bytes_of_job))
            assert (view.done, view.failed, view.skipped, view.pending) == tuple(
                counts[outcome] for outcome in (DONE, FAILED, SKIPPED, PENDING)
            )
            assert view.listed == view.done + view.failed + view.skipped + view.pending
            assert min(view.done, view.failed, view.skipped, view.pending) >= 0
            assert sum(view.failures_by_class.values()) == view.failed
            if view.state == "done":
                assert view.pending == 0


@pytest.mark.parametrize("seed", range(6))
def test_the_books_balance_after_every_step_of_any_history(ledger: Ledger, seed: int) -> None:
    model = Model(ledger, seed)
    for _ in range(120):
        model.step()
        model.check()

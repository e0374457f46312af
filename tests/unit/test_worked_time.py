"""A worker's time is divided among the shards that it holds: none counts twice, and who waits is given none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.ledger.claims import ClaimedShard
from workers.pipeline.work import Lease
from workers.pipeline.worked_time import WorkedTime

SHARD = ClaimedShard(
    1, 1, 1, 1, 0, None, 0, [1, 2], bytes(2), "s3://photos", 1, "f", "lite", "none", "none", None, None
)


class Hands:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lease(number: int, began_at: float) -> Lease:
    made = Lease(replace(SHARD, id=number), None)
    made.began_at = began_at
    return made


def test_time_goes_to_the_shard_that_was_worked_on_and_not_to_one_behind_it() -> None:
    clock = Hands()
    worked, slow, fast = WorkedTime(clock), lease(1, 0.0), lease(2, 1.0)
    slow.add_seconds("infer", 19.0)
    fast.add_seconds("fetch", 1.0)
    clock.now = 20.0
    worked.divide([slow, fast])
    assert (slow.worked_seconds, fast.worked_seconds) == (19.0, 1.0)
    fast.add_seconds("infer", 0.5)
    clock.now = 21.0
    worked.divide([fast])
    assert fast.worked_seconds == 2.0
    assert slow.worked_seconds + fast.worked_seconds == clock.now


def test_time_in_which_nothing_is_held_is_nobodys() -> None:
    clock = Hands()
    worked, first, second = WorkedTime(clock), lease(1, 5.0), lease(2, 100.0)
    clock.now = 8.0
    worked.divide([first])
    worked.divide([])
    clock.now = 104.0
    worked.divide([second])
    assert (first.worked_seconds, second.worked_seconds) == (3.0, 4.0)


def test_shards_with_which_no_step_was_busy_share_the_time_in_which_they_were_held() -> None:
    clock = Hands()
    worked, pair = WorkedTime(clock), [lease(1, 0.0), lease(2, 0.0)]
    clock.now = 4.0
    worked.divide(pair)
    assert [each.worked_seconds for each in pair] == pytest.approx([2.0, 2.0])


def test_a_shard_that_is_worked_on_is_known_to_take_long_before_it_ends() -> None:
    clock = Hands()
    worked, slow, fast = WorkedTime(clock), lease(1, 0.0), lease(2, 1.0)
    fast.add_seconds("fetch", 1.0)
    clock.now = 30.0
    assert worked.so_far([fast, slow]) == (slow, 30.0)
    assert worked.so_far([]) is None
    assert (slow.worked_seconds, fast.worked_seconds) == (0.0, 0.0), "nothing is divided before one ends"

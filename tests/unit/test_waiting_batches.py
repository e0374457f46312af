"""Batches that wait for the writer are committed together."""

from __future__ import annotations

import queue
from typing import cast

from workers.pipeline.batch import WRITTEN_TOGETHER, add_waiting
from workers.pipeline.work import Batch, Lease, Work


def a_lease() -> Lease:
    return cast("Lease", object())


def a_batch(lease: Lease, *names: str) -> Batch:
    return Batch(lease, cast("list[Work]", list(names)))


def inbox_of(*batches: Batch | None) -> queue.Queue[Batch | None]:
    inbox: queue.Queue[Batch | None] = queue.Queue()
    for batch in batches:
        inbox.put(batch)
    return inbox


def test_batches_of_the_same_shard_are_joined_in_order() -> None:
    lease = a_lease()
    batch, inbox = a_batch(lease, "a"), inbox_of(a_batch(lease, "b"), a_batch(lease, "c"))
    assert add_waiting(batch, inbox) == 2
    assert batch.works == ["a", "b", "c"]
    assert inbox.empty()


def test_nothing_is_waited_for() -> None:
    batch = a_batch(a_lease(), "a")
    assert add_waiting(batch, inbox_of()) == 0
    assert batch.works == ["a"]


def test_a_batch_of_another_shard_stays_where_it_is() -> None:
    mine, other = a_lease(), a_batch(a_lease(), "b")
    inbox = inbox_of(other, a_batch(mine, "c"))
    assert add_waiting(a_batch(mine, "a"), inbox) == 0
    assert inbox.get() is other


def test_the_end_of_the_queue_stays_where_it_is() -> None:
    lease = a_lease()
    inbox = inbox_of(a_batch(lease, "b"), None)
    assert add_waiting(a_batch(lease, "a"), inbox) == 1
    assert inbox.get() is None


def test_a_transaction_stays_small() -> None:
    lease = a_lease()
    inbox = inbox_of(*(a_batch(lease, "b") for _ in range(10)))
    assert add_waiting(a_batch(lease, "a"), inbox) == WRITTEN_TOGETHER - 1

"""Failed images of many shards are retried together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from storage.database import unit_of_work
from storage.ledger import retries
from storage.ledger.shards import DONE, FAILED
from tests.ledger import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def test_shards_are_reopened_together_and_each_keeps_its_other_outcomes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.new(engine)
    job_id = ledger.make_job([3] * 7)
    held = [ledger.must_claim() for _ in range(7)]
    expected = {}
    for number, shard in enumerate(held):
        results = bytes([FAILED if number != 3 and place == number % 3 else DONE for place in range(3)])
        ledger.write(shard, results)
        if number % 2:
            ledger.close(shard)
        expected[shard.id] = results.replace(bytes([FAILED]), bytes(1))
    before = ledger.view(job_id)
    assert (before.done, before.failed, before.pending) == (15, 6, 0)

    monkeypatch.setattr(retries, "_SHARDS_AT_ONCE", 4)
    statements: list[str] = []

    def note(*call: object) -> None:
        statements.append(str(call[2]))

    event.listen(engine, "before_cursor_execute", note)
    assert ledger.reopen(job_id) == 6
    event.remove(engine, "before_cursor_execute", note)
    assert sum("UPDATE shard" in statement for statement in statements) == 2
    view = ledger.view(job_id)
    assert (view.state, view.done, view.failed, view.pending) == ("running", 15, 0, 6)
    with unit_of_work(engine) as session:
        found = {row.id: row.outcomes for row in session.execute(text("SELECT id, outcomes FROM shard"))}
    assert found == expected

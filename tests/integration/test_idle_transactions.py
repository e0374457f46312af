"""Transactions whose process was stopped: the database ends them, whatever it was that they did last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage import database
from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.ledger import shards
from storage.results import images, records
from tests.ledger import VECTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from storage.ledger.claims import ClaimedShard
    from tests.ledger import Ledger

pytestmark = pytest.mark.services


def _lock(_session: Session, _shard: ClaimedShard) -> None:
    pass


def _write_records(session: Session, shard: ClaimedShard) -> None:
    rows = [records.RecordRow(one, "v1", [1], [9000], None, 4, 3, VECTOR) for one in shard.image_ids]
    records.write_records(session, rows, records.Provenance(shard.job_id, shard.generation_id, "none"))


def _write_failures(session: Session, shard: ClaimedShard) -> None:
    rows = [records.FailureRow(one, "v1", "corrupt", True, "why") for one in shard.image_ids]
    records.write_failures(session, rows, records.Provenance(shard.job_id, shard.generation_id, "none"))


def _note_versions(session: Session, shard: ClaimedShard) -> None:
    known = images.keys(session, shard.image_ids)
    records.note_versions(session, {n: known[n].version for n in known}, dict.fromkeys(known, "v2"))


@pytest.mark.parametrize("step", [_lock, _write_records, _write_failures, _note_versions])
def test_a_holder_that_stops_after_any_step_of_its_write_loses_what_it_locked(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: Callable[[Session, ClaimedShard], None]
) -> None:
    """And its commit is refused. Nothing would end a transaction that did its last step as a pipeline."""
    monkeypatch.setattr(database, "LOCKED_IDLE_SECONDS", 1)
    ledger.make_job([3])
    shard = ledger.must_claim()
    with pytest.raises(ServiceUnavailableError), unit_of_work(ledger.engine) as stopped:  # noqa: PT012
        shards.require_held(stopped, shard.id, shard.epoch)
        step(stopped, shard)
        ours = stopped.connection().connection.dbapi_connection
        assert ours is not None
        deadline = time.monotonic() + 30
        alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"
        while ledger.scalar(alive, pid=ours.info.backend_pid):
            assert time.monotonic() < deadline, "the transaction is still open"
            time.sleep(0.05)
        stopped.execute(text("SELECT 1"))
    ledger.expire()
    assert ledger.must_claim("another").epoch == shard.epoch + 1
    assert ledger.scalar("SELECT count(*) FROM record") == 0

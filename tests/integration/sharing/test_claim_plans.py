"""What a claim reads of the database: not more with more shards or jobs, and next to nothing of jobs not next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from storage.database import unit_of_work
from storage.ledger import claims
from tests.ledger import LEASE_SECONDS, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

JOBS, SHARDS_OF_JOB, USERS = 1_000, 20, 50


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    """A ledger with many shards of many jobs."""
    ledger.make_job()
    with unit_of_work(ledger.engine) as session:
        session.execute(
            text(
                """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, generation_id, said_by)
                   SELECT archive_id, source, prefix, model, captioner, priority, generation_id, 'user' || n % :users
                   FROM job CROSS JOIN generate_series(1, :jobs) AS n"""
            ),
            {"jobs": JOBS, "users": USERS},
        )
        session.execute(
            text(
                """INSERT INTO shard (job_id, image_ids, outcomes) SELECT job.id, '{1}', '\\x00'
                   FROM job CROSS JOIN generate_series(1, :shards) WHERE said_by IS NOT NULL"""
            ),
            {"shards": SHARDS_OF_JOB},
        )
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return ledger


def test_a_claim_looks_at_the_shards_of_the_job_that_is_next_alone(full: Ledger, engine: Engine) -> None:
    said: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: Any) -> None:
        said.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    with unit_of_work(engine) as session:
        assert claims.claim(session, owner="w", lease_seconds=LEASE_SECONDS) is not None
    event.remove(engine, "before_cursor_execute", note)
    statements = [(statement, values) for statement, values in said if "FROM shard" in statement]
    assert statements
    with engine.connect() as connection:
        for statement, values in statements:
            with connection.begin() as transaction:
                [[[explained]]] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
                transaction.rollback()
            of_shards = [node for node in nodes(explained["Plan"]) if node.get("Relation Name") == "shard"]
            read = sum(
                node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
                for node in of_shards
                if "Scan" in node["Node Type"]
            )
            assert read <= 64 + SHARDS_OF_JOB, explained
            assert not any(node["Node Type"] == "Seq Scan" for node in of_shards), explained
            of_jobs = [node for node in nodes(explained["Plan"]) if node.get("Relation Name") == "job"]
            looked_at = sum(node["Actual Loops"] * node["Actual Rows"] for node in of_jobs)
            assert looked_at <= USERS + 10, "one job of each user, and those that are asked for shards"

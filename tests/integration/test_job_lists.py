"""Lists of jobs: in which order, page by page, with what has nothing to tell folded, and what that reads."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ledger import Ledger

pytestmark = pytest.mark.services


@dataclass(frozen=True)
class Made:
    id: int
    watch: int | None
    stage: str
    state: str
    failed: int


def make(ledger: Ledger, count: int) -> list[Made]:
    """Jobs of two watches and of none, in all states, newest first."""
    chance = random.Random(1)
    ledger.execute(
        """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, watch_id, stage, state, failed)
           SELECT :archive, '', '', 'lite', 'none', 0, watch, stage, state, failed
           FROM unnest(CAST(:watches AS int[]), CAST(:stages AS text[]), CAST(:states AS text[]),
                   CAST(:failed AS int[]))
               WITH ORDINALITY AS new (watch, stage, state, failed, place) ORDER BY place""",
        archive=ledger.archive.id,
        watches=[chance.choice((None, 1, 1, 2, 2)) for _ in range(count)],
        stages=[chance.choice(("recognition", "recognition", "text")) for _ in range(count)],
        states=[chance.choice(("done", "done", "done", "done", "failed", "running")) for _ in range(count)],
        failed=[chance.choice((0, 0, 0, 1)) for _ in range(count)],
    )
    with unit_of_work(ledger.engine) as session:
        rows = session.execute(text("SELECT id, watch_id, stage, state, failed FROM job ORDER BY id DESC"))
        return [Made(*row) for row in rows]


def shown(every: list[Made], watch: int | None, *, is_folded: bool) -> list[int]:
    """What a list has, said in plain words."""
    seen: set[tuple[int | None, str]] = set()
    found = []
    for job in every:
        has_nothing_to_tell = job.watch is not None and job.state == "done" and not job.failed
        is_followed = (job.watch, job.stage) in seen
        seen.add((job.watch, job.stage))
        if watch in {None, job.watch} and not (is_folded and has_nothing_to_tell and is_followed):
            found.append(job.id)
    return found


def listed(ledger: Ledger, limit: int, **asked: Any) -> list[int]:
    """All pages of a list."""
    found: list[int] = []
    before: int | None = None
    while True:
        with unit_of_work(ledger.engine) as session:
            page = jobs.views(session, limit=limit, before=before, **asked)
        assert len(page.items) <= limit
        found += [job.id for job in page.items]
        if page.next_cursor is None:
            return found
        assert len(page.items) == limit
        before = int(page.next_cursor)


@pytest.mark.parametrize(("is_folded", "watch"), [*itertools.product((False, True), (None, 1, 2, 3))])
def test_a_list_has_every_job_once_newest_first(ledger: Ledger, is_folded: bool, watch: int | None) -> None:
    every = make(ledger, 60)
    expected = shown(every, watch, is_folded=is_folded)
    assert bool(expected) == (watch != 3)
    for limit in (1, 7, 60, 500):
        assert listed(ledger, limit, watch_id=watch, is_folded=is_folded) == expected


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


@pytest.mark.parametrize("asked", [{}, {"before": 2_500}, {"watch_id": 2}, {"is_folded": True}], ids=str)
def test_a_page_reads_no_more_jobs_than_it_shows(
    ledger: Ledger, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(ledger, 2)
    ledger.execute(  # what a busy watch leaves behind, above all that has something to tell
        """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, watch_id, state)
           SELECT archive_id, '', '', 'lite', 'none', 0,
               CASE WHEN number > 1000 THEN 1 WHEN number % 10 = 0 THEN 2 END, 'done'
           FROM generate_series(1, 5000) AS number, (SELECT archive_id FROM job LIMIT 1) AS one"""
    )
    with ledger.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE job"))
    plans: list[dict[str, Any]] = []
    with unit_of_work(ledger.engine) as session:
        execute = session.execute

        def explained(statement: Any, values: dict[str, Any]) -> Any:
            [[[plan]]] = execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}"), values)
            plans.append(plan["Plan"])
            return execute(statement, values)

        monkeypatch.setattr(session, "execute", explained)
        page = jobs.views(session, limit=20, **{"before": None, **asked})
    assert len(page.items) == 20
    of_jobs = [node for node in nodes(plans[0]) if node.get("Relation Name") == "job"]
    assert not any(node["Node Type"] == "Seq Scan" for node in of_jobs), plans[0]
    read = sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in of_jobs)
    assert read <= 100, plans[0]

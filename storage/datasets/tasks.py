"""Tasks: pieces of the work of a step, such as one tag or a range of images.

They are leased like shards (``storage.ledger.shards``). All times come from the database's clock. ``epoch`` identifies
a lease: writes of an older holder match no row. What a task writes, it writes in the transaction that ends it, so
nothing is done twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import limit_idleness
from storage.errors import RamqError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

MOST_ATTEMPTS = 5
"""A task fails after this many holders in a row ended without a word: it may be what ends them."""


class TaskLostError(RamqError):
    """Another worker now holds the task, or its step was paused or cancelled. Nothing was written."""

    code = "fenced"


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was claimed. ``input`` says what to do, ``given_back`` how often in a row it had to wait."""

    version_id: int
    phase: str
    number: int
    epoch: int
    attempts: int
    given_back: int
    input: dict[str, Any]


def add(session: Session, version_id: int, phase: str, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Add the tasks of a phase. Those that are there already stay as they are."""
    session.execute(
        text(
            """INSERT INTO dataset_task (version_id, phase, number, input)
               SELECT :version_id, :phase, number, CAST(input AS jsonb)
               FROM unnest(CAST(:inputs AS text[])) WITH ORDINALITY AS task (input, number)
               ON CONFLICT DO NOTHING"""
        ),
        {"version_id": version_id, "phase": phase, "inputs": [json.dumps(dict(each)) for each in inputs]},
    )


def claim(session: Session, *, owner: str, lease_seconds: float) -> Task | None:
    """Lease the next task of the oldest running step; None if there is none."""
    row = session.execute(
        text(
            """
            WITH candidate AS (
                SELECT task.version_id, task.phase, task.number FROM dataset_task AS task
                JOIN dataset_version AS version ON version.id = task.version_id AND version.phase = task.phase
                WHERE version.state = 'running' AND task.state IN ('ready', 'leased')
                  AND ((task.state = 'ready' AND (task.next_try_at IS NULL OR task.next_try_at <= now()))
                       OR (task.state = 'leased' AND task.lease_until < now()))
                ORDER BY task.version_id, task.number LIMIT 1 FOR UPDATE OF task SKIP LOCKED
            )
            UPDATE dataset_task AS task SET state = 'leased', epoch = epoch + 1, attempts = attempts + 1,
                owner = :owner, lease_until = now() + make_interval(secs => :lease_seconds)
            FROM candidate WHERE (task.version_id, task.phase, task.number)
                = (candidate.version_id, candidate.phase, candidate.number)
            RETURNING task.version_id, task.phase, task.number, task.epoch, task.attempts, task.given_back,
                task.input
            """
        ),
        {"owner": owner, "lease_seconds": lease_seconds},
    ).one_or_none()
    return None if row is None else Task(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)


def renew(session: Session, task: Task, lease_seconds: float) -> bool:
    """Renew a lease. Return False if it was lost, or if the step is not running any more."""
    limit_idleness(session)
    return _touched(
        session,
        """UPDATE dataset_task AS task SET lease_until = now() + make_interval(secs => :lease_seconds)
           FROM dataset_version AS version WHERE version.id = task.version_id AND version.state = 'running' AND""",
        task,
        {"lease_seconds": lease_seconds},
    )


def hold(session: Session, task: Task) -> None:
    """Make sure that a task is still held, until the transaction ends. Call it before anything is written.

    The version is locked first, then the task, then pictures: whoever steers or deletes data sets keeps this order. A
    phase of several tasks must not change the row of the version when it writes: two would wait for each other.

    Raises:
        TaskLostError: the lease was lost, or the step was paused or cancelled.
    """
    running = text("SELECT true FROM dataset_version WHERE id = :id AND state = 'running' FOR SHARE")
    is_held = session.scalar(running, {"id": task.version_id}) and _touched(
        session, "UPDATE dataset_task AS task SET owner = owner WHERE", task, {}
    )
    if not is_held:
        raise TaskLostError(f"task {task.number} of {task.phase} was taken over, paused or cancelled")


def finish(session: Session, task: Task, seconds: float) -> None:
    """End a task. It is held as by ``hold``, so it must begin the transaction that writes what the task found."""
    hold(session, task)
    _touched(
        session,
        """UPDATE dataset_task AS task SET state = 'done', owner = NULL, lease_until = NULL, next_try_at = NULL,
               attempts = 0, given_back = 0, note = NULL, seconds = :seconds, done_at = now()
           WHERE""",
        task,
        {"seconds": seconds},
    )


def set_result(session: Session, task: Task, result: Mapping[str, Any]) -> None:
    """Store what came of a task, in the transaction that ends it."""
    session.execute(
        text(
            """UPDATE dataset_task SET result = CAST(:result AS jsonb)
               WHERE (version_id, phase, number) = (:version_id, :phase, :number)"""
        ),
        {**_key(task), "result": json.dumps(dict(result))},
    )


def give_back(session: Session, task: Task, *, delay_seconds: float = 0.0, note: str | None = None) -> None:
    """Release a task that was not done: it does not count as an attempt. A lost lease is not changed.

    With a delay it is counted in ``given_back``, so that the next delay can be longer.
    """
    _touched(
        session,
        """UPDATE dataset_task AS task SET state = 'ready', owner = NULL, lease_until = NULL,
               attempts = greatest(attempts - 1, 0), note = :note,
               given_back = CASE WHEN :delay_seconds > 0 THEN least(given_back + 1, 1000) ELSE given_back END,
               next_try_at = now() + make_interval(secs => :delay_seconds)
           WHERE""",
        task,
        {"note": note, "delay_seconds": delay_seconds},
    )


def fail(session: Session, task: Task, note: str) -> None:
    """End a task that cannot be done. The step fails with it. A lost lease is not changed."""
    session.execute(text("SELECT FROM dataset_version WHERE id = :id FOR UPDATE"), {"id": task.version_id})
    if _touched(
        session,
        """UPDATE dataset_task AS task SET state = 'failed', owner = NULL, lease_until = NULL, note = :note
           WHERE""",
        task,
        {"note": note},
    ):
        session.execute(
            text("UPDATE dataset_version SET state = 'failed', note = :note WHERE id = :id AND state = 'running'"),
            {"id": task.version_id, "note": note},
        )


def reopen_failed(session: Session, version_id: int) -> None:
    """Let the failed tasks of a step be tried again."""
    session.execute(
        text(
            """UPDATE dataset_task SET state = 'ready', attempts = 0, given_back = 0, note = NULL,
                   next_try_at = NULL
               WHERE version_id = :id AND state = 'failed'"""
        ),
        {"id": version_id},
    )


def results(session: Session, version_id: int, phase: str) -> list[dict[str, Any]]:
    """Return what came of the tasks of a phase, in order."""
    rows = session.scalars(
        text("SELECT result FROM dataset_task WHERE version_id = :id AND phase = :phase ORDER BY number"),
        {"id": version_id, "phase": phase},
    )
    return list(rows)


def _key(task: Task) -> dict[str, Any]:
    return {"version_id": task.version_id, "phase": task.phase, "number": task.number}


def _touched(session: Session, statement: str, task: Task, values: Mapping[str, Any]) -> bool:
    """Run an UPDATE of the task if it is still leased by its holder. Return whether it was."""
    held = """ task.version_id = :version_id AND task.phase = :phase AND task.number = :number
               AND task.epoch = :epoch AND task.state = 'leased'"""
    changed = session.execute(text(statement + held), {**values, **_key(task), "epoch": task.epoch})
    return bool(changed.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult

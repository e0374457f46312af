"""Data sets and their versions. A step makes the next version of a set from its parent, phase by phase."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from storage.datasets import gathering, partitions, tasks
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.ledger import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

Step = Literal["build", "import", "generate", "clean", "correct"]
State = Literal["running", "paused", "done", "cancelled", "failed"]
OPEN = ("running", "paused", "failed")
"""States in which a step may still make its version."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_STEERED = {"running": "resumed", "paused": "paused", "cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a data set, and how far its step is.

    Attributes:
        id: its id.
        name: of the data set.
        number: 1 for the first version of a set.
        parent: number of the version that it was made from; None: of none, or of one that was deleted.
        phase: the part of the step that is under way; None: none is.
        is_planned: whether the tasks of the phase are known.
        job_ids: the jobs that the step began or waited for.
        tasks, tasks_done: of the phase.
        eta_seconds: how long the rest of the phase takes at the rate of its tasks so far; None: not known.
        counts: what it contains; see ``workers.datasets``.
        sha256: over all pictures and labels; None until it is done.
    """

    id: int
    dataset_id: int
    name: str
    vocabulary_id: int
    number: int
    parent_id: int | None
    parent: int | None
    step: Step
    state: State
    phase: str | None
    is_planned: bool
    settings: dict[str, Any]
    job_ids: list[int]
    tasks: int
    tasks_done: int
    eta_seconds: float | None
    counts: dict[str, Any]
    sha256: str | None
    note: str | None
    said_by: str
    created_at: datetime
    finished_at: datetime | None


def create(session: Session, name: str, vocabulary_id: int, said_by: str) -> int:
    """Create a data set without versions. Return its id.

    Raises:
        UsageError: it cannot have this name.
        ConflictError: there is one of this name.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:70]!r} cannot be the name of a data set; use at most 63 small letters, digits, and . _ - between "
            "them"
        )
    created = session.scalar(
        text(
            """INSERT INTO dataset (name, vocabulary_id, said_by) VALUES (:name, :vocabulary_id, :said_by)
               ON CONFLICT (name) DO NOTHING RETURNING id"""
        ),
        {"name": name, "vocabulary_id": vocabulary_id, "said_by": said_by},
    )
    if created is None:
        raise ConflictError(f"there is a data set {name!r} already; give another name, or delete it first")
    return int(created)


def begin(  # noqa: PLR0913  (the columns of a version)
    session: Session,
    dataset_id: int,
    *,
    step: Step,
    phase: str,
    settings: Mapping[str, Any],
    parent_id: int | None,
    said_by: str,
    job_ids: Sequence[int] = (),
) -> int:
    """Begin the step that makes the next version of a data set, in its first phase. Return the version's id.

    Raises:
        NotFoundError: there is no such data set.
        ConflictError: another step of the set has not ended.
    """
    if session.scalar(text("SELECT true FROM dataset WHERE id = :id FOR UPDATE"), {"id": dataset_id}) is None:
        raise NotFoundError("the data set was deleted meanwhile; `ramq dataset build` makes it again")
    busy = session.execute(
        text(
            """SELECT number, step, state, name FROM dataset_version JOIN dataset ON dataset.id = dataset_id
               WHERE dataset_id = :id AND state = ANY(:open)"""
        ),
        {"id": dataset_id, "open": list(OPEN)},
    ).first()
    if busy is not None:
        instead = "wait for it" if busy.state == "running" else f"`ramq dataset resume {busy.name}`"
        raise ConflictError(
            f"version {busy.number} of {busy.name} ({busy.step}) is {busy.state}; {instead}, or "
            f"`ramq dataset cancel {busy.name}`"
        )
    version_id: int = session.execute(
        text(
            """INSERT INTO dataset_version (dataset_id, number, parent_id, step, phase, settings, job_ids, said_by)
               SELECT :dataset_id, coalesce(max(number), 0) + 1, CAST(:parent_id AS int), :step, :phase,
                   CAST(:settings AS jsonb), CAST(:job_ids AS bigint[]), :said_by
               FROM dataset_version WHERE dataset_id = :dataset_id RETURNING id"""
        ),
        {
            "dataset_id": dataset_id,
            "parent_id": parent_id,
            "step": step,
            "phase": phase,
            "settings": json.dumps(dict(settings)),
            "job_ids": list(job_ids),
            "said_by": said_by,
        },
    ).scalar_one()
    partitions.create(session, version_id)
    return version_id


def running(session: Session) -> list[int]:
    """Return the ids of the versions whose steps run, oldest first."""
    return list(session.scalars(text("SELECT id FROM dataset_version WHERE state = 'running' ORDER BY id")))


def lock_running(session: Session, version_id: int) -> bool:
    """Lock a version whose step runs. Return False if another transaction has locked it, or it does not run."""
    held = text("SELECT true FROM dataset_version WHERE id = :id AND state = 'running' FOR UPDATE SKIP LOCKED")
    return bool(session.scalar(held, {"id": version_id}))


def set_phase(session: Session, version_id: int, phase: str) -> None:
    """Move a step to its next phase, which is to be planned."""
    session.execute(
        text("UPDATE dataset_version SET phase = :phase, is_planned = false, note = NULL WHERE id = :id"),
        {"id": version_id, "phase": phase},
    )


def set_planned(session: Session, version_id: int) -> None:
    """Record that the phase of a step has its tasks."""
    session.execute(
        text("UPDATE dataset_version SET is_planned = true, note = NULL WHERE id = :id"), {"id": version_id}
    )


def add_jobs(session: Session, version_id: int, job_ids: Sequence[int]) -> None:
    """Record that a step waits for these jobs."""
    session.execute(
        text("UPDATE dataset_version SET job_ids = job_ids || CAST(:job_ids AS bigint[]) WHERE id = :id"),
        {"id": version_id, "job_ids": list(job_ids)},
    )


def add_counts(session: Session, version_id: int, counts: Mapping[str, Any]) -> None:
    """Add to what is known of a version's content. Counts of the same name are replaced."""
    session.execute(
        text("UPDATE dataset_version SET counts = counts || CAST(:counts AS jsonb) WHERE id = :id"),
        {"id": version_id, "counts": json.dumps(dict(counts))},
    )


def set_note(session: Session, version_id: int, note: str | None) -> None:
    """Say what a step waits for."""
    session.execute(
        text("UPDATE dataset_version SET note = :note WHERE id = :id AND note IS DISTINCT FROM :note"),
        {"id": version_id, "note": note},
    )


def finish(session: Session, version_id: int, sha256: str) -> None:
    """End a step: the version is done, and never changes again."""
    session.execute(
        text(
            """UPDATE dataset_version SET state = 'done', phase = NULL, note = NULL, sha256 = :sha256,
               finished_at = now() WHERE id = :id AND state = 'running'"""
        ),
        {"id": version_id, "sha256": sha256},
    )


def fail(session: Session, version_id: int, note: str) -> None:
    """End a running step that cannot go on. It may be resumed."""
    session.execute(
        text("UPDATE dataset_version SET state = 'failed', note = :note WHERE id = :id AND state = 'running'"),
        {"id": version_id, "note": note},
    )


def steer(session: Session, version_id: int, *, to: State, allowed: Sequence[State]) -> None:
    """Pause, resume or cancel a step, together with its jobs. What a cancelled step has made is deleted.

    Jobs that somebody has cancelled meanwhile are forgotten when it is resumed: it begins others instead.

    Jobs that are gone, with their archive, are over.

    Raises:
        ConflictError: it is in none of the ``allowed`` states, or its sources are being read, which cannot be paused,
            or others use what is to be deleted.
    """
    row = session.execute(
        text(
            """SELECT state, phase, number, name, job_ids FROM dataset_version JOIN dataset ON dataset.id = dataset_id
               WHERE dataset_version.id = :id FOR UPDATE OF dataset_version"""
        ),
        {"id": version_id},
    ).one()
    if row.state not in allowed:
        raise ConflictError(
            f"version {row.number} of {row.name} is {row.state} and cannot be {_STEERED[to]}; `ramq dataset show "
            f"{row.name}` lists the versions"
        )
    if row.phase == gathering.PHASE and to != "cancelled":
        cancel = f"`ramq dataset cancel {row.name}`"
        if row.state == "running":
            raise ConflictError(f"the sources of {row.name} are being read; wait, or cancel it: {cancel}")
        raise ConflictError(f"not all sources of {row.name} were read; cancel it ({cancel}), and begin it again")
    session.execute(
        text(
            """UPDATE dataset_version SET state = :to, note = NULL,
               job_ids = CASE WHEN :to = 'running' THEN ARRAY(
                   SELECT job.id FROM job WHERE job.id = ANY(job_ids) AND job.state <> 'cancelled' ORDER BY job.id)
                   ELSE job_ids END,
               finished_at = CASE WHEN :to = 'cancelled' THEN now() END WHERE id = :id"""
        ),
        {"id": version_id, "to": to},
    )
    for job_id, state in jobs.states(session, row.job_ids).items():
        if state in OPEN and state != to:
            jobs.set_state(session, job_id, to=to, allowed=("running", "paused", "failed"))
    if to == "running":
        tasks.reopen_failed(session, version_id)
    if to == "cancelled":
        partitions.empty(session, version_id)


def take_back(session: Session, version_id: int) -> None:
    """Delete a version that could not even begin, and its data set if it has no other."""
    dataset_id = session.scalar(
        text("DELETE FROM dataset_version WHERE id = :id AND state <> 'done' RETURNING dataset_id"), {"id": version_id}
    )
    if dataset_id is None:
        return
    partitions.empty(session, version_id)
    session.execute(
        text("DELETE FROM dataset WHERE id = :id AND NOT EXISTS (SELECT FROM dataset_version WHERE dataset_id = :id)"),
        {"id": dataset_id},
    )


def delete(session: Session, dataset_id: int) -> None:
    """Delete a data set with all its versions. Corrections, results and pictures stay.

    Raises:
        ConflictError: a step of it runs or is paused, or others use a version.
    """
    rows = session.execute(
        text(
            """SELECT version.id, number, state, job_ids, name FROM dataset_version AS version JOIN dataset
               ON dataset.id = dataset_id WHERE dataset_id = :id ORDER BY version.id FOR UPDATE OF version"""
        ),
        {"id": dataset_id},
    ).all()
    if busy := next((row for row in rows if row.state in {"running", "paused"}), None):
        raise ConflictError(
            f"version {busy.number} of {busy.name} is {busy.state}; cancel it first: `ramq dataset cancel {busy.name}`"
        )
    for row in rows:
        # The jobs of a step that failed may still be at work, and ask for labels that are no more.
        for job_id, state in jobs.states(session, row.job_ids).items():
            if state in OPEN:
                jobs.set_state(session, job_id, to="cancelled", allowed=("running", "paused", "failed"))
        partitions.empty(session, row.id)
    session.execute(text("DELETE FROM dataset WHERE id = :id"), {"id": dataset_id})


# Reading -----------------------------------------------------------------------------------------------------------

_VIEW = """
    SELECT version.*, dataset.name, dataset.vocabulary_id, parent.number AS parent, counted.total, counted.done,
        counted.seconds, counted.elapsed
    FROM dataset_version AS version JOIN dataset ON dataset.id = version.dataset_id
    LEFT JOIN dataset_version AS parent ON parent.id = version.parent_id
    LEFT JOIN LATERAL (
        SELECT count(*) AS total, count(*) FILTER (WHERE state = 'done') AS done, sum(seconds) AS seconds,
            extract(epoch FROM max(done_at) - min(done_at - make_interval(secs => seconds))) AS elapsed
        FROM dataset_task AS task WHERE task.version_id = version.id AND task.phase = version.phase
    ) AS counted ON true
"""


def view(session: Session, version_id: int) -> VersionView:
    """Return a version. Raises ``NotFoundError``."""
    row = session.execute(text(f"{_VIEW} WHERE version.id = :id"), {"id": version_id}).one_or_none()
    if row is None:
        raise NotFoundError("that version was deleted, or its sources could not be read; see `ramq dataset list`")
    return _view(row)


def views(session: Session, name: str | None = None) -> list[VersionView]:
    """Return the versions of a data set, or of all of them, newest set first and its versions in order."""
    rows = session.execute(
        text(
            f"""{_VIEW} WHERE CAST(:name AS text) IS NULL OR dataset.name = :name
                ORDER BY version.dataset_id DESC, version.number"""
        ),
        {"name": name},
    )
    return [_view(row) for row in rows]


def find(session: Session, named: str) -> VersionView:
    """Return a version by ``name`` (the newest that is done) or ``name@number``.

    Raises:
        NotFoundError: there is no such data set or version, or none is done.
    """
    name, _, number = named.partition("@")
    found = views(session, name)
    if not found:
        known = ", ".join(dict.fromkeys(each.name for each in views(session)))
        raise NotFoundError(f"there is no data set {name!r}; data sets: {known or 'none; run `ramq dataset build`'}")
    if number:
        chosen = [each for each in found if str(each.number) == number]
    else:
        chosen = [each for each in found if each.state == "done"]
    if chosen:
        return chosen[-1]
    if number:
        raise NotFoundError(f"{name} has no version {number!r}; versions: {', '.join(str(e.number) for e in found)}")
    raise NotFoundError(f"no version of {name} is done yet; `ramq dataset show {name}` says how far it is")


def newest(session: Session, name: str) -> VersionView:
    """Return the newest version of a data set, done or not. Raises ``NotFoundError``."""
    found = views(session, name)
    return found[-1] if found else find(session, name)


def _view(row: Row[tuple[object, ...]]) -> VersionView:
    left = row.total - row.done
    # Tasks overlap, so the time that passed counts. The first ones also load what the others find loaded: no rate yet.
    is_known = row.state == "running" and row.done >= 3 and left
    eta = float(row.elapsed) / row.done * left if is_known else None
    return VersionView(
        id=row.id,
        dataset_id=row.dataset_id,
        name=row.name,
        vocabulary_id=row.vocabulary_id,
        number=row.number,
        parent_id=row.parent_id,
        parent=row.parent,
        step=row.step,
        state=row.state,
        phase=row.phase,
        is_planned=row.is_planned,
        settings=row.settings,
        job_ids=row.job_ids,
        tasks=row.total,
        tasks_done=row.done,
        eta_seconds=eta,
        counts=row.counts,
        sha256=row.sha256,
        note=row.note,
        said_by=row.said_by,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )

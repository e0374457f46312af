"""Workers: which are alive, on which device, at what rate."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.ledger.worker_views import Unfitness, WorkerView
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session


_WEIGHTS = "weights:"
"""What precedes the name of a model in ``worker.runs``, between the stages."""

WORKER_ALIVE_SECONDS = 15
"""A worker whose heartbeat is older than this is shown as gone."""


def beat(  # noqa: PLR0913  (a worker's columns)
    session: Session,
    worker_id: str,
    *,
    host: str,
    pid: int,
    device: str,
    model: str | None,
    job_id: int | None,
    images_per_second: float,
    stages: Mapping[str, Any],
    sends_notices: bool = False,
    models: Sequence[str] | None = None,
    runs: Sequence[str] = (RECOGNITION,),
    weights: Sequence[str] = (),
    unfit: Sequence[Unfitness] = (),
) -> None:
    """Record a worker's heartbeat and what it does."""
    session.execute(
        text(
            """
            INSERT INTO worker (id, host, pid, device, model, job_id, images_per_second, stages, sends_notices,
                models, runs, unfit)
            VALUES (:id, :host, :pid, :device, :model, :job_id, :rate, CAST(:stages AS jsonb), :sends_notices,
                :models, :runs, CAST(:unfit AS jsonb))
            ON CONFLICT (id) DO UPDATE SET device = excluded.device, model = excluded.model, job_id = excluded.job_id,
                images_per_second = excluded.images_per_second, stages = excluded.stages, runs = excluded.runs,
                unfit = excluded.unfit, heartbeat_at = now()
            """
        ),
        {
            "id": worker_id,
            "host": host,
            "pid": pid,
            "device": device,
            "model": model,
            "job_id": job_id,
            "rate": images_per_second,
            "stages": json.dumps(stages),
            "sends_notices": sends_notices,
            "models": None if models is None else list(models),
            "runs": [*runs, *(f"{_WEIGHTS}{name}" for name in weights)],
            "unfit": json.dumps([asdict(each) for each in unfit]),
        },
    )


def leave(session: Session, worker_id: str) -> None:
    """Delete a worker that stopped normally."""
    session.execute(text("DELETE FROM worker WHERE id = :id"), {"id": worker_id})


def forget_gone(session: Session, older_than_seconds: float) -> None:
    """Delete workers whose last heartbeat is older than this."""
    session.execute(
        text("DELETE FROM worker WHERE heartbeat_at < now() - make_interval(secs => :age)"), {"age": older_than_seconds}
    )


def views(session: Session) -> list[WorkerView]:
    """Return the workers, most recent heartbeat first."""
    rows = session.execute(
        text(
            """SELECT id, host, pid, device, model, job_id, images_per_second, models, runs, unfit,
               extract(epoch FROM now() - heartbeat_at)::float AS age FROM worker ORDER BY heartbeat_at DESC, id"""
        )
    )
    return [
        WorkerView(
            id=row.id,
            host=row.host,
            pid=row.pid,
            device=row.device,
            model=row.model,
            job_id=row.job_id,
            images_per_second=row.images_per_second if row.age < WORKER_ALIVE_SECONDS else 0.0,
            heartbeat_age_seconds=row.age,
            is_alive=row.age < WORKER_ALIVE_SECONDS,
            models=row.models,
            runs=[each for each in row.runs if not each.startswith(_WEIGHTS)],
            weights=[each.removeprefix(_WEIGHTS) for each in row.runs if each.startswith(_WEIGHTS)],
            unfit=[Unfitness(**each) for each in row.unfit],
        )
        for row in rows
    ]

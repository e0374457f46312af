"""The end of jobs: images continue where their files are now, and then the jobs are done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.ledger import endings, followers
from storage.results import moves, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

log = structlog.get_logger()

LEAVING_SECONDS = 5.0
"""How long a worker that leaves looks for moved files of jobs that could end. Its last heartbeat is good for longer."""


def finish_jobs(engine: Engine, should_stop: Callable[[], bool] = lambda: False) -> list[int]:
    """End the jobs that have nothing left to do. Return their ids.

    Each step is a transaction of its own, and a job is done only after the last one. So a worker that dies in between
    leaves the rest to the next one that calls this, and of two that call it at once one passes over the other's job.

    Args:
        engine: the database.
        should_stop: asked before each step. Jobs for which moved files are still to be found are then left as they are.
    """
    places: dict[int, bytes] = {}
    while True:
        with unit_of_work(engine) as session:
            ended = None if should_stop() else endings.next_for_moves(session)
            if ended is None:
                return endings.finish_completed(session)
            job_id, archive_id = ended
            of_request = [job_id, *followers.of(session, job_id)]
            if parted := replaced.part(session, archive_id, job_id, of_request):
                log.info("other bytes at their keys", job=job_id, images=parted)
                continue
            settled = moves.settle(session, archive_id, of_request, places.get(job_id, b""))
            if settled.after is None:
                endings.note_no_moves(session, job_id)
            else:
                places[job_id] = settled.after
        if settled.moved:
            log.info("moved", job=job_id, images=settled.moved)


def finish_before_leaving(engine: Engine, grace_seconds: float | None) -> None:
    """End the jobs whose last images this worker wrote: perhaps no other worker comes for a long time."""
    until = time.monotonic() + min(LEAVING_SECONDS, grace_seconds or LEAVING_SECONDS)
    finish_jobs(engine, lambda: time.monotonic() > until)

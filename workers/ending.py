"""The end of jobs: images whose files were moved continue where the files are now, and then the jobs are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.ledger import followers, jobs
from storage.results import moves

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger()


def finish_jobs(engine: Engine) -> list[int]:
    """End the jobs that have nothing left to do. Return their ids.

    Each step is a transaction of its own, and a job is done only after the last one. So a worker that dies in between
    leaves the rest to the next one that calls this, and of two that call it at once one passes over the other's job.
    """
    while True:
        with unit_of_work(engine) as session:
            ended = jobs.next_for_moves(session)
            if ended is None:
                return jobs.finish_completed(session)
            job_id, archive_id = ended
            moved = moves.settle(session, archive_id, [job_id, *followers.of(session, job_id)])
            if not moved:
                jobs.note_no_moves(session, job_id)
        if moved:
            log.info("moved", job=job_id, images=moved)

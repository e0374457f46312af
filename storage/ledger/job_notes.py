"""What a job waits for, as far as only a look at the present can say it: quotas, workers, what a pause hides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.ledger import endings, quotas
from storage.ledger import workers as worker_rows
from storage.ledger.turns import OWNER
from storage.ledger.waiting import waits_for
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.ledger.views import JobView


def saying_what_for(session: Session, jobs: list[JobView]) -> list[JobView]:
    """Add notes: why a job waits that no worker can do or whose user has no room, or that only has to end.

    Also what a paused job hides.
    """
    jobs = _saying_what_is_not_found(session, jobs)
    if not any(job.state == "running" for job in jobs):
        return jobs
    full = _without_room(session, jobs)
    workers = worker_rows.views(session)
    complete = [job.id for job in jobs if job.has_no_work]
    ends = endings.words(session, complete, is_any_alive=any(worker.is_alive for worker in workers))
    return [
        replace(job, note=(ends[job.id] if job.id in ends else waits_for(job, workers) or full.get(job.id)) or job.note)
        for job in jobs
    ]


def _without_room(session: Session, jobs: list[JobView]) -> dict[int, str]:
    """Return why the listings of jobs wait for images of the same user or archive, by job."""
    listing = [job for job in jobs if job.is_listing and job.with_job is None]
    full = quotas.images_full(session) if listing else []
    if not full:
        return {}
    rows = session.execute(
        text(f"SELECT id, {OWNER} AS owner FROM job WHERE id = ANY(:ids)"),  # noqa: S608  (a constant)
        {"ids": [job.id for job in listing]},
    )
    owners = {row.id: row.owner for row in rows}
    return {
        job.id: f"waiting: {each.reason}"
        for each in reversed(full)
        for job in listing
        if each.is_of(owners[job.id], job.archive)
    }


def _saying_what_is_not_found(session: Session, jobs: list[JobView]) -> list[JobView]:
    """Say of paused jobs if files that were moved may be among the images that wait in them: nobody reads these."""
    paused = [job.id for job in jobs if job.state == "paused" and job.note is None and (job.pending or not job.listed)]
    if not paused:
        return jobs
    hidden = set(
        session.scalars(
            text(
                """SELECT job.id FROM job JOIN archive ON archive.id = job.archive_id
                   WHERE job.id = ANY(:ids) AND job.stage = :recognition AND (archive.missing > 0
                       OR EXISTS (SELECT FROM former_content AS former WHERE former.archive_id = archive.id))"""
            ),
            {"ids": paused, "recognition": RECOGNITION},
        )
    )
    note = (
        "files of this archive are missing. Whether they were moved to where the images of this job are is found out "
        "when it is resumed and has read them"
    )
    return [replace(job, note=note) if job.id in hidden else job for job in jobs]

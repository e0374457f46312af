"""Jobs: creation, state changes, and counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import text

from storage import traces
from storage.errors import ConflictError, NotFoundError
from storage.ledger import quotas, ranges, webhook_deliveries
from storage.ledger.job_notes import saying_what_for
from storage.ledger.turns import LOCAL, OWNER
from storage.ledger.views import PRIORITIES, PRIORITY_NAMES, JobState, JobView, Priority, StageView
from storage.ledger.workers import WORKER_ALIVE_SECONDS
from storage.objects.ignoring import EVERYTHING
from storage.page import Page
from storage.tables import RECOGNITION, Archive, Job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from storage.objects.ignoring import Selection

STEPS = ("fetch", "decode", "infer", "write")


@traces.traced("create job", "ramq.job.id")
def create(  # noqa: PLR0913  (a job's columns)
    session: Session,
    *,
    archive: Archive,
    source: str,
    prefix: str,
    model: str,
    captioner: str,
    priority: Priority,
    manifest_version: str | None = None,
    features: str = "none",
    vocabulary_id: int | None = None,
    from_generation_id: int | None = None,
    stage: str = RECOGNITION,
    with_job_id: int | None = None,
    query: str | None = None,
    options: Mapping[str, Any] | None = None,
    selection: Selection = EVERYTHING,
    said_by: str | None = None,
    watch_id: int | None = None,
    of_keys: bool = False,
) -> int:
    """Add a job that is not listed yet. Return its id.

    ``manifest_version`` is set if ``source`` is a manifest. ``options`` is what a further stage is asked for: anything
    that JSON can say. ``selection`` is for jobs that list their source. ``said_by`` is who starts it. ``of_keys``: it
    lists only the keys that ``named_keys`` has for it.

    Raises:
        QuotaError: a quota of the user or the archive does not allow another job. Jobs of watches are not refused.
    """
    if with_job_id is None and watch_id is None:
        quotas.require_job(session, said_by or LOCAL, archive.uri, PRIORITIES[priority])
    job = Job(
        archive_id=archive.id,
        source=source,
        manifest_version=manifest_version,
        prefix=prefix,
        model=model,
        captioner=captioner,
        priority=PRIORITIES[priority],
        features=features,
        vocabulary_id=vocabulary_id,
        from_generation_id=from_generation_id,
        stage=stage,
        with_job_id=with_job_id,
        query=query,
        options=dict(options or {}),
        include=list(selection.include),
        exclude=list(selection.exclude),
        has_defaults=selection.has_defaults,
        said_by=said_by,
        watch_id=watch_id,
        of_keys=of_keys,
    )
    session.add(job)
    session.flush()
    ranges.begin(session, job.id)
    return job.id


def set_generation(session: Session, job_id: int, generation_id: int) -> None:
    """Pin a job to the generation that its results belong to."""
    session.execute(
        text("UPDATE job SET generation_id = :generation_id WHERE id = :id AND generation_id IS NULL"),
        {"id": job_id, "generation_id": generation_id},
    )


def set_note(session: Session, job_id: int, note: str | None) -> None:
    """Record on the job what it waits for or what its problem is."""
    session.execute(text("UPDATE job SET note = :note WHERE id = :id"), {"id": job_id, "note": note})


def fail(session: Session, job_id: int, reason: str) -> None:
    """End a running or paused job as failed."""
    ended = session.execute(
        text(
            """UPDATE job SET state = 'failed', note = :note, finished_at = now()
               WHERE id = :id AND state IN ('running', 'paused') RETURNING id"""
        ),
        {"id": job_id, "note": reason},
    )
    webhook_deliveries.follow(session, ended.scalars().all())
    # A follower that has not seen the whole listing would wait for the rest for ever. Resuming the job resumes both.
    waiting = text("SELECT id FROM job WHERE with_job_id = :id AND listed_all_at IS NULL ORDER BY id")
    for follower in session.scalars(waiting, {"id": job_id}).all():
        fail(session, follower, f"job {job_id}, whose listing it follows, failed: {reason}")


def require_generation(session: Session, job_id: int) -> None:
    """Raise ``ConflictError`` if the generation of a job's results was dropped: they would be written and not seen."""
    dropped = text(
        """SELECT generation.id FROM job JOIN generation ON generation.id = job.generation_id
           WHERE job.id = :id AND dropped_at IS NOT NULL"""
    )
    if (generation_id := session.scalar(dropped, {"id": job_id})) is not None:
        raise ConflictError(f"generation {generation_id}, to which job {job_id} belongs, was dropped: start a new job")


def require_quota(session: Session, job_id: int) -> None:
    """Check that a job that has ended may run again. Raises ``QuotaError``."""
    row = session.execute(
        text(
            f"""SELECT {OWNER} AS owner, archive.uri, job.priority FROM job JOIN archive ON archive.id = job.archive_id
                WHERE job.id = :id AND job.state NOT IN ('running', 'paused') AND job.watch_id IS NULL
                  AND NOT {quotas.COUNTS_WITH_ANOTHER}"""  # noqa: S608  (constants)
        ),
        {"id": job_id},
    ).one_or_none()
    if row is not None:
        quotas.require_job(session, row.owner, row.uri, row.priority)


_STEERED: dict[str, str] = {"paused": "paused", "running": "resumed", "cancelled": "cancelled"}


# State changes -----------------------------------------------------------------------------------------------------


def set_state(session: Session, job_id: int, *, to: JobState, allowed: Sequence[JobState]) -> None:
    """Move a job to another state.

    Raises:
        NotFoundError: no such job.
        ConflictError: it is in none of the ``allowed`` states.
        QuotaError: it had ended, and a quota does not allow its user another job.
    """
    asked = text("SELECT id FROM job WHERE id = :id OR with_job_id = :id")
    ranges.reset(session, session.scalars(asked, {"id": job_id}).all())
    state = session.scalar(text("SELECT state FROM job WHERE id = :id FOR UPDATE"), {"id": job_id})
    if state is None:
        raise NotFoundError(f"there is no job {job_id}")
    if state not in allowed:
        raise ConflictError(f"job {job_id} is {state} and cannot be {_STEERED[to]}")
    if to == "running" and state != to:
        require_generation(session, job_id)
        require_quota(session, job_id)
    session.execute(
        text(
            """UPDATE job SET state = :to, note = NULL,
               finished_at = CASE WHEN :to IN ('done', 'cancelled', 'failed') THEN now() END,
               breaker_is_off = breaker_is_off OR (state = 'failed' AND :to = 'running') WHERE id = :id"""
        ),
        {"id": job_id, "to": to},
    )
    if state != to:
        webhook_deliveries.follow(session, [job_id])
    # The other stages of the same request go with it, where they can.
    others = session.scalars(
        text("SELECT id FROM job WHERE with_job_id = :id AND state = ANY(:allowed) AND state <> :to ORDER BY id"),
        {"id": job_id, "allowed": list(allowed), "to": to},
    ).all()
    for other in others:
        set_state(session, other, to=to, allowed=allowed)


# Reading -----------------------------------------------------------------------------------------------------------

_COUNTERS = """
    SELECT job.*, archive.uri AS archive_uri,
        (SELECT name FROM vocabulary WHERE vocabulary.id = job.vocabulary_id) AS vocabulary,
        job.done + coalesce(begun.n_done, 0) AS all_done, job.failed + coalesce(begun.n_failed, 0) AS all_failed,
        job.skipped + coalesce(begun.n_skipped, 0) AS all_skipped,
        ARRAY(SELECT other.id FROM job AS other WHERE other.with_job_id = job.id ORDER BY other.id) AS followers,
        coalesce(alive.workers, 0) AS workers, alive.rate,
        (SELECT count(*) FROM listing_range AS part WHERE part.job_id = job.id AND part.lease_until > now()) AS listers,
        notice.ended_at AS notice_ended_at, notice.due_at AS notice_due_at, notice.sent_at AS notice_sent_at,
        notice.tries AS notice_tries, notice.error AS notice_error
    FROM job JOIN archive ON archive.id = job.archive_id LEFT JOIN notice ON notice.job_id = job.id
    LEFT JOIN LATERAL (
        SELECT sum(n_done)::bigint AS n_done, sum(n_failed)::bigint AS n_failed, sum(n_skipped)::bigint AS n_skipped
        FROM shard WHERE shard.job_id = job.id AND shard.state <> 'done' AND n_done + n_failed + n_skipped > 0
    ) AS begun ON true
    LEFT JOIN LATERAL (
        -- A worker names the job whose shard it took first. It may do a follower's together with it.
        SELECT count(*) AS workers, sum(images_per_second) FILTER (WHERE worker.job_id = job.id) AS rate FROM worker
        WHERE (worker.job_id = job.id OR (worker.job_id = job.with_job_id AND job.stage = ANY(worker.runs)))
          AND worker.heartbeat_at > now() - make_interval(secs => :alive_seconds)
    ) AS alive ON true
"""


def view(session: Session, job_id: int) -> JobView:
    """Return one job with its counters. Raises ``NotFoundError``."""
    row = session.execute(
        text(f"{_COUNTERS} WHERE job.id = :id"), {"id": job_id, "alive_seconds": WORKER_ALIVE_SECONDS}
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no job {job_id}")
    classes = session.execute(
        text(
            """SELECT error_class, count(*) FROM failure WHERE job_id = :id AND NOT retrying
               GROUP BY error_class ORDER BY count(*) DESC, error_class"""
        ),
        {"id": job_id},
    )
    return saying_what_for(session, [_view(row, {name: int(n) for name, n in classes})])[0]


def states(session: Session, job_ids: Sequence[int]) -> dict[int, JobState]:
    """Return the states of those of these jobs that exist, by id."""
    rows = session.execute(text("SELECT id, state FROM job WHERE id = ANY(:ids) ORDER BY id"), {"ids": list(job_ids)})
    return {row.id: row.state for row in rows}


# The page is chosen on ids alone, each part in the order of an index: what is shown of a job costs much more.
_EVERY = "SELECT id FROM job WHERE (CAST(:before AS bigint) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit"
_OF_WATCH = """
    SELECT id FROM job WHERE watch_id = :watch_id AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
"""
# The newest job of a watch, of each stage, stands for the earlier ones that have nothing to tell. Of these there may be
# very many, which are not read: ``newest`` goes from one watch and stage to the next.
_FOLDED = """
    WITH RECURSIVE newest AS (
        (SELECT watch_id, stage, id FROM job WHERE watch_id IS NOT NULL
         ORDER BY watch_id DESC, stage DESC, id DESC LIMIT 1)
        UNION ALL
        SELECT following.* FROM newest CROSS JOIN LATERAL (
            SELECT watch_id, stage, id FROM job
            WHERE watch_id IS NOT NULL AND (watch_id, stage) < (newest.watch_id, newest.stage)
            ORDER BY watch_id DESC, stage DESC, id DESC LIMIT 1
        ) AS following
    )
    SELECT id FROM (
        (SELECT id FROM job WHERE (watch_id IS NULL OR state <> 'done' OR failed > 0)
             AND (CAST(:before AS bigint) IS NULL OR id < :before)
             AND (CAST(:watch_id AS bigint) IS NULL OR watch_id = :watch_id) ORDER BY id DESC LIMIT :limit)
        UNION
        SELECT id FROM newest WHERE (CAST(:before AS bigint) IS NULL OR id < :before)
            AND (CAST(:watch_id AS bigint) IS NULL OR watch_id = :watch_id)
    ) AS told ORDER BY id DESC LIMIT :limit
"""


def views(
    session: Session, *, limit: int, before: int | None, watch_id: int | None = None, is_folded: bool = False
) -> Page[JobView]:
    """Return jobs, newest first: all, or those of a watch. ``before`` is the last id of the previous page.

    ``is_folded`` leaves out jobs of watches that are done, without failures, and followed by another one.
    """
    chosen = _FOLDED if is_folded else _EVERY if watch_id is None else _OF_WATCH
    rows = session.execute(
        text(f"{_COUNTERS} WHERE job.id = ANY(ARRAY({chosen})) ORDER BY job.id DESC"),
        {"before": before, "limit": limit + 1, "watch_id": watch_id, "alive_seconds": WORKER_ALIVE_SECONDS},
    ).all()
    shown = saying_what_for(session, [_view(row, {}) for row in rows[:limit]])
    return Page(shown, str(shown[-1].id) if len(rows) > limit else None)


def views_of(session: Session, job_ids: Sequence[int]) -> list[JobView]:
    """Return these jobs, in this order, without the classes of their failures. Raises ``NotFoundError``."""
    if not job_ids:
        return []
    rows = session.execute(
        text(f"{_COUNTERS} WHERE job.id = ANY(:ids)"),
        {"ids": list(job_ids), "alive_seconds": WORKER_ALIVE_SECONDS},
    )
    found = {row.id: _view(row, {}) for row in rows}
    if missing := [job_id for job_id in job_ids if job_id not in found]:
        raise NotFoundError(f"there is no job {missing[0]}")
    return saying_what_for(session, [found[job_id] for job_id in job_ids])


def _view(row: Row[tuple[object, ...]], failures_by_class: dict[str, int]) -> JobView:
    decided = row.all_done + row.all_failed
    pending = row.listed - row.all_skipped - decided
    is_listing = row.listed_all_at is None and row.state == "running"
    rate, expected = _rates(row)
    # The length of a pause or a wait is unknown.
    has_eta = row.state == "running" and row.workers and not is_listing and row.note is None
    stages = _stages(row)
    return JobView(
        id=row.id,
        source=row.source,
        archive=row.archive_uri,
        prefix=row.prefix,
        stage=row.stage,
        with_job=row.with_job_id,
        followers=row.followers,
        query=row.query,
        options=row.options,
        model=row.model,
        captioner=row.captioner,
        features=row.features,
        vocabulary=row.vocabulary,
        from_generation_id=row.from_generation_id,
        generation_id=row.generation_id,
        priority=PRIORITY_NAMES[row.priority],
        state=cast("JobState", row.state),
        is_listing=is_listing,
        listers=row.listers if is_listing else 0,
        listed=row.listed,
        done=row.all_done,
        skipped=row.all_skipped,
        failed=row.all_failed,
        copied=row.copied,
        pending=pending,
        ignored=sum(row.ignored.values()),
        ignored_by_reason=dict(sorted(row.ignored.items())),
        include=row.include,
        exclude=row.exclude,
        defaults=row.has_defaults,
        images_per_second=rate,
        eta_seconds=pending / expected if expected and has_eta else None,
        stages=stages,
        bottleneck=max(stages, key=lambda stage: stage.seconds).stage if stages else None,
        workers=row.workers,
        note=row.note,
        said_by=row.said_by,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        active_seconds=row.active_seconds,
        webhook=webhook_deliveries.described(row),
        failures_by_class=failures_by_class,
        watch=row.watch_id,
        of_keys=row.of_keys,
    )


def _rates(row: Row[tuple[Any, ...]]) -> tuple[float | None, float | None]:
    """Return how many images per second a job does, and how many are to be expected of its workers from now on."""
    closed = row.done + row.failed  # the images that the seconds belong to
    average = closed / row.active_seconds if closed and row.active_seconds else None
    rate = float(row.rate) if row.state == "running" and row.rate else average
    # Images that took over results come in stretches, which the rate of the moment would take for the rest.
    is_mean = row.copied and row.worked_seconds
    return rate, row.workers * closed / row.worked_seconds if is_mean else rate


def _stages(row: Row[tuple[Any, ...]]) -> list[StageView]:
    closed = row.done + row.failed
    counts = {"decode": closed - row.copied, "infer": closed - row.copied}  # the others did not get there
    return [
        StageView(stage, seconds, counts.get(stage, closed) / seconds or None)
        for stage in STEPS
        if (seconds := float(row.stage_seconds.get(stage, 0.0)))
    ]

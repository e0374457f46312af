"""Listings: which one a worker continues, and what they record besides the images: skipped, named, missing images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import limit_idleness
from storage.errors import RamqError
from storage.ledger import quotas
from storage.ledger.claims import ABLE
from storage.ledger.turns import OTHERS_EVERY, OWNER
from storage.objects.base import UNREADABLE_VERSION
from storage.objects.ignoring import Selection
from storage.objects.pages import FILE_KEY, IS_PAGE
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.ledger.waiting import Able
    from storage.objects.base import ObjectInfo


class ListingLostError(RamqError):
    """Another planner now holds this job's listing, or the job was paused or cancelled. Nothing was written."""

    code = "fenced"


@dataclass(frozen=True, slots=True)
class ClaimedListing:
    """A job whose keys have to be listed, after ``cursor``."""

    job_id: int
    epoch: int
    attempts: int
    archive_id: int
    archive_uri: str
    source: str
    manifest_version: str | None
    prefix: str
    cursor: str | None
    model: str
    captioner: str
    generation_id: int | None
    features: str
    vocabulary_id: int | None
    from_generation_id: int | None
    stage: str = RECOGNITION
    with_job_id: int | None = None
    query: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    has_defaults: bool = False
    of_keys: bool = False
    trace: str | None = None

    @property
    def selection(self) -> Selection:
        """Which keys of the source are listed."""
        return Selection(tuple(self.include), tuple(self.exclude), has_defaults=self.has_defaults)


# When each user's jobs were listed last; now, if one is being listed. And how many listings were claimed for open jobs.
_LISTED = f"""
    listed AS MATERIALIZED (
        SELECT {OWNER} AS owner,
            max(CASE WHEN list_lease_until > now() THEN now() ELSE least(list_next_at, now()) END) AS last_at
        FROM job WHERE state = 'running' GROUP BY 1
    ),
    steps AS MATERIALIZED (SELECT coalesce(sum(list_epoch), 0)::bigint AS n FROM job WHERE state = 'running')
"""  # noqa: S608  (a constant)


def claim(
    session: Session,
    *,
    loaded: Sequence[str],
    is_begun: bool,
    lease_seconds: float,
    able: Able = ABLE,
) -> ClaimedListing | None:
    """Lease the listing of the most urgent job that is not listed completely.

    Of those of the same priority, it is of the user whose last listing is the longest ago, and of the job whose own is.
    Some listings are claimed without a look at the priority, as shards are: see ``storage.ledger.turns``. Those of
    users and archives whose quota of images is used up are left out.

    A job that follows the listing of another one only has to be begun: see ``storage.ledger.followers``.

    Args:
        session: its transaction is the claim.
        loaded: the loaded models, whose generations are known.
        is_begun: True: only jobs whose generation is known, from the job or a loaded model; False: only the others.
        lease_seconds: duration of the lease; recording a page extends it.
        able: what this worker can do.
    """
    full_owners, full_archives = quotas.without_room(session)
    row = session.execute(
        text(
            f"""
            WITH {_LISTED}, candidate AS (
                SELECT job.id FROM job JOIN archive AS place ON place.id = job.archive_id
                CROSS JOIN steps LEFT JOIN listed ON listed.owner = {OWNER}
                WHERE state = 'running' AND listed_all_at IS NULL AND stage = ANY(:stages)
                  AND (with_job_id IS NULL OR generation_id IS NULL)
                  AND model <> ALL(CAST(:barred_models AS text[]))
                  AND (place.uri <> ALL(CAST(:barred_archives AS text[])) OR from_generation_id IS NOT NULL)
                  AND (CAST(:models AS text[]) IS NULL OR stage <> :recognition OR model = ANY(:models))
                  AND (generation_id IS NOT NULL
                       OR (vocabulary_id IS NULL AND stage = :recognition
                           AND model = ANY(CAST(:loaded AS text[])))) = :is_begun
                  AND (list_lease_until IS NULL OR list_lease_until < now())
                  AND (list_next_at IS NULL OR list_next_at <= now())
                  AND (with_job_id IS NOT NULL OR ({OWNER} <> ALL(CAST(:full_owners AS text[]))
                       AND place.uri <> ALL(CAST(:full_archives AS text[]))))
                ORDER BY CASE WHEN steps.n % {OTHERS_EVERY} <> {OTHERS_EVERY - 1} THEN -priority END,
                    listed.last_at NULLS FIRST, list_next_at NULLS FIRST, job.id
                LIMIT 1 FOR UPDATE OF job SKIP LOCKED
            )
            UPDATE job SET list_epoch = list_epoch + 1, list_attempts = list_attempts + 1,
                list_lease_until = now() + make_interval(secs => :lease_seconds),
                started_at = coalesce(started_at, now())
            FROM candidate, archive WHERE job.id = candidate.id AND archive.id = job.archive_id
            RETURNING job.id AS job_id, job.list_epoch AS epoch, job.list_attempts AS attempts, job.archive_id,
                archive.uri AS archive_uri, job.source, job.manifest_version, job.prefix, job.list_cursor AS cursor,
                job.model, job.captioner, job.generation_id, job.features, job.vocabulary_id, job.from_generation_id,
                job.stage, job.with_job_id, job.query, job.options, job.include, job.exclude, job.has_defaults,
                job.of_keys, job.trace
            """  # noqa: S608  (constants)
        ),
        {
            **able.values(),
            "full_owners": full_owners,
            "full_archives": full_archives,
            "recognition": RECOGNITION,
            "loaded": list(loaded),
            "is_begun": is_begun,
            "lease_seconds": lease_seconds,
        },
    ).one_or_none()
    return None if row is None else ClaimedListing(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)


def require(session: Session, job_id: int, epoch: int) -> None:
    """Lock a job's row if this planner still holds its listing. Raises ``ListingLostError``."""
    limit_idleness(session)
    held = session.scalar(
        text(
            """SELECT true FROM job WHERE id = :id AND list_epoch = :epoch AND state = 'running'
               AND listed_all_at IS NULL FOR UPDATE"""
        ),
        {"id": job_id, "epoch": epoch},
    )
    if not held:
        raise ListingLostError(f"the listing of job {job_id} was taken over, paused or cancelled")


def advance(  # noqa: PLR0913
    session: Session, job_id: int, epoch: int, *, cursor: str, listed: int, skipped: int, lease_seconds: float
) -> None:
    """Count a page and move the cursor after it, in the transaction that ``require`` guards."""
    session.execute(
        text(
            """
            UPDATE job SET list_cursor = :cursor, listed = listed + :listed, skipped = skipped + :skipped,
                list_attempts = 0, note = NULL, list_lease_until = now() + make_interval(secs => :lease_seconds)
            WHERE id = :id AND list_epoch = :epoch
            """
        ),
        {
            "id": job_id,
            "epoch": epoch,
            "cursor": cursor,
            "listed": listed,
            "skipped": skipped,
            "lease_seconds": lease_seconds,
        },
    )
    quotas.count_day(session, job_id, listed - skipped)


def renew(session: Session, job_id: int, epoch: int, *, lease_seconds: float) -> None:
    """Extend the lease of a listing without a page, in the transaction that ``require`` guards."""
    session.execute(
        text(
            """UPDATE job SET list_lease_until = now() + make_interval(secs => :lease_seconds), list_attempts = 0
               WHERE id = :id AND list_epoch = :epoch"""
        ),
        {"id": job_id, "epoch": epoch, "lease_seconds": lease_seconds},
    )


def give_back(session: Session, job_id: int, epoch: int) -> None:
    """Release a listing to another worker as if it had not been claimed: this one is unfit for it."""
    session.execute(
        text(
            """UPDATE job SET list_lease_until = NULL, list_attempts = greatest(list_attempts - 1, 0)
               WHERE id = :id AND list_epoch = :epoch AND listed_all_at IS NULL"""
        ),
        {"id": job_id, "epoch": epoch},
    )


def end(session: Session, job_id: int, epoch: int, *, is_complete: bool, delay_seconds: float = 0.0) -> None:
    """Release the listing: completed, or to be continued after a delay."""
    session.execute(
        text(
            """
            UPDATE job SET list_lease_until = NULL,
                listed_all_at = CASE WHEN :is_complete THEN now() END,
                list_next_at = now() + make_interval(secs => :delay_seconds)
            WHERE id = :id AND list_epoch = :epoch AND listed_all_at IS NULL
            """
        ),
        {"id": job_id, "epoch": epoch, "is_complete": is_complete, "delay_seconds": delay_seconds},
    )


def add_skipped(session: Session, job_id: int, image_ids: Sequence[int]) -> None:
    """Record which images of a page the job need not recognise."""
    if image_ids:
        session.execute(
            text(
                """INSERT INTO skip (job_id, image_ids)
                   SELECT :job_id, range_agg(int8range(id, id, '[]')) FROM unnest(CAST(:ids AS bigint[])) AS id"""
            ),
            {"job_id": job_id, "ids": list(image_ids)},
        )


def lock_job(session: Session, job_id: int) -> int | None:
    """Lock a job as its listing does, whoever lists it. Return its archive; None: there is no such job."""
    locked = text("SELECT archive_id FROM job WHERE id = :id FOR UPDATE")
    archive_id = session.scalar(locked, {"id": job_id})
    return None if archive_id is None else int(archive_id)


def count_more(session: Session, job_id: int, *, listed: int, skipped: int) -> None:
    """Count images that came to a job beside its listing. The caller has locked the job."""
    session.execute(
        text("UPDATE job SET listed = listed + :listed, skipped = skipped + :skipped WHERE id = :id"),
        {"id": job_id, "listed": listed, "skipped": skipped},
    )
    quotas.count_day(session, job_id, listed - skipped)


def retried(session: Session, job_id: int, image_ids: Sequence[int]) -> list[int]:
    """Return those of ``image_ids`` that failed in this job before."""
    failed = text("SELECT image_id FROM failure WHERE job_id = :job_id AND image_id = ANY(:ids)")
    return list(session.scalars(failed, {"job_id": job_id, "ids": list(image_ids)}))


def known_to(session: Session, job_id: int, image_ids: Sequence[int]) -> set[int]:
    """Return those of ``image_ids`` that are in a job already, to be done or skipped. All of its shards are read."""
    found = text(
        """SELECT asked.id FROM unnest(CAST(:ids AS bigint[])) AS asked (id) WHERE asked.id IN (
               SELECT unnest(image_ids) FROM shard WHERE job_id = :job_id)
           OR EXISTS (SELECT FROM skip WHERE skip.job_id = :job_id AND skip.image_ids @> asked.id)"""
    )
    return set(session.scalars(found, {"job_id": job_id, "ids": list(image_ids)}))


def name_first(session: Session, job_id: int, image_ids: Sequence[int]) -> set[int]:
    """Return those of ``image_ids`` that the job's manifest had not named before, and remember them."""
    rows = session.execute(
        text(
            """INSERT INTO naming (job_id, image_id) SELECT :job_id, unnest(CAST(:ids AS bigint[]))
               ON CONFLICT DO NOTHING RETURNING image_id"""
        ),
        {"job_id": job_id, "ids": list(image_ids)},
    )
    return set(rows.scalars())


def name(session: Session, job_id: int, image_ids: Sequence[int]) -> None:
    """Record which images a job works on, before it lists them. They may be very many: nothing else is kept of them."""
    session.execute(
        text("INSERT INTO naming (job_id, image_id) SELECT :job_id, unnest(CAST(:ids AS bigint[]))"),
        {"job_id": job_id, "ids": list(image_ids)},
    )


def forget_named(session: Session, job_id: int) -> None:
    """Delete what ``name_first`` or ``name`` recorded: all of it is in shards now."""
    session.execute(text("DELETE FROM naming WHERE job_id = :job_id"), {"job_id": job_id})


def count_there(session: Session, archive_id: int, prefix: str) -> int:
    """Return how many images below a prefix of an archive existed when it was last listed."""
    there = ["archive_id = :archive_id", "missing_since IS NULL", *_below(prefix)]
    count = session.scalar(
        text(f"SELECT count(*) FROM image WHERE {' AND '.join(there)}"),  # noqa: S608  (built from constants)
        {"archive_id": archive_id, "prefix": prefix.strip("/")},
    )
    return int(count or 0)


def _below(prefix: str) -> list[str]:
    """Return the conditions on a key that is ``prefix`` or below it; none for the whole archive.

    Contains only the bounds that apply. With an "or none" in it, a prepared statement would read the whole archive.
    """
    return (
        ["key >= :prefix", "key < :prefix || '0'", "(key = :prefix OR key >= :prefix || '/')"]
        if prefix.strip("/")
        else []
    )


def ask_whether_gone(session: Session, job_id: int, note: str) -> bool:
    """Pause a job whose listing found nothing, to ask a person. Return False if it was already resumed after that."""
    return bool(
        session.scalar(
            text(
                """UPDATE job SET state = 'paused', note = :note, found_nothing_at = now(), list_lease_until = NULL
                   WHERE id = :id AND found_nothing_at IS NULL RETURNING true"""
            ),
            {"id": job_id, "note": note},
        )
    )


def mark_missing(  # noqa: PLR0913  (the bounds of a range)
    session: Session,
    archive_id: int,
    prefix: str,
    after: str | None,
    until: str | None,
    ignored: Sequence[ObjectInfo] = (),
    *,
    job_id: int | None = None,
) -> int:
    """Mark the known keys of a range of a listing that were not found. Return how many.

    Keys in a folder that could not be read are not marked: their state is unknown. Keys that the job leaves out stay as
    they are. Pages of files are not listed: they are missing if their file is.

    Args:
        session: has the page of the range in the temporary table ``listed`` (see ``images.upsert_page``).
        archive_id: the listed archive.
        prefix: the listed part: this key and those below it.
        after: the last key of the previous page; None at the beginning.
        until: the last key of the page; None at the end of the listing.
        ignored: keys of the page that are left out.
        job_id: the job that lists. What another job found since this one began may be newer than this listing.
    """
    bounds = [
        "key > :after" if after is not None else "",
        "key <= :until" if until is not None else "",
        *_below(prefix),
        "key <> ALL(CAST(:ignored AS text[]))" if ignored else "",
        "NOT EXISTS (SELECT FROM unnest(CAST(:folders AS text[])) AS f (name) WHERE starts_with(key, f.name))"
        if (folders := [info.key for info in ignored if info.stands_for_all])
        else "",
        "listed_at <= (SELECT started_at FROM job WHERE id = :job_id)" if job_id is not None else "",
    ]
    within = " AND ".join(filter(None, bounds)) or "true"
    result = session.execute(
        text(
            f"""
            WITH gone AS MATERIALIZED (
                SELECT id, key, version FROM image
                WHERE archive_id = :archive_id AND missing_since IS NULL AND {within}
                  AND NOT EXISTS (SELECT FROM listed WHERE listed.key = image.key)
            )
            UPDATE image SET missing_since = now() FROM gone
            WHERE image.id = gone.id AND NOT EXISTS (
                -- Looked up by name; OFFSET keeps it from becoming a join, which would read all keys of the archive.
                SELECT FROM image AS folder
                WHERE folder.archive_id = :archive_id AND folder.version = :unreadable AND folder.key = ANY (ARRAY(
                    SELECT array_to_string(parts[1:depth], '/') || '/'
                    FROM string_to_array(gone.key, '/') AS parts, generate_series(1, cardinality(parts) - 1) AS depth
                ))
                OFFSET 0
            ) AND NOT ({IS_PAGE} AND EXISTS (
                SELECT FROM image AS file WHERE file.archive_id = :archive_id AND file.key = {FILE_KEY}
                  AND file.missing_since IS NULL AND file.id NOT IN (SELECT id FROM gone)
                OFFSET 0
            ))
            """  # noqa: S608  (built from constants)
        ),
        {
            "archive_id": archive_id,
            "prefix": prefix.strip("/"),
            "after": after,
            "until": until,
            "unreadable": UNREADABLE_VERSION,
            "ignored": [info.key for info in ignored],
            "folders": folders,
            "job_id": job_id,
        },
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult

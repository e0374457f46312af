"""Listings: which one a worker continues, and what they record besides the images: skipped, named, missing images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import limit_idleness
from storage.errors import RamqError
from storage.ledger import quotas
from storage.ledger.claims import ABLE
from storage.ledger.ranges import IS_FREE
from storage.ledger.turns import OTHERS_EVERY, OWNER
from storage.objects.ignoring import Selection
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.ledger.waiting import Able


class ListingLostError(RamqError):
    """Another planner now holds this range of a listing, or the job was paused or cancelled. Nothing was written."""

    code = "fenced"


@dataclass(frozen=True, slots=True)
class ClaimedListing:
    """A job, and a range of its keys that has to be listed: after ``cursor``, up to and including ``until``."""

    job_id: int
    range_id: int
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
    until: str | None = None
    is_disordered: bool = False
    """Whether the store is known to list keys in another order than that of their bytes."""

    @property
    def selection(self) -> Selection:
        """Which keys of the source are listed."""
        return Selection(tuple(self.include), tuple(self.exclude), has_defaults=self.has_defaults)


# When each job, and each user's jobs, were listed last; now, if one is being listed. And how many ranges were claimed
# for open jobs.
_LISTED = f"""
    listed AS MATERIALIZED (
        SELECT job.id, {OWNER} AS owner, sum(part.epoch) AS epochs,
            max(CASE WHEN part.lease_until > now() THEN now() ELSE least(part.next_at, now()) END) AS last_at
        FROM job JOIN listing_range AS part ON part.job_id = job.id WHERE job.state = 'running' GROUP BY job.id
    ),
    listed_of AS MATERIALIZED (SELECT owner, max(last_at) AS last_at FROM listed GROUP BY owner),
    steps AS MATERIALIZED (SELECT coalesce(sum(epochs), 0)::bigint AS n FROM listed)
"""  # noqa: S608  (a constant)


def claim(
    session: Session,
    *,
    loaded: Sequence[str],
    is_begun: bool,
    lease_seconds: float,
    able: Able = ABLE,
    opened: Sequence[int] = (),
) -> ClaimedListing | None:
    """Lease a range of the most urgent job that is not listed completely.

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
        opened: ranges of which this planner has read ahead. Of the ranges of a job these are claimed first.
    """
    full_owners, full_archives = quotas.without_room(session)
    row = session.execute(
        text(
            f"""
            WITH {_LISTED}, candidate AS (
                SELECT part.id FROM listing_range AS part JOIN job ON job.id = part.job_id
                JOIN archive AS place ON place.id = job.archive_id
                CROSS JOIN steps JOIN listed ON listed.id = job.id JOIN listed_of ON listed_of.owner = listed.owner
                WHERE state = 'running' AND listed_all_at IS NULL AND part.done_at IS NULL AND stage = ANY(:stages)
                  AND (with_job_id IS NULL OR generation_id IS NULL)
                  AND model <> ALL(CAST(:barred_models AS text[]))
                  AND (place.uri <> ALL(CAST(:barred_archives AS text[])) OR from_generation_id IS NOT NULL)
                  AND (CAST(:models AS text[]) IS NULL OR stage <> :recognition OR model = ANY(:models))
                  AND (generation_id IS NOT NULL
                       OR (vocabulary_id IS NULL AND stage = :recognition
                           AND model = ANY(CAST(:loaded AS text[])))) = :is_begun
                  AND {IS_FREE}
                  AND (with_job_id IS NOT NULL OR ({OWNER} <> ALL(CAST(:full_owners AS text[]))
                       AND place.uri <> ALL(CAST(:full_archives AS text[]))))
                ORDER BY CASE WHEN steps.n % {OTHERS_EVERY} <> {OTHERS_EVERY - 1} THEN -priority END,
                    listed_of.last_at NULLS FIRST, listed.last_at NULLS FIRST, job.id,
                    part.id <> ALL(CAST(:opened AS bigint[])), part.cursor NULLS FIRST
                LIMIT 1 FOR UPDATE OF part SKIP LOCKED
            )
            UPDATE listing_range AS part SET epoch = part.epoch + 1, attempts = part.attempts + 1,
                lease_until = now() + make_interval(secs => :lease_seconds)
            FROM candidate, job, archive
            WHERE part.id = candidate.id AND job.id = part.job_id AND archive.id = job.archive_id
            RETURNING job.id AS job_id, part.id AS range_id, part.epoch, part.attempts, job.archive_id,
                archive.uri AS archive_uri, job.source, job.manifest_version, job.prefix, part.cursor, part.until,
                job.model, job.captioner, job.generation_id, job.features, job.vocabulary_id, job.from_generation_id,
                job.stage, job.with_job_id, job.query, job.options, job.include, job.exclude, job.has_defaults,
                job.of_keys, job.trace, archive.disordered_at IS NOT NULL AS is_disordered
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
            "opened": list(opened),
        },
    ).one_or_none()
    if row is None:
        return None
    claimed = ClaimedListing(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)
    begun = text("UPDATE job SET started_at = now() WHERE id = :id AND started_at IS NULL")
    session.execute(begun, {"id": claimed.job_id})
    return claimed


def require(session: Session, listing: ClaimedListing) -> None:
    """Lock a range of a listing if this planner still holds it. Raises ``ListingLostError``.

    The job is not locked: planners that list other ranges of it do not wait. See ``lock_running``.
    """
    limit_idleness(session)
    held = session.scalar(
        text(
            """SELECT true FROM listing_range AS part JOIN job ON job.id = part.job_id
               WHERE part.id = :id AND part.epoch = :epoch AND part.done_at IS NULL
                 AND job.state = 'running' AND job.listed_all_at IS NULL FOR UPDATE OF part"""
        ),
        {"id": listing.range_id, "epoch": listing.epoch},
    )
    if not held:
        raise _lost(listing)


def lock_running(session: Session, listing: ClaimedListing) -> None:
    """Lock the job of a listing, to count what the transaction recorded. Raises ``ListingLostError``.

    What takes long is done before: until the commit other planners of the job wait here.
    """
    running = text("SELECT true FROM job WHERE id = :id AND state = 'running' AND listed_all_at IS NULL FOR UPDATE")
    if not session.scalar(running, {"id": listing.job_id}):
        raise _lost(listing)


def _lost(listing: ClaimedListing) -> ListingLostError:
    return ListingLostError(f"the listing of job {listing.job_id} was taken over, paused or cancelled")


def advance(
    session: Session, listing: ClaimedListing, *, cursor: str, listed: int, skipped: int, lease_seconds: float
) -> None:
    """Count a page and move the cursor after it, in the transaction that holds the range and the job.

    A note stays while another range waits for what it is about.
    """
    session.execute(
        text(
            """WITH moved AS (
                   UPDATE listing_range SET cursor = :cursor, attempts = 0,
                       lease_until = now() + make_interval(secs => :lease_seconds) WHERE id = :range_id
               )
               UPDATE job SET listed = listed + :listed, skipped = skipped + :skipped,
                   note = CASE WHEN EXISTS (SELECT FROM listing_range AS other WHERE other.job_id = job.id
                                            AND other.done_at IS NULL AND other.next_at > now()) THEN note END
               WHERE id = :id"""
        ),
        {
            "id": listing.job_id,
            "range_id": listing.range_id,
            "cursor": cursor,
            "listed": listed,
            "skipped": skipped,
            "lease_seconds": lease_seconds,
        },
    )
    quotas.count_day(session, listing.job_id, listed - skipped)


def renew(session: Session, listing: ClaimedListing, *, lease_seconds: float) -> None:
    """Extend the lease of a range without a page, in the transaction that ``require`` guards."""
    session.execute(
        text(
            """UPDATE listing_range SET lease_until = now() + make_interval(secs => :lease_seconds), attempts = 0
               WHERE id = :id"""
        ),
        {"id": listing.range_id, "lease_seconds": lease_seconds},
    )


def give_back(session: Session, listing: ClaimedListing) -> None:
    """Release a range to another worker as if it had not been claimed: this one is unfit for it, or the job paused."""
    session.execute(
        text(
            """UPDATE listing_range SET lease_until = NULL, attempts = greatest(attempts - 1, 0)
               WHERE id = :id AND epoch = :epoch AND done_at IS NULL"""
        ),
        {"id": listing.range_id, "epoch": listing.epoch},
    )


def release(session: Session, listing: ClaimedListing, *, delay_seconds: float = 0.0) -> None:
    """Release a range, to be continued after a delay."""
    session.execute(
        text(
            """UPDATE listing_range SET lease_until = NULL, next_at = now() + make_interval(secs => :delay_seconds)
               WHERE id = :id AND epoch = :epoch AND done_at IS NULL"""
        ),
        {"id": listing.range_id, "epoch": listing.epoch, "delay_seconds": delay_seconds},
    )


def is_last(session: Session, listing: ClaimedListing) -> bool:
    """Return whether all other ranges of a job are listed, in the transaction that holds the job."""
    others = "SELECT FROM listing_range WHERE job_id = :job_id AND id <> :id AND done_at IS NULL"
    values = {"job_id": listing.job_id, "id": listing.range_id}
    return not session.scalar(text(f"SELECT EXISTS ({others})"), values)


def end(session: Session, listing: ClaimedListing) -> bool:
    """Mark a range as listed, in the transaction that holds it and the job.

    Return whether it was the last one of the job, which then is listed completely.
    """
    done = "UPDATE listing_range SET lease_until = NULL, done_at = now(), next_at = now() WHERE id = :id"
    session.execute(text(done), {"id": listing.range_id})
    # The lock of the job keeps two ranges from ending without seeing each other.
    is_over = text(
        """UPDATE job SET listed_all_at = now() WHERE id = :id AND NOT EXISTS (
               SELECT FROM listing_range WHERE job_id = :id AND done_at IS NULL) RETURNING true"""
    )
    return bool(session.scalar(is_over, {"id": listing.job_id}))


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


def archive_of(session: Session, job_id: int) -> int | None:
    """Return the archive of a job; None: there is no such job."""
    archive_id = session.scalar(text("SELECT archive_id FROM job WHERE id = :id"), {"id": job_id})
    return None if archive_id is None else int(archive_id)


def lock_job(session: Session, job_id: int) -> None:
    """Lock a job as its listing does, after its archive, whoever lists it."""
    session.execute(text("SELECT FROM job WHERE id = :id FOR UPDATE"), {"id": job_id})


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

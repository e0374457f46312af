"""Quotas: how much users, tokens and archives may use, and how much they use now.

A user without a quota of their own has that of ``default``. An archive has only its own. What is counted:

* images in flight: those of running and paused jobs that no worker has finished. Jobs that follow the listing of
  another one count with that one while it runs or is paused, and by themselves once it has ended.
* images a day: those that listings gave to workers since midnight UTC.
* jobs at once: running and paused ones, without those that count with another one.

Listings stop while a quota of images is used up, so nothing that was enqueued is lost. A page is recorded while less
than the quota is used, so it may be exceeded by less than a page. Pages of files come when a worker has opened the
file. They are counted, but nothing refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from sqlalchemy import text

from storage.database import wait_for_lock
from storage.errors import ConflictError, RamqError
from storage.ledger.turns import OWNER
from storage.ledger.views import PRIORITY_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.ledger.views import Priority

Kind = Literal["images_waiting", "images_a_day", "jobs_at_once", "highest_priority", "searches_per_second", "share"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Subject = Literal["default", "user", "token", "archive"]

_ADMISSION_LOCK = 7_263_781
_ROOM_LOCKS = {"user": 7_263_782, "archive": 7_263_783}


class QuotaError(ConflictError):
    """A quota does not allow a new job. Nothing was registered.

    Attributes:
        quota: which one, and how much of it is used.
    """

    code = "quota"

    def __init__(self, message: str, quota: Full) -> None:
        super().__init__(message)
        self.quota = quota


class NoRoomError(RamqError):
    """A quota of images is used up, so a page of a listing was not recorded. The listing goes on when there is room."""

    code = "no_room"


@dataclass(frozen=True, slots=True)
class QuotaView:
    """A quota. ``amount``: None: no limit; of ``highest_priority``: the priority's number (``views.PRIORITIES``)."""

    kind: Kind
    subject: Subject
    name: str
    amount: float | None

    @property
    def shown(self) -> float | Priority | None:
        """The amount as people write it: a priority by its name."""
        if self.kind != "highest_priority" or self.amount is None:
            return self.amount
        return PRIORITY_NAMES[int(self.amount)]


class Full(NamedTuple):
    """A quota that is used up, of a user or an archive.

    Attributes:
        amount: the quota.
        used: how much of it is used.
        paused: of images in flight, how many are in paused jobs.
        paused_job: the first of these jobs.
    """

    kind: Kind
    subject: Subject
    name: str
    amount: float
    used: float
    paused: int = 0
    paused_job: int | None = None

    def is_of(self, owner: str, archive_uri: str) -> bool:
        """Return whether it is that of this user or archive."""
        return self.name == (owner if self.subject == "user" else archive_uri)

    @property
    def reason(self) -> str:
        """What a person should know: what the quota is, whose, how much of it is used, and when it is free again."""
        most, used = f"{self.amount:,.0f}", f"{self.used:,.0f}"
        if self.kind == "images_waiting":
            told = f"{most} images in flight are the most for {self.name}; {used} are"
            if not self.paused:
                return f"{told}. It goes on as they are done"
            return (
                f"{told}, {self.paused:,} of them in paused jobs, such as job {self.paused_job}. "
                "It goes on as images are done, or when paused jobs are resumed or cancelled"
            )
        if self.kind == "images_a_day":
            return f"{most} images a day are the most for {self.name}; {used} were today. It goes on at midnight UTC"
        if self.kind == "jobs_at_once":
            jobs = "job" if self.amount == 1 else "jobs"
            return (
                f"{most} {jobs} at once are the most for {self.name}; {used} run or are paused. "
                "Wait until one ends, or cancel one"
            )
        return f"the highest priority for {self.name} is {PRIORITY_NAMES[int(self.amount)]}"


# The quotas themselves -------------------------------------------------------------------------------------------


def every(session: Session) -> list[QuotaView]:
    """Return the quotas: those of everybody first."""
    rows = session.execute(
        text("SELECT kind, subject, name, amount FROM quota ORDER BY subject <> 'default', subject, name, kind")
    )
    return [QuotaView(**row) for row in rows.mappings()]


def put(session: Session, quota: QuotaView) -> None:
    """Set a quota."""
    session.execute(
        text(
            """INSERT INTO quota (kind, subject, name, amount) VALUES (:kind, :subject, :name, :amount)
               ON CONFLICT (kind, subject, name) DO UPDATE SET amount = excluded.amount"""
        ),
        {"kind": quota.kind, "subject": quota.subject, "name": quota.name, "amount": quota.amount},
    )


def drop(session: Session, kind: Kind, subject: Subject, name: str) -> QuotaView | None:
    """Remove a quota and return it; None: there is none."""
    row = session.execute(
        text(
            """DELETE FROM quota WHERE kind = :kind AND subject = :subject AND name = :name
               RETURNING kind, subject, name, amount"""
        ),
        {"kind": kind, "subject": subject, "name": name},
    ).one_or_none()
    return None if row is None else QuotaView(**row._mapping)  # noqa: SLF001  (SQLAlchemy's documented name)


def rename(session: Session, old: str, new: str) -> None:
    """Let what counts for a user count for the user's new name."""
    names = {"old": old, "new": new}
    for statement in (
        "UPDATE quota SET name = :new WHERE subject = 'user' AND name = :old",
        "UPDATE day_use SET owner = :new WHERE owner = :old",
        f"UPDATE job SET counts_for = :new WHERE {OWNER} = :old AND state <> 'done'",  # noqa: S608  (a constant)
        """UPDATE watch SET asks = jsonb_set(asks, '{said_by}', to_jsonb(CAST(:new AS text)))
           WHERE asks->>'said_by' = :old""",
        # After the jobs, as a shard that ends locks them.
        "UPDATE turn SET owner = :new WHERE owner = :old",
    ):
        session.execute(text(statement), names)


def is_known(session: Session, user: str) -> bool:
    """Return whether there is a user of this name, or jobs that count for one."""
    known = text(
        f"""SELECT EXISTS (SELECT FROM account WHERE name = :name AND removed_at IS NULL)
            OR EXISTS (SELECT FROM job WHERE {OWNER} = :name)"""  # noqa: S608  (a constant)
    )
    return bool(session.scalar(known, {"name": user}))


def rename_archive(session: Session, old: str, new: str) -> None:
    """Let the quotas of an archive be those of its new URI."""
    session.execute(
        text("UPDATE quota SET name = :new WHERE subject = 'archive' AND name = :old"), {"old": old, "new": new}
    )


# What is used ----------------------------------------------------------------------------------------------------

_TODAY = "(now() AT TIME ZONE 'UTC')::date"

COUNTS_WITH_ANOTHER = """EXISTS (
    SELECT FROM job AS other WHERE other.id = job.with_job_id AND other.state IN ('running', 'paused'))"""
"""Whether a job follows one that has not ended, and so counts with that one."""

_IN_FLIGHT = "(listed - skipped - done - failed)"

USED = f"""
    open_job AS MATERIALIZED (
        SELECT {OWNER} AS owner, archive_id, sum({_IN_FLIGHT})::bigint AS images, count(*) AS jobs,
            sum({_IN_FLIGHT}) FILTER (WHERE state = 'paused') AS paused,
            min(id) FILTER (WHERE state = 'paused' AND {_IN_FLIGHT} > 0) AS paused_job
        FROM job WHERE state IN ('running', 'paused') AND NOT {COUNTS_WITH_ANOTHER} GROUP BY 1, 2
    ),
    used AS (
        SELECT 'images_waiting' AS kind, owner, archive_id, images AS n, paused, paused_job FROM open_job
        UNION ALL SELECT 'jobs_at_once', owner, archive_id, jobs, NULL, NULL FROM open_job
        UNION ALL SELECT 'images_a_day', owner, archive_id, images, NULL, NULL FROM day_use WHERE day = {_TODAY}
    ),
    used_by AS (
        SELECT kind, 'user' AS subject, owner AS name, sum(n)::bigint AS n, sum(paused)::bigint AS paused,
            min(paused_job) AS paused_job FROM used GROUP BY kind, owner
        UNION ALL
        SELECT kind, 'archive', archive.uri, sum(n)::bigint, sum(paused)::bigint, min(paused_job)
        FROM used JOIN archive ON archive.id = used.archive_id GROUP BY kind, archive.uri
    )
"""  # noqa: S608  (constants)
"""Use by user and by archive. Every open job is looked at, and no shard. The images of shards that are not closed
count, those in a batch, too."""

# A quota of 0 is full even if nothing was used: then there is no row of use.
_FULL = f"""
    WITH {USED}, named AS (
        SELECT DISTINCT kind, 'user' AS subject, owner AS name FROM (VALUES ('images_waiting'), ('images_a_day'),
            ('jobs_at_once')) AS each (kind), (SELECT owner FROM open_job UNION SELECT CAST(:owner AS text)) AS known
        WHERE owner IS NOT NULL
        UNION SELECT kind, subject, name FROM quota WHERE subject = 'archive'
    ), limited AS (
        SELECT named.*, CASE WHEN own.kind IS NOT NULL THEN own.amount ELSE everybody.amount END AS amount FROM named
        LEFT JOIN quota AS own
            ON own.kind = named.kind AND own.subject = named.subject AND own.name = named.name
        LEFT JOIN quota AS everybody
            ON everybody.kind = named.kind AND everybody.subject = 'default' AND named.subject = 'user'
    )
    SELECT limited.*, coalesce(n, 0) AS used, coalesce(paused, 0) AS paused, paused_job FROM limited
    LEFT JOIN used_by USING (kind, subject, name)
    WHERE kind = ANY(:kinds) AND coalesce(n, 0) >= amount
    ORDER BY kind DESC, subject DESC, name
"""  # noqa: S608  (constants)


def _full(session: Session, kinds: Sequence[Kind], owner: str | None = None) -> list[Full]:
    """Return the quotas of these kinds that are used up, of users with open jobs, of ``owner`` and of archives."""
    rows = session.execute(text(_FULL), {"kinds": list(kinds), "owner": owner})
    return [Full(**row) for row in rows.mappings()]


def _are_any(session: Session, kinds: Sequence[Kind]) -> bool:
    limited = text("SELECT EXISTS (SELECT FROM quota WHERE kind = ANY(:kinds) AND amount IS NOT NULL)")
    return bool(session.scalar(limited, {"kinds": list(kinds)}))


# What a quota refuses, or lets wait -------------------------------------------------------------------------------


def require_job(session: Session, owner: str, archive_uri: str, priority: int) -> None:
    """Check that a user may have another job, of this priority. No other one is admitted before the commit.

    Raises:
        QuotaError: a quota does not allow it.
    """
    require_priority(session, owner, priority)
    if not _are_any(session, ("jobs_at_once",)):
        return
    # One lock for all users: a request may start jobs on several archives, in any order.
    wait_for_lock(session, _ADMISSION_LOCK)
    for each in _full(session, ("jobs_at_once",), owner):
        if each.is_of(owner, archive_uri):
            raise QuotaError(each.reason, each)


def require_priority(session: Session, owner: str, priority: int) -> None:
    """Check that a user may ask for this priority. Raises ``QuotaError``."""
    highest = highest_priority(session, owner)
    if priority > highest:
        refused = Full("highest_priority", "user", owner, highest, priority)
        raise QuotaError(f"{refused.reason}, so it cannot be {PRIORITY_NAMES[priority]}", refused)


def highest_priority(session: Session, owner: str) -> int:
    """Return the highest priority that a user may ask for, as its number."""
    amount = session.scalar(
        text(
            """SELECT amount FROM quota WHERE kind = 'highest_priority'
               AND (subject = 'default' OR (subject = 'user' AND name = :owner)) ORDER BY subject DESC LIMIT 1"""
        ),
        {"owner": owner},
    )
    return max(PRIORITY_NAMES) if amount is None else int(amount)


_IMAGES: tuple[Kind, Kind] = ("images_waiting", "images_a_day")


def images_full(session: Session) -> list[Full]:
    """Return the quotas of images that are used up: listings of their users and archives have to wait."""
    return _full(session, _IMAGES) if _are_any(session, _IMAGES) else []


def without_room(session: Session) -> tuple[list[str], list[str]]:
    """Return the users and the archives whose listings have to wait, since a quota of images is used up."""
    found = images_full(session)
    return (
        [one.name for one in found if one.subject == "user"],
        [one.name for one in found if one.subject == "archive"],
    )


def require_room(session: Session, job_id: int) -> None:
    """Check that a page may be recorded, in its transaction. Pages of the same user, or archive, then come after it.

    Raises:
        NoRoomError: a quota of images is used up.
    """
    if not _are_any(session, _IMAGES):
        return
    job = session.execute(
        text(
            f"""SELECT {OWNER} AS owner, archive.uri, hashtext({OWNER}) AS of_owner, archive.id AS of_archive
                FROM job JOIN archive ON archive.id = job.archive_id WHERE job.id = :id"""  # noqa: S608  (a constant)
        ),
        {"id": job_id},
    ).one()
    # Always in this order, so that two pages never wait for each other.
    for subject, number in (("user", job.of_owner), ("archive", job.of_archive)):
        session.execute(
            text("SELECT pg_advisory_xact_lock(:lock, :number)"), {"lock": _ROOM_LOCKS[subject], "number": number}
        )
    for each in _full(session, _IMAGES, job.owner):
        if each.is_of(job.owner, job.uri):
            raise NoRoomError(each.reason)


def count_day(session: Session, job_id: int, images: int) -> None:
    """Count images that were given to workers: by a page of a listing, or since their file was opened."""
    if not images:
        return
    session.execute(
        text(
            f"""WITH forgotten AS (DELETE FROM day_use WHERE day < {_TODAY} - 1)
                INSERT INTO day_use (day, owner, archive_id, images)
                SELECT {_TODAY}, {OWNER}, archive_id, :images FROM job WHERE id = :id AND with_job_id IS NULL
                ON CONFLICT (day, owner, archive_id) DO UPDATE SET images = day_use.images + excluded.images"""  # noqa: S608
        ),
        {"id": job_id, "images": images},
    )

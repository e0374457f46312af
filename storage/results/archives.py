"""Archives: register them, and find the one that a text names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from storage.errors import ConflictError, NotFoundError, UsageError
from storage.objects.source import Source, parse_source
from storage.results.views import ArchiveView
from storage.tables import Archive, Image, Job
from storage.texts import id_in, is_storable, other_forms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session


def ensure(session: Session, source: Source) -> tuple[Archive, str]:
    """Return the archive that contains ``source``, registering it if there is none, and the prefix of the keys in it.

    A source below a known archive belongs to that archive. This keeps an object from being recorded twice.
    """
    if found := _containing(session, source):
        return found
    session.execute(insert(Archive).values(uri=source.uri).on_conflict_do_nothing())
    archive = session.scalars(select(Archive).where(Archive.uri == source.uri)).one()
    return archive, source.prefix


def resolve(session: Session, text: str) -> tuple[int, str]:
    """Return the id of the archive that ``text`` (its URI, a URI below it, or its id) names, and a key prefix.

    Raises:
        NotFoundError: there is none; the message lists the known archives.
    """
    if text.isdecimal():
        numbered = _numbered(session, text)
        if numbered is not None:
            return numbered.id, ""
    else:
        forms = map(parse_source, (text, *other_forms(text)))
        found = next((found for form in forms if (found := _containing(session, form))), None)
        if found is not None:
            archive, prefix = found
            whole = prefix == parse_source(archive.uri).prefix
            return archive.id, "" if whole else f"{prefix}/"
    known = session.scalars(select(Archive.uri).order_by(Archive.id).limit(10)).all()
    raise NotFoundError(f"there is no archive {text!r}; known archives: {', '.join(known) or 'none'}")


def resolve_all(session: Session, text: str) -> list[tuple[int, str]]:
    """Return the result of ``resolve``; or, if ``text`` is the last part of archives' URIs, all these archives.

    A number that is an archive's id means that archive, even if URIs end in it (such as folders named by year).

    Raises:
        NotFoundError: it names no archive.
    """
    if text and "/" not in text and is_storable(text) and _numbered(session, text) is None:
        named = session.scalars(select(Archive).where(Archive.uri.endswith(f"/{text}", autoescape=True))).all()
        if named:
            return [(archive.id, "") for archive in named]
    return [resolve(session, text)]


def _numbered(session: Session, text: str) -> Archive | None:
    """Return the archive with the id ``text``."""
    archive_id = id_in(text, below=2**31)
    return None if archive_id is None else session.get(Archive, archive_id)


def _containing(session: Session, source: Source) -> tuple[Archive, str] | None:
    """Return the smallest archive that contains ``source``, and the prefix of the source's keys in it."""
    scheme = source.uri.partition("://")[0] + "://"
    candidates = session.scalars(select(Archive).where(Archive.uri.startswith(scheme, autoescape=True))).all()
    holders = [archive for archive in candidates if parse_source(archive.uri).contains(source)]
    if not holders:
        return None
    archive = max(holders, key=lambda holder: len(holder.uri))
    return archive, source.key_prefix_in(parse_source(archive.uri))


def ids(session: Session) -> Sequence[int]:
    """Return the id of every archive, oldest first."""
    return session.scalars(select(Archive.id).order_by(Archive.id)).all()


def every(session: Session) -> Sequence[Archive]:
    """Return every archive, oldest first."""
    return session.scalars(select(Archive).order_by(Archive.id)).all()


def uri(session: Session, archive_id: int) -> str:
    """Return the URI of an archive that is there."""
    return session.get_one(Archive, archive_id).uri


def whole(session: Session, text: str) -> int:
    """Return the id of the archive that ``text`` names.

    Raises:
        NotFoundError: there is none.
        UsageError: it names a part of an archive.
    """
    archive_id, prefix = resolve(session, text)
    if prefix:
        raise UsageError(f"{text} is only a part of archive {archive_id}: name a whole archive")
    return archive_id


def some_keys(session: Session, archive_id: int, limit: int) -> dict[str, str]:
    """Return keys of images that existed when the archive was last listed, each with its version then."""
    there = select(Image.key, Image.version).where(Image.archive_id == archive_id, Image.missing_since.is_(None))
    return {row.key: row.version for row in session.execute(there.limit(limit))}


def require_no_open_job(session: Session, archive_id: int) -> None:
    """Raise ``ConflictError`` while a job on the archive is running or paused."""
    job_id = session.scalar(
        select(Job.id).where(Job.archive_id == archive_id, Job.state.in_(("running", "paused"))).limit(1)
    )
    if job_id is not None:
        raise ConflictError(f"job {job_id} on this archive has not ended: wait for it, or `ramq cancel {job_id}`")


def rename(session: Session, archive_id: int, uri: str) -> None:
    """Change the address of an archive. Raises ``ConflictError`` if another one has it, or a job is open."""
    archive = session.get_one(Archive, archive_id, with_for_update=True)
    require_no_open_job(session, archive_id)
    other = session.scalar(select(Archive.id).where(Archive.uri == uri, Archive.id != archive_id))
    if other is not None:
        raise ConflictError(f"archive {other} already has the address {uri}")
    archive.uri = uri
    session.flush()


def remove(session: Session, archive_id: int) -> None:
    """Remove an archive without images, with its jobs and rules. Deletions stay, but no longer refer to it.

    Raises:
        ConflictError: a job on it is open, or has added images meanwhile.
    """
    # A new job on the archive waits for this lock, and then finds no archive.
    session.execute(text("SELECT FROM archive WHERE id = :id FOR UPDATE"), {"id": archive_id})
    require_no_open_job(session, archive_id)
    if session.scalar(select(Image.id).where(Image.archive_id == archive_id).limit(1)) is not None:
        raise ConflictError(f"images were added to archive {archive_id} meanwhile: remove it again")
    for table in ("listing_range", "shard", "skip", "ignored", "naming", "job_key", "failure", "notice", "job_request"):
        session.execute(
            text(f"DELETE FROM {table} WHERE job_id IN (SELECT id FROM job WHERE archive_id = :id)"),  # noqa: S608
            {"id": archive_id},
        )
    for statement in (
        "DELETE FROM job WHERE archive_id = :id",
        "DELETE FROM watch WHERE archive_id = :id",
        "DELETE FROM tag_policy WHERE archive_id = :id",
        "UPDATE deletion SET archive_id = NULL WHERE archive_id = :id",
        "DELETE FROM archive WHERE id = :id",
    ):
        session.execute(text(statement), {"id": archive_id})


_LOCK = 7_263_784


def lock(session: Session, archive_ids: Sequence[int]) -> None:
    """Keep others from adding, deleting or marking images of these archives until the transaction ends.

    Lock archives before images, and both before jobs.
    """
    for archive_id in sorted(set(archive_ids)):
        session.execute(text("SELECT pg_advisory_xact_lock(:lock, :id)"), {"lock": _LOCK, "id": archive_id})


def share(session: Session, archive_id: int, job_id: int) -> None:
    """Lock an archive as ``lock`` does, but let other planners of the same job list their ranges of it meanwhile.

    While another job lists the archive too, planners take turns: its pages may have the same keys in another order.
    """
    session.execute(
        text(
            """SELECT CASE WHEN EXISTS (
                   SELECT FROM job WHERE archive_id = :id AND id <> :job_id AND state = 'running'
                   AND listed_all_at IS NULL AND with_job_id IS NULL)
               THEN pg_advisory_xact_lock(:lock, :id) ELSE pg_advisory_xact_lock_shared(:lock, :id) END"""
        ),
        {"lock": _LOCK, "id": archive_id, "job_id": job_id},
    )


def is_disordered(session: Session, archive_id: int) -> bool:
    """Return whether the store of an archive is known to list keys in another order than that of their bytes."""
    return session.get_one(Archive, archive_id).disordered_at is not None


def note_disorder(session: Session, archive_id: int) -> None:
    """Remember that the store of an archive lists keys in another order than that of their bytes."""
    noted = text("UPDATE archive SET disordered_at = now() WHERE id = :id AND disordered_at IS NULL")
    session.execute(noted, {"id": archive_id})


def views(session: Session, recorded: Mapping[int, int]) -> list[ArchiveView]:
    """Return every archive with its counts, oldest first.

    Args:
        session: a transaction.
        recorded: how many images of each archive have a record; see ``VectorIndex.archive_counts``.
    """
    found = session.scalars(select(Archive).order_by(Archive.id))
    return [
        ArchiveView(
            archive.id, archive.uri, archive.images, recorded.get(archive.id, 0), archive.missing, archive.created_at
        )
        for archive in found
    ]

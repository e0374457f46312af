"""The generation that serves search, the one before it, and dropping generations.

A dropped generation keeps its row, because reports of old jobs name it. It is treated as missing until the same model
with the same vocabulary is used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text, update

from storage.database import wait_for_lock
from storage.errors import ConflictError, NotFoundError
from storage.results import crops, features, generations, partitions, read_words, readings, regions, vectors
from storage.results.erasures import IMAGES_AT_ONCE
from storage.results.generation_views import DropReport
from storage.results.spaces import SPACES
from storage.tables import RECOGNITION, Generation, Image, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


_INDEXED = {crops.STAGE: "crop", **dict.fromkeys(SPACES, "look")}
"""The table with the vectors of a further stage."""


def lock_default(session: Session) -> Generation | None:
    """Return the generation that serves search. Nobody else can change it until the transaction ends."""
    wait_for_lock(session, generations.DEFAULT_LOCK)
    return generations.default(session)


def use(session: Session, generation_id: int) -> None:
    """Make a generation serve search for its stage when this transaction commits. Call ``lock_default`` first.

    Raises:
        NotFoundError: there is no such generation.
    """
    stage = generations.get(session, generation_id, stage=None).stage
    others = update(Generation).where(Generation.is_default, Generation.stage == stage, Generation.id != generation_id)
    session.execute(others.values(is_default=False, served_until=func.clock_timestamp()))
    chosen = update(Generation).where(Generation.id == generation_id, Generation.dropped_at.is_(None))
    if not session.execute(chosen.values(is_default=True, served_until=None).returning(Generation.id)).all():
        raise NotFoundError(f"generation {generation_id} was just dropped")


def former(session: Session) -> int | None:
    """Return the generation of recognition that served before the current one; None if there is none any more."""
    return session.scalar(
        select(Generation.id)
        .where(
            Generation.served_until.is_not(None),
            Generation.dropped_at.is_(None),
            Generation.stage == RECOGNITION,
        )
        .order_by(Generation.served_until.desc())
        .limit(1)
    )


def open_jobs(session: Session) -> dict[int, int]:
    """Return, by generation, the number of running or paused jobs that record with it."""
    rows = session.execute(
        text(
            """SELECT generation_id, count(*) FROM job WHERE state IN ('running', 'paused')
               AND generation_id IS NOT NULL GROUP BY generation_id"""
        )
    )
    return {generation_id: int(n) for generation_id, n in rows}


def drop(session: Session, generation_id: int) -> DropReport:
    """Drop a generation: erase everything it recorded.

    Raises:
        NotFoundError: there is no such generation.
        ConflictError: it serves search, an open job records with it, or its index is being built.
    """
    stage = generations.get(session, generation_id, stage=None).stage
    # Search works without the results of a further stage, so its only generation may go too.
    was_default = _begin_erasing(session, generation_id)
    if was_default and stage == RECOGNITION:
        raise ConflictError(
            f"generation {generation_id} serves search: switch to another one first (`ramq generations use`)"
        )
    if stage != RECOGNITION:
        erased = partitions.results(session, stage, generation_id)
        with_vector = _forget_index(session, generation_id, _INDEXED[stage]) if stage in _INDEXED else 0
        if stage == regions.STAGE:
            regions.leave_out(session, generation_id)
        partitions.empty(session, generation_id, stage)
        if stage == readings.STAGE:
            read_words.forget_unused(session)
        session.execute(
            text("UPDATE generation SET dropped_at = now(), is_default = false WHERE id = :id"), {"id": generation_id}
        )
        if was_default:  # the newest one that is left serves search now
            session.execute(
                text(
                    """UPDATE generation SET is_default = true WHERE id = (
                       SELECT max(id) FROM generation WHERE stage = :stage AND dropped_at IS NULL)"""
                ),
                {"stage": stage},
            )
        return DropReport(generation_id, erased, vectors=with_vector, features=0)
    report = _empty(session, generation_id)
    values = {"id": generation_id}
    session.execute(text("UPDATE generation SET dropped_at = now(), served_until = NULL WHERE id = :id"), values)
    return report


def forget(session: Session, generation_id: int) -> DropReport:
    """Erase everything that a generation recorded, even if it serves search. It stays and can record again.

    Raises:
        NotFoundError: there is no such generation.
        ConflictError: an open job records with it, or its index is being built.
    """
    generations.get(session, generation_id)
    _begin_erasing(session, generation_id)
    return _empty(session, generation_id)


def forget_some(
    session: Session, generation_id: int, archive_id: int | None, prefixes: Sequence[str], after: int
) -> tuple[DropReport, int | None]:
    """Erase the results of a generation for the next few images whose keys begin with all of ``prefixes``.

    Args:
        session: a transaction.
        generation_id: whose results.
        archive_id: only those of this archive; None: of all.
        prefixes: prefixes of keys.
        after: the last image of the previous call; 0 at first.

    Returns:
        What was erased, and the last image; None if nothing was left to do.

    Raises:
        ConflictError: an open job records with it.
    """
    _begin_erasing(session, generation_id)
    chosen = (
        select(Image.id)
        .join(Record, (Record.image_id == Image.id) & (Record.generation_id == generation_id))
        .where(Image.id > after)
        .order_by(Image.id)
        .limit(IMAGES_AT_ONCE)
        .with_for_update(of=Image)
    )
    if archive_id is not None:
        chosen = chosen.where(Image.archive_id == archive_id)
    for prefix in prefixes:
        chosen = chosen.where(Image.key.startswith(prefix, autoescape=True))
    ids = list(session.scalars(chosen))
    erased = vectors.erase(session, ids, generation_id)
    counts = []
    for table in ("record", "feature"):
        statement = text(f"DELETE FROM {table} WHERE generation_id = :id AND image_id = ANY(:ids)")  # noqa: S608  (constants)
        counts.append(int(session.execute(statement, {"id": generation_id, "ids": ids}).rowcount))  # type: ignore[attr-defined]
    return DropReport(generation_id, counts[0], erased, features=counts[1]), ids[-1] if ids else None


def _begin_erasing(session: Session, generation_id: int) -> bool:
    """Keep batches from being written under a generation from now on. Return whether it serves search."""
    # A worker may still be about to write the last batch of a cancelled job: fence it off. Lock shards before the
    # generation, as a worker's transaction does.
    session.execute(
        text(
            """UPDATE shard SET state = 'ready', epoch = epoch + 1, owner = NULL, lease_until = NULL
               FROM job WHERE job.id = shard.job_id AND job.generation_id = :id AND shard.state = 'leased'"""
        ),
        {"id": generation_id},
    )
    is_default = session.scalar(select(Generation.is_default).where(Generation.id == generation_id).with_for_update())
    if open_ := open_jobs(session).get(generation_id):
        raise ConflictError(
            f"{open_} open job{'s' if open_ > 1 else ''} record with generation {generation_id}: cancel them or wait"
        )
    return bool(is_default)


def _empty(session: Session, generation_id: int) -> DropReport:
    """Erase all results of a generation of recognition, and the state of its index."""
    with_vector = _forget_index(session, generation_id, "vector")
    recorded = partitions.count(session, "record", generation_id)
    erased = features.erase_generation(session, generation_id)
    partitions.empty(session, generation_id)
    return DropReport(generation_id, recorded, with_vector, features=erased)


def _forget_index(session: Session, generation_id: int, table: str) -> int:
    """Forget the state of an index whose rows, in ``table``, are about to be erased. Return how many there are.

    Raises:
        ConflictError: it is being built.
    """
    if not vectors.lock_builder(session, generation_id, wait=False):
        raise ConflictError(f"the index of generation {generation_id} is being built: try again")
    vectors.forget_published(session, generation_id)
    return partitions.count(session, table, generation_id)

"""Vectors in the database, and what is published of them.

Rows of an index (``index_rows``) are selected by ``xid``, the transaction that wrote a row, and by snapshots. A
sequence would lose rows: a lower number may be committed after a higher one was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select, text

from storage.remembered import moment_of, remembered
from storage.results.packing import CODE, unpack_vectors
from storage.tables import SCORE_SCALE, Generation, IndexState, Tag, Vector

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

BUILDER_LOCK = 7_263_773
"""First key of the advisory lock of a generation's index builder. The second key is the generation's id."""

BUILDER_IDLE_SECONDS = 3600
"""How long a builder may be idle. A segment takes minutes, and a stopped process must not keep the lock."""


FORGOTTEN = 1_000_000
"""By how much the epoch of an index grows when its rows are erased all at once, which no list of erasures shows."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of one generation, selected by the transaction that wrote them: ``lo <= xid < hi``.

    Attributes:
        hi: None: no upper bound.
        unseen_in: exclude rows visible in this snapshot; its oldest running transaction is ``lo``.
    """

    generation_id: int
    lo: int = 0
    hi: int | None = None
    unseen_in: str | None = None

    def condition(self, alias: str) -> str:
        """Return the SQL condition. Its parameters are in ``values``."""
        parts = [f"{alias}.generation_id = %(generation_id)s", f"{alias}.xid >= %(lo)s::xid8"]
        if self.hi is not None:
            parts.append(f"{alias}.xid < %(hi)s::xid8")
        if self.unseen_in is not None:
            parts.append(f"NOT pg_visible_in_snapshot({alias}.xid, %(unseen_in)s::pg_snapshot)")
        return " AND ".join(parts)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of ``condition``. PostgreSQL has no cast from numbers to ``xid8``, hence the text."""
        hi = None if self.hi is None else str(self.hi)
        return {"generation_id": self.generation_id, "lo": str(self.lo), "hi": hi, "unseen_in": self.unseen_in}


@dataclass(frozen=True, slots=True)
class Pointer:
    """The published manifest; ``manifest`` 0: nothing is published yet."""

    manifest: int
    watermark: int
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Head:
    """A session's snapshot, and the published manifest that it sees.

    Attributes:
        snapshot: PostgreSQL's text form ``xmin:xmax:xip,…``. A standby does not list running transactions. There the
            text says that none has ended since the oldest running one, so a later read from it reads some rows again.
        is_exact: whether the same text always means the same rows.
        is_private: whether the session may see other rows than others do: it wrote something, or keeps one snapshot.
        epoch: number of builds of the index so far; ``FORGOTTEN`` more for each time that it was forgotten.
    """

    snapshot: str
    is_exact: bool
    is_private: bool
    pointer: Pointer
    epoch: int

    @property
    def xmin(self) -> int:
        """Every transaction below this one has ended, and its rows are visible."""
        return int(self.snapshot.partition(":")[0])


def head(session: Session, generation_id: int) -> Head:
    """Return the session's snapshot and the published manifest of a generation, in one query.

    A session that remembers what it looked up is asked for both as they were at its first statement.
    """
    moment = moment_of(session)
    if moment is not None:
        now = remembered(session, ("head", generation_id), lambda: head_now(session, generation_id))
        if now.snapshot == moment.snapshot:
            return now
    return head_now(session, generation_id)


def head_now(session: Session, generation_id: int) -> Head:
    """Return the same as it is now."""
    row = session.execute(
        text(
            """
            SELECT CASE WHEN pg_is_in_recovery() THEN format('%1$s:%1$s:', pg_snapshot_xmin(snapshot))
                    ELSE snapshot::text END AS snapshot,
                NOT pg_is_in_recovery() OR pg_snapshot_xmin(snapshot) = pg_snapshot_xmax(snapshot) AS is_exact,
                pg_current_xact_id_if_assigned() IS NOT NULL
                    OR current_setting('transaction_isolation') <> 'read committed' AS is_private,
                coalesce(state.manifest, 0) AS manifest, coalesce(state.watermark::text, '0') AS watermark,
                state.published_at, coalesce(state.epoch, 0) AS epoch
            FROM pg_current_snapshot() AS snapshot
            LEFT JOIN index_state AS state ON state.generation_id = :generation_id
            """
        ),
        {"generation_id": generation_id},
    ).one()
    pointer = Pointer(row.manifest, int(row.watermark), row.published_at if row.manifest else None)
    return Head(row.snapshot, row.is_exact, row.is_private, pointer, row.epoch)


def system_identifier(session: Session) -> str:
    """Return the identifier of this database cluster. A restored dump is in a cluster with another one."""
    return str(session.scalar(text("SELECT system_identifier FROM pg_control_system()")))


def vector_size(session: Session, generation_id: int) -> int | None:
    """Return the length of this generation's vectors; None if the generation does not exist."""
    return session.scalar(
        select(Generation.vector_size).where(Generation.id == generation_id, Generation.dropped_at.is_(None))
    )


def vector_of(session: Session, generation_id: int, image_id: int) -> NDArray[np.float32] | None:
    """Return the vector of one image as (D,); None if it has none."""
    packed = session.scalar(select(Vector.v).where(Vector.generation_id == generation_id, Vector.image_id == image_id))
    return None if packed is None else unpack_vectors(packed, len(packed) // CODE.itemsize)[0]


def assigned_units(session: Session, generation_id: int) -> NDArray[np.int32]:
    """Return the threshold of each tag of the generation's vocabulary, by id, in the units of stored scores."""
    thresholds = session.scalars(
        select(Tag.threshold)
        .join(Generation, Generation.vocabulary_id == Tag.vocabulary_id)
        .where(Generation.id == generation_id)
        .order_by(Tag.id)
    )
    return np.array([round(threshold * SCORE_SCALE) for threshold in thresholds], dtype=np.int32)


def published_seconds_ago(session: Session, generation_id: int) -> float | None:
    """Return the age of the published manifest by the database's clock; None if nothing is published."""
    age = session.scalar(
        text(
            """SELECT extract(epoch FROM clock_timestamp() - published_at)::float8 FROM index_state
               WHERE generation_id = :generation_id AND manifest > 0"""
        ),
        {"generation_id": generation_id},
    )
    return None if age is None else float(age)


def lock_builder(session: Session, generation_id: int, *, wait: bool, lock: int = BUILDER_LOCK) -> bool:
    """Make this session's transaction the only builder of a generation, until it ends or is idle for too long.

    An idle transaction that wrote nothing does not hold back the watermark. ``lock``: the first key of the lock.
    """
    keys = {"lock": lock, "generation_id": generation_id}
    session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{BUILDER_IDLE_SECONDS}s'"))
    if wait:
        session.execute(text("SELECT pg_advisory_xact_lock(:lock, :generation_id)"), keys)
        return True
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock, :generation_id)"), keys))


def begin_epoch(session: Session, generation_id: int) -> int:
    """Return a new epoch of the index. From now on only its holder can publish."""
    epoch: int = session.execute(
        text(
            """
            INSERT INTO index_state (generation_id, manifest, watermark, epoch) VALUES (:generation_id, 0, '0'::xid8, 1)
            ON CONFLICT (generation_id) DO UPDATE SET epoch = index_state.epoch + 1 RETURNING epoch
            """
        ),
        {"generation_id": generation_id},
    ).scalar_one()
    return epoch


def epoch(session: Session, generation_id: int) -> int:
    """Return the current epoch of the index; 0 if there was none."""
    return session.scalar(select(IndexState.epoch).where(IndexState.generation_id == generation_id)) or 0


def forget_published(session: Session, generation_id: int) -> None:
    """Forget what is published of a generation whose rows are about to be erased all at once, and its erasures."""
    values = {"generation_id": generation_id, "forgotten": FORGOTTEN}
    session.execute(text("DELETE FROM erasure WHERE generation_id = :generation_id"), values)
    session.execute(
        text(
            """
            INSERT INTO index_state (generation_id, manifest, watermark, epoch)
            VALUES (:generation_id, 0, '0'::xid8, :forgotten)
            ON CONFLICT (generation_id) DO UPDATE SET manifest = 0, watermark = '0'::xid8,
                epoch = index_state.epoch + :forgotten
            """
        ),
        values,
    )


def publish(session: Session, generation_id: int, *, epoch: int, manifest: int, watermark: int) -> bool:
    """Make a manifest the published one. Return False if a later epoch has begun."""
    published = session.execute(
        text(
            """
            UPDATE index_state
            SET manifest = :manifest, watermark = (:watermark)::xid8, published_at = clock_timestamp()
            WHERE generation_id = :generation_id AND epoch = :epoch RETURNING manifest
            """
        ),
        {"generation_id": generation_id, "epoch": epoch, "manifest": manifest, "watermark": str(watermark)},
    ).one_or_none()
    return published is not None


def upsert(
    connection: psycopg.Connection[Any], generation_id: int, image_ids: Sequence[int], packed: Sequence[bytes]
) -> None:
    """Store vectors. The index reads again those that are new or changed, or whose record changed.

    Args:
        connection: its transaction wrote the records before.
        generation_id: whose vectors.
        image_ids: ascending.
        packed: a vector for each image.
    """
    # In binary: writing and parsing vectors as text took half of the time of a batch.
    connection.execute(
        f"""
        INSERT INTO vector (image_id, generation_id, v)
        SELECT image_id, {generation_id:d}, v
        FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(packed)b AS bytea[])) AS recognised (image_id, v)
        ORDER BY image_id
        ON CONFLICT (image_id, generation_id) DO UPDATE SET v = excluded.v, xid = pg_current_xact_id()
        WHERE vector.v IS DISTINCT FROM excluded.v OR EXISTS (
            SELECT FROM record WHERE record.image_id = vector.image_id AND record.generation_id = {generation_id:d}
            AND recorded_at = now()
        )
        """,  # noqa: S608  (a number; as a parameter it would lock the partitions of every generation)
        {"ids": image_ids, "packed": packed},
        prepare=True,
    )


def touch(session: Session, image_ids: Sequence[int]) -> None:
    """Make the index read these images again, in every generation: a fact that it shows has changed."""
    if not image_ids:
        return
    session.execute(
        text(
            """
            WITH touched AS MATERIALIZED (
                SELECT image_id, generation_id FROM vector WHERE image_id = ANY(:ids)
                ORDER BY image_id, generation_id FOR NO KEY UPDATE
            )
            UPDATE vector SET xid = pg_current_xact_id() FROM touched
            WHERE vector.image_id = touched.image_id AND vector.generation_id = touched.generation_id
            """
        ),
        {"ids": list(image_ids)},
    )


def erase(session: Session, image_ids: Sequence[int], generation_id: int | None = None) -> int:
    """Delete the vectors of these images, of one or every generation. Record it for the index. Return how many."""
    erased_rows = session.execute(
        text(
            """
            WITH gone AS (
                DELETE FROM vector WHERE image_id = ANY(:image_ids)
                AND (CAST(:generation_id AS smallint) IS NULL OR generation_id = :generation_id)
                RETURNING image_id, generation_id)
            INSERT INTO erasure (image_id, generation_id) SELECT image_id, generation_id FROM gone
            ON CONFLICT (image_id, generation_id) DO UPDATE SET xid = pg_current_xact_id(), erased_at = now()
            RETURNING 1
            """
        ),
        {"image_ids": list(image_ids), "generation_id": generation_id},
    )
    return len(erased_rows.all())

"""The vectors of images in spaces (``spaces``), such as how they look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import driver_connection
from storage.results.packing import CODE, unpack_vectors
from storage.results.spaces import LOOK
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.records import Provenance
    from storage.tables import Generation

STAGE = LOOK

# The generation is part of the statements: as a parameter it would lock, and plan for, the partitions of all of them.
_WRITE = """
    WITH mended AS (DELETE FROM failure WHERE job_id = %(job_id)s AND image_id = ANY(%(ids)b))
    INSERT INTO look (image_id, generation_id, job_id, version, v)
    SELECT image_id, {generation_id:d}, %(job_id)s, version, v
    FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(versions)b AS text[]), CAST(%(packed)b AS bytea[]))
        AS found (image_id, version, v)
    ORDER BY image_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
        v = excluded.v, looked_at = now(),
        xid = CASE WHEN look.v = excluded.v THEN look.xid ELSE pg_current_xact_id() END
    WHERE (look.job_id, look.version, look.v) IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.v)
"""


@dataclass(frozen=True, slots=True)
class LookRow:
    """The vector of one image in a space, packed (``packing.pack_vectors``)."""

    image_id: int
    version: str
    vector: bytes


def write_looks(session: Session, rows: Sequence[LookRow], provenance: Provenance) -> None:
    """Store vectors. They replace those of the same images under the same generation.

    Storing the same twice changes nothing. The caller has locked the images. Rows are written in order. This keeps
    transactions with common images from deadlocking.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.image_id)
    driver_connection(session).execute(
        _WRITE.format(generation_id=provenance.generation_id),
        {
            "job_id": provenance.job_id,
            "ids": [row.image_id for row in ordered],
            "versions": [row.version for row in ordered],
            "packed": [row.vector for row in ordered],
        },
        prepare=True,
    )


def erase(session: Session, image_ids: Sequence[int]) -> int:
    """Erase the vectors of images in all spaces, and record it for the index. Return how many they were."""
    erased = session.execute(
        text(
            """
            WITH gone AS (DELETE FROM look WHERE image_id = ANY(:ids) RETURNING image_id, generation_id)
            INSERT INTO erasure (image_id, generation_id) SELECT image_id, generation_id FROM gone
            ON CONFLICT (image_id, generation_id) DO UPDATE SET xid = pg_current_xact_id(), erased_at = now()
            RETURNING 1
            """
        ),
        {"ids": list(image_ids)},
    )
    return len(erased.all())


def vectors_of(session: Session, generation: Generation, image_ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Return the vectors (D,) of images under a generation of a space or of recognition, by id, where they have one."""
    table = "vector" if generation.stage == RECOGNITION else "look"
    # A join with a list of ids looks each id up in its own partition.
    rows = session.execute(
        text(
            f"""SELECT image_id, v FROM unnest(CAST(:ids AS bigint[])) AS wanted (id)
                JOIN {table} ON image_id = wanted.id WHERE generation_id = {generation.id:d}"""  # noqa: S608  (a number)
        ),
        {"ids": list(image_ids)},
    )
    return {row.image_id: unpack_vectors(row.v, len(row.v) // CODE.itemsize)[0] for row in rows}


def vector_of(session: Session, generation_id: int, image_id: int) -> NDArray[np.float32] | None:
    """Return the vector of an image as (D,); None if it has none."""
    packed = session.scalar(
        text(f"SELECT v FROM look WHERE generation_id = {generation_id:d} AND image_id = :id"),  # noqa: S608  (a number)
        {"id": image_id},
    )
    return None if packed is None else unpack_vectors(packed, len(packed) // CODE.itemsize)[0]

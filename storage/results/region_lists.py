"""What search counts of regions, as it is stored: for each tag and block of images a packed list.

Image ``id`` belongs to block ``id >> BLOCK_BITS``. A list has a record for each image of its block that has regions of
the tag: the image's number in the block, the number of regions, and their area. A row for each image and tag would take
five times the space, and ten times as long to read. The list of the empty name has every located image.

The names of an image's lists are in ``located_image.names``, so that a change of few images finds their lists.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.results.region_boxes import Count

BLOCK_BITS = 8
BLOCK_SIZE: int = 1 << BLOCK_BITS
EVERY = ""
"""The name of the list of all located images. No tag has an empty name."""

RECORD = np.dtype([("number", "u1"), ("regions", ">u2"), ("area", ">u4")])
"""A record of a list. Records are in order of their numbers."""

MOST_REGIONS = 2**16 - 1

_PACKED = struct.Struct(">BHI")
_LOCK = 7_263_777
_LOCKS = 256
"""Blocks share so many locks. One for each could be more than PostgreSQL has room for."""

LISTS_AT_ONCE = 5_000

_POINT = """
    WITH before AS MATERIALIZED (SELECT image_id, names FROM located_image WHERE image_id = ANY(%(ids)b)),
    pointed AS (
        INSERT INTO located_image (image_id, generation_id, names)
        SELECT image_id, generation_id, CAST(names AS text[])
        FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(generations)b AS smallint[]), CAST(%(names)b AS text[]))
            AS newest (image_id, generation_id, names) ORDER BY image_id
        ON CONFLICT (image_id) DO UPDATE
            SET generation_id = excluded.generation_id, names = excluded.names, xid = pg_current_xact_id()
    )
    SELECT image_id, names FROM before
"""
_MERGE = f"""
    WITH touched AS MATERIALIZED (
        SELECT block, name FROM unnest(CAST(%(blocks)b AS int[]), CAST(%(names)b AS text[])) AS touched (block, name)
    ), changed AS MATERIALIZED (
        SELECT block, number FROM unnest(CAST(%(changed_blocks)b AS int[]), CAST(%(numbers)b AS int[]))
            AS changed (block, number)
    ), record AS (
        SELECT block, name, substr(packed, at, {RECORD.itemsize}) AS packed
        FROM touched JOIN region_list USING (name, block)
        CROSS JOIN generate_series(1, octet_length(packed), {RECORD.itemsize}) AS at
        WHERE (block, get_byte(packed, at - 1)) NOT IN (SELECT block, number FROM changed)
        UNION ALL
        SELECT block, name, packed
        FROM unnest(CAST(%(new_blocks)b AS int[]), CAST(%(new_names)b AS text[]), CAST(%(records)b AS bytea[]))
            AS new (block, name, packed)
    ), merged AS MATERIALIZED (
        SELECT block, name, string_agg(packed, '' ORDER BY packed) AS packed FROM record GROUP BY block, name
    ), gone AS (
        DELETE FROM region_list AS old USING touched
        WHERE (old.name, old.block) = (touched.name, touched.block) AND NOT EXISTS (
            SELECT FROM merged WHERE (merged.name, merged.block) = (old.name, old.block))
    )
    INSERT INTO region_list (name, block, packed) SELECT name, block, packed FROM merged ORDER BY name, block
    ON CONFLICT (name, block) DO UPDATE SET packed = excluded.packed WHERE region_list.packed <> excluded.packed
"""  # noqa: S608  (constants)
_ERASE = text("DELETE FROM located_image WHERE image_id = ANY(:ids) RETURNING image_id, names")


def lock(session: Session, image_ids: Iterable[int] | None) -> None:
    """Wait for others that change lists of the same blocks, until the transaction ends.

    Lists are changed under this lock only. It is taken once in a transaction, after locks of images and before any of
    ``located_image``.

    Args:
        session: a transaction.
        image_ids: the images whose lists will change; None: any.
    """
    keys = range(_LOCKS) if image_ids is None else sorted({(one >> BLOCK_BITS) % _LOCKS for one in image_ids})
    statement = "SELECT pg_advisory_xact_lock(%(lock)s, key) FROM unnest(CAST(%(keys)b AS int[])) AS key"
    driver_connection(session).execute(statement, {"lock": _LOCK, "keys": list(keys)}, prepare=True)


def write(
    session: Session, counted: Mapping[int, Mapping[str, Count]], generation_ids: Mapping[int, int | None]
) -> None:
    """Store what search counts of images, instead of what it counted of them before. ``lock`` was called.

    Args:
        session: a transaction.
        counted: for each image, by folded name of the tag, what is counted.
        generation_ids: for each of the images, the generation of its newest result; None: it is not located any more.
    """
    ids = sorted(counted)
    before = driver_connection(session).execute(
        _POINT,
        {
            "ids": ids,
            "generations": [generation_ids[one] for one in ids],
            # Arrays of arrays must have equal lengths, so each array is written in PostgreSQL's text form.
            "names": [array(quoted(name) for name in sorted(counted[one])) for one in ids],
        },
        prepare=True,
    )
    records = [
        (one >> BLOCK_BITS, name, _packed(one, count.regions, count.area))
        for one in ids
        for name, count in counted[one].items()
    ]
    records += [(one >> BLOCK_BITS, EVERY, _packed(one, 0, 0)) for one in ids if generation_ids[one] is not None]
    _merge(session, ids, before.fetchall(), records)


def erase(session: Session, image_ids: Sequence[int]) -> None:
    """Forget images. ``lock`` was called."""
    before = [(row.image_id, row.names) for row in session.execute(_ERASE, {"ids": list(image_ids)})]
    _merge(session, [image_id for image_id, _ in before], before, [])


def array(elements: Iterable[object]) -> str:
    """Return an array in PostgreSQL's text form."""
    return f"{{{','.join(map(str, elements))}}}"


def quoted(name: str) -> str:
    """Return an element of an array of text."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _merge(
    session: Session,
    image_ids: Sequence[int],
    before: Iterable[tuple[int, Sequence[str]]],
    records: Sequence[tuple[int, str, bytes]],
) -> None:
    """Take images out of the lists in which they were before, and add records of them."""
    touched = {(block, name) for block, name, _ in records}
    for image_id, names in before:
        touched.update((image_id >> BLOCK_BITS, name) for name in (*names, EVERY))
    ordered = sorted(touched)
    for start in range(0, len(ordered), LISTS_AT_ONCE):
        lists = ordered[start : start + LISTS_AT_ONCE]
        first, last = lists[0], lists[-1]
        changed = [one for one in image_ids if first[0] <= one >> BLOCK_BITS <= last[0]]
        new = [record for record in records if first <= record[:2] <= last]
        driver_connection(session).execute(
            _MERGE,
            {
                "blocks": [block for block, _ in lists],
                "names": [name for _, name in lists],
                "changed_blocks": [one >> BLOCK_BITS for one in changed],
                "numbers": [_number(one) for one in changed],
                "new_blocks": [block for block, _, _ in new],
                "new_names": [name for _, name, _ in new],
                "records": [packed for _, _, packed in new],
            },
            prepare=True,
        )


def _number(image_id: int) -> int:
    return image_id & (BLOCK_SIZE - 1)


def _packed(image_id: int, regions: int, area: int) -> bytes:
    return _PACKED.pack(_number(image_id), min(regions, MOST_REGIONS), area)

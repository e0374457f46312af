"""Erasing the keywords of images, and what the history of keywords tells of them.

Which images an act speaks of is known as long as it has rows in ``keyword_said``. It has none of images that had too
many keywords, or had not what it removes. Once it is undone, ``keyword_part`` has them, to redo it; acts that an
earlier version undid have none. So whenever images are erased, acts that
speak of no image any more are erased, too, and so are the searches of acts that may have spoken of one of the images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

# The order makes PostgreSQL look into the index for each act, and not read the whole table.
_SILENT = """
    SELECT keyword_act.id FROM keyword_act
    LEFT JOIN LATERAL (
        SELECT image_id FROM keyword_said WHERE act_id = keyword_act.id ORDER BY act_id, image_id LIMIT 1
    ) AS said ON true
    WHERE (finished_at IS NOT NULL OR undone_by IS NOT NULL) AND said.image_id IS NULL
        AND NOT EXISTS (SELECT FROM keyword_part WHERE act_id = keyword_act.id)
"""
_MAY_SPEAK = """query IS NOT NULL AND (keyword_act."full" > 0 OR added = '{}' OR undone_by IS NOT NULL)"""
_LOCK = f"""
    SELECT id FROM keyword_act WHERE id = ANY(:acts) OR ({_MAY_SPEAK}) OR id IN ({_SILENT}) ORDER BY id FOR UPDATE
"""  # noqa: S608  (constants)
_SPEAKING = """
    SELECT act_id FROM keyword_said WHERE image_id = ANY(:ids)
    UNION SELECT act_id FROM keyword_part WHERE image_ids && (SELECT range_agg(int8range(id, id, '[]')) FROM
        unnest(CAST(:ids AS bigint[])) AS id)
"""
_CUT = """
    UPDATE keyword_part SET image_ids = image_ids - gone.ids FROM (
        SELECT range_agg(int8range(id, id, '[]')) AS ids FROM unnest(CAST(:ids AS bigint[])) AS id
    ) AS gone WHERE image_ids && gone.ids
"""
_LEFT_PARTS = """
    SELECT count(*) FROM deletion_part AS part JOIN keyword_part AS own ON own.image_ids && part.image_ids
    WHERE part.deletion_id = :id
"""
_LEFT_ACTS = f"""
    SELECT count(*) FROM keyword_act JOIN deletion ON deletion.id = :id
    WHERE coalesce(undone_at, keyword_act.finished_at) < deletion.begun_at
        AND (({_MAY_SPEAK}) OR keyword_act.id IN ({_SILENT}))
"""  # noqa: S608  (constants)


def erase(session: Session, image_ids: Sequence[int], *, forgets_acts: bool = True) -> int:
    """Erase the keywords of images. Return of how many. The images are locked, as by whoever carries out an act.

    ``forgets_acts``: also erase from the history what may tell of them. Not if they continue under another number.
    """
    ids = {"ids": list(image_ids)}
    if forgets_acts:
        _forget_acts(session, image_ids)
    session.execute(text("DELETE FROM keyword_said WHERE image_id = ANY(:ids)"), ids)
    count = session.execute(text("DELETE FROM keyword WHERE image_id = ANY(:ids)"), ids)
    return int(count.rowcount)  # type: ignore[attr-defined]


def _forget_acts(session: Session, image_ids: Sequence[int]) -> None:
    ids = {"ids": list(image_ids)}
    speaking = list(session.scalars(text(_SPEAKING), ids))
    locked = list(session.scalars(text(_LOCK), {"acts": speaking}))
    session.execute(text("DELETE FROM keyword_said WHERE image_id = ANY(:ids)"), ids)
    session.execute(text(_CUT), ids)
    session.execute(
        text("DELETE FROM keyword_part WHERE act_id = ANY(:acts) AND isempty(image_ids)"), {"acts": speaking}
    )
    session.execute(
        text(
            """DELETE FROM keyword_act WHERE id = ANY(:acts)
               AND NOT EXISTS (SELECT FROM keyword_said WHERE act_id = keyword_act.id)
               AND NOT EXISTS (SELECT FROM keyword_part WHERE act_id = keyword_act.id)"""
        ),
        {"acts": locked},
    )
    session.execute(
        text(
            f"""UPDATE keyword_act SET query = NULL
                WHERE id = ANY(:locked) AND query IS NOT NULL AND (id = ANY(:speaking) OR ({_MAY_SPEAK}))"""  # noqa: S608
        ),
        {"locked": locked, "speaking": speaking},
    )


def left(session: Session, deletion_id: int) -> dict[str, int]:
    """Count, by table, what may still tell of the images of a deletion: acts, and what these are still to do."""
    found = {"keyword_part": _LEFT_PARTS, "keyword_act": _LEFT_ACTS}
    return {table: int(session.scalar(text(query), {"id": deletion_id}) or 0) for table, query in found.items()}

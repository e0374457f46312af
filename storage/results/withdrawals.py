"""Deletions that are withdrawn: what is erased is erased, and the other images stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.errors import ConflictError
from storage.results import erasures
from storage.results.erasure_views import Withdrawal
from storage.texts import plural

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LEAVE_OUT = text(
    """DELETE FROM deletion_part AS part WHERE deletion_id = :id AND NOT is_done AND EXISTS (
           SELECT FROM unnest(part.image_ids) AS stretch
           JOIN image ON image.id >= lower(stretch) AND image.id < upper(stretch))"""
)


def withdraw(session: Session, deletion_id: int, *, only_whole: bool = False) -> Withdrawal:
    """Forget what an unfinished deletion has not erased. If that is all of it, forget the deletion.

    A part whose images are gone and that is not marked as done stays: its thumbnails may be left.

    Args:
        session: a transaction. The deletion is locked until its end, so nobody erases anything of it meanwhile.
        deletion_id: the deletion.
        only_whole: only if it has erased nothing.

    Raises:
        ConflictError: it is finished, or was withdrawn just now; or with ``only_whole``, it has erased images.
    """
    session.execute(text("SELECT id FROM deletion WHERE id = :id FOR UPDATE"), {"id": deletion_id})
    found = erasures.views(session, deletion_id)
    if not found or found[0].finished_at is not None:
        raise ConflictError(f"deletion {deletion_id} is finished or withdrawn already")
    planned = found[0].images
    if only_whole and found[0].erased:
        raise ConflictError(
            f"deletion {deletion_id} has erased {found[0].erased.get('images', 0):,} of {plural(planned, 'image')}"
        )
    session.execute(_LEAVE_OUT, {"id": deletion_id})
    ids = erasures.ids(session, deletion_id)
    if not len(ids):
        session.execute(text("DELETE FROM deletion WHERE id = :id"), {"id": deletion_id})
    else:
        session.execute(
            text("UPDATE deletion SET images = :images, sha256 = :sha256 WHERE id = :id"),
            {"id": deletion_id, "images": len(ids), "sha256": erasures.hash_of(ids)},
        )
    return Withdrawal(found[0], ids.tolist(), planned - len(ids))

"""Failures of a job: which images, why, and how often they were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.errors import UsageError
from storage.ledger.views import FailureView
from storage.page import Page
from storage.texts import id_in

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def views(
    session: Session, job_id: int, *, error_class: str | None, limit: int, cursor: str | None
) -> Page[FailureView]:
    """Return failures of a job in the order of image ids. Images being retried are pending, not failed."""
    after = 0 if cursor is None else id_in(cursor)
    if after is None:
        raise UsageError("invalid cursor: use next_cursor of the previous page")
    rows = session.execute(
        text(
            """
            SELECT failure.image_id, image.key, error_class, detail, attempts, failed_at
            FROM failure JOIN image ON image.id = failure.image_id
            WHERE job_id = :job_id AND NOT retrying AND failure.image_id > :after
              AND (CAST(:error_class AS text) IS NULL OR error_class = :error_class)
            ORDER BY failure.image_id LIMIT :limit
            """
        ),
        {"job_id": job_id, "error_class": error_class, "after": after, "limit": limit + 1},
    ).all()
    items = [FailureView(*row) for row in rows[:limit]]
    return Page(items, str(items[-1].image_id) if len(rows) > limit else None)

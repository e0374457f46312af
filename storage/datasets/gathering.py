"""While a command reads the sources of a version: it adds pictures, and is heard of, until it moves the step on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.errors import ConflictError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PHASE = "gather"
"""The phase of a step in which its sources are read."""

PATIENCE_SECONDS = 120
"""A command of which nothing was heard for so long has ended."""


def hear(session: Session, version_id: int, pictures: int = 0) -> None:
    """Record that the sources are still being read, and how many ``pictures`` they have so far.

    Call it in each transaction that adds pictures, and at least every ``PATIENCE_SECONDS``.

    Raises:
        ConflictError: the step was cancelled or has failed meanwhile.
    """
    heard = session.execute(
        text(
            """UPDATE dataset_version
               SET counts = counts || jsonb_build_object('heard_at', extract(epoch FROM clock_timestamp())),
                   note = :note
               WHERE id = :id AND state = 'running' AND phase = :phase RETURNING 1"""
        ),
        {"id": version_id, "phase": PHASE, "note": f"the sources are being read: {pictures:,} pictures so far"},
    ).all()
    if not heard:
        raise ConflictError("the step was cancelled while its sources were read; begin it again")


def is_alive(session: Session, version_id: int) -> bool:
    """Return whether something was heard of whoever reads the sources of a version."""
    return bool(
        session.scalar(
            text(
                """SELECT extract(epoch FROM clock_timestamp())
                       - coalesce((counts ->> 'heard_at')::float8, extract(epoch FROM created_at)) < :patience
                   FROM dataset_version WHERE id = :id"""
            ),
            {"id": version_id, "patience": PATIENCE_SECONDS},
        )
    )


def end(session: Session, version_id: int, next_phase: str) -> None:
    """Move a step on: all sources were read. Raises ``ConflictError`` as ``hear``."""
    hear(session, version_id)
    session.execute(
        text(
            """UPDATE dataset_version SET phase = :next, is_planned = false, note = NULL,
               counts = counts - 'heard_at' WHERE id = :id"""
        ),
        {"id": version_id, "next": next_phase},
    )

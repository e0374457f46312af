"""Sessions of the page. Changes are made under the lock of ``storage.accounts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SESSION_DAYS = 30
"""How long a session of the page lasts at most."""

MOST_SESSIONS = 100
"""Sessions of the page that one user can have at a time. With one more, the oldest ends."""


def add(session: Session, cookie_hash: bytes, name: str) -> None:
    """Note that a session of the page has begun. Those that are too old by now, and the user's oldest, are deleted."""
    session.execute(
        text("DELETE FROM page_session WHERE started_at < now() - make_interval(days => :days)"),
        {"days": SESSION_DAYS},
    )
    session.execute(
        text(
            """DELETE FROM page_session WHERE hash IN (
                   SELECT hash FROM page_session WHERE name = :name ORDER BY started_at DESC, hash OFFSET :others)"""
        ),
        {"name": name, "others": MOST_SESSIONS - 1},
    )
    session.execute(
        text("INSERT INTO page_session (hash, name) VALUES (:hash, :name)"), {"hash": cookie_hash, "name": name}
    )


def end_all(session: Session, name: str) -> None:
    """Forget the sessions of a user, and those of which it is not known whose they are."""
    session.execute(text("DELETE FROM page_session WHERE name = :name OR name IS NULL"), {"name": name})


def rename(session: Session, name: str, to: str) -> None:
    """Note the new name of a user in the user's sessions."""
    session.execute(text("UPDATE page_session SET name = :to WHERE name = :name"), {"name": name, "to": to})


def end(session: Session, cookie_hash: bytes) -> bool:
    """Forget a session of the page. Returns whether there was one."""
    ended = session.execute(text("DELETE FROM page_session WHERE hash = :hash RETURNING hash"), {"hash": cookie_hash})
    return ended.first() is not None


def lasting(session: Session) -> dict[bytes, float]:
    """Return the SHA-256 of the cookie of each session that has not ended, and in how many seconds it does."""
    rows = session.execute(
        text(
            """SELECT hash, extract(epoch FROM started_at + make_interval(days => :days) - now()) AS seconds_left
               FROM page_session WHERE started_at > now() - make_interval(days => :days)"""
        ),
        {"days": SESSION_DAYS},
    )
    return {bytes(row.hash): float(row.seconds_left) for row in rows}

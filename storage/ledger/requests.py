"""Requests with an idempotency key: a request that is sent twice starts only one job."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.errors import ConflictError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

KEPT_HOURS = 24
"""After this time a key may be used for another request."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The idempotency key and the content of a request.

    Attributes:
        key: SHA-256 of the sender and the key that they chose.
        content: SHA-256 of the request's content.
    """

    key: bytes
    content: bytes

    @classmethod
    def of(cls, who: str, key: str, content: str) -> RequestKey:
        """Build the key from the sender, the key that they chose, and the whole request."""
        return cls(sha256(f"{who}\n{key}".encode()).digest(), sha256(content.encode()).digest())


def job_of(session: Session, request: RequestKey) -> int | None:
    """Return the job that this request started before, or None. Requests with the same key wait for this transaction.

    Raises:
        ConflictError: the key was used for something else.
    """
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(encode(:key, 'hex'), 0))"), {"key": request.key}
    )
    row = session.execute(
        text(
            """SELECT job_id, content FROM job_request
               WHERE key = :key AND created_at > now() - make_interval(hours => :hours)"""
        ),
        {"key": request.key, "hours": KEPT_HOURS},
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.content) != request.content:
        raise ConflictError("this Idempotency-Key was used for another request: choose a new one for each job")
    return int(row.job_id)


def remember(session: Session, request: RequestKey, job_id: int) -> None:
    """Record which job a request started, and delete expired requests."""
    session.execute(
        text("DELETE FROM job_request WHERE created_at <= now() - make_interval(hours => :hours)"),
        {"hours": KEPT_HOURS},
    )
    session.execute(
        text("INSERT INTO job_request (key, content, job_id) VALUES (:key, :content, :job_id)"),
        {"key": request.key, "content": request.content, "job_id": job_id},
    )

"""Archives that are watched: when each is listed again, and the keys that it was told of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base
from storage.tables.ledger import Archive, Job


class Watch(Base):
    """An archive, or a part of one, that is listed every so often, and between that looked at where events say so.

    ``listing_job_id`` and ``event_job_id`` are the last jobs of each kind. Their ends were taken note of if
    ``listing_settled_at`` and ``event_settled_at`` are the times of these ends.
    """

    __tablename__ = "watch"
    __table_args__ = (
        CheckConstraint("events IN ('none', 'sqs', 'webhook', 'inotify')", name="events"),
        Index("uq_watch_archive_id_prefix", "archive_id", "prefix", unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id))
    prefix: Mapped[str]
    # What its jobs are asked for: the arguments of `ledger.jobs.create`, and the further stages with their models.
    asks: Mapped[dict[str, Any]]
    priority: Mapped[int] = mapped_column(SmallInteger)
    every_seconds: Mapped[int] = mapped_column(Integer)
    settle_seconds: Mapped[float] = mapped_column(Float)
    events: Mapped[str]
    queue_url: Mapped[str | None]
    # SHA-256 of what a sender of events has to know.
    secret_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    is_paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Listings of everything.
    next_listing_at: Mapped[datetime] = mapped_column(server_default=func.now())
    list_now_since: Mapped[datetime | None]
    list_now_reason: Mapped[str | None]
    listing_job_id: Mapped[int | None] = mapped_column(BigInteger)
    listing_began_at: Mapped[datetime | None]
    listing_settled_at: Mapped[datetime | None]
    listed_at: Mapped[datetime | None]
    # After failures, and after a listing that was out of turn, nothing is begun before this.
    not_before: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    error: Mapped[str | None]
    note: Mapped[str | None]
    # Jobs on the keys that events name.
    event_job_id: Mapped[int | None] = mapped_column(BigInteger)
    event_job_began_at: Mapped[datetime | None]
    event_job_oldest_at: Mapped[datetime | None]
    event_settled_at: Mapped[datetime | None]
    searchable_after_seconds: Mapped[float | None] = mapped_column(Float)
    events_taken: Mapped[int] = mapped_column(BigInteger, server_default="0")
    events_ignored: Mapped[int] = mapped_column(BigInteger, server_default="0")
    event_error: Mapped[str | None]
    # The worker that receives its events. Of those that send them themselves, there is none.
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    listening_since: Mapped[datetime | None]


class WatchEvent(Base):
    """A key that a watch was told of and no job has looked at yet. A key that ends in ``/`` stands for a folder."""

    __tablename__ = "watch_event"

    watch_id: Mapped[int] = mapped_column(ForeignKey(Watch.id, ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    first_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JobKey(Base):
    """A key that a job has to look at, of a job that lists nothing else. Empty once the job has looked at all."""

    __tablename__ = "job_key"

    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id), primary_key=True)
    key: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)

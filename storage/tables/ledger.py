"""The work and its state: archives, keys, jobs, shards, failures, workers."""

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
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, JSONB, Range
from sqlalchemy.orm import Mapped, mapped_column

from storage import traces
from storage.tables.base import XID8, Base
from storage.tables.generation import Generation, Vocabulary


class Archive(Base):
    """A bucket and prefix, or a folder. ``uri`` is its name: ``s3://bucket/prefix`` or ``file:///folder``.

    Triggers on ``image`` count ``images`` and ``missing`` when a transaction commits. To add, delete or mark images,
    lock the archive first (``results.archives.lock``, or ``share`` for a listing): this avoids deadlocks.
    """

    __tablename__ = "archive"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    uri: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    images: Mapped[int] = mapped_column(BigInteger, server_default="0")
    missing: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # When a listing first had keys in another order than that of their bytes: see ``ledger.unfound``.
    disordered_at: Mapped[datetime | None]


class ArchiveChange(Base):
    """What a transaction adds to the counts of an archive, until it commits. Other transactions never see a row.

    A trigger adds it up at the end of the transaction: so those that change images of one archive at the same time do
    not wait for each other before that. The table is not in the write-ahead log.
    """

    __tablename__ = "archive_change"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    archive_id: Mapped[int]
    images: Mapped[int] = mapped_column(BigInteger)
    missing: Mapped[int] = mapped_column(BigInteger)


class Image(Base):
    """One key of an archive, and the version of its object in the last listing."""

    __tablename__ = "image"
    __table_args__ = (
        Index("uq_image_archive_id_key", "archive_id", "key", unique=True),
        Index("ix_image_missing", "id", postgresql_where=text("missing_since IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id))
    # Keys sort by bytes, as object stores list them. A prefix is then a range of the index.
    key: Mapped[str] = mapped_column(Text(collation="C"))
    version: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    modified_at: Mapped[datetime | None]
    listed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a listing first did not find it. Its results stay until somebody deletes them.
    missing_since: Mapped[datetime | None]


class Content(Base):
    """The bytes of an image when they were last read: what finds the images that have the same ones.

    ``hash`` is the beginning of their SHA-256, ``HASH_BYTES`` long. ``version`` is that of the object they are of.
    ``shape`` and ``pixels`` are hashes of what they show (``ram_core.picture_hashes``). NULL: the pixels were not read
    since that is kept. A ``shape`` of 0: the picture has next to no structure. ``xid`` is the transaction that last
    changed the shape; NULL: an older version of ramq wrote the row.
    """

    __tablename__ = "content"
    __table_args__ = (
        Index("ix_content_hash", "hash", "image_id"),
        Index("ix_content_xid", "xid", postgresql_where=text("shape IS NOT NULL")),
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    version: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    shape: Mapped[int | None] = mapped_column(BigInteger)
    pixels: Mapped[int | None] = mapped_column(BigInteger)
    xid: Mapped[int | None] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))


class Job(Base):
    """One stage over some images: recognition, or a further one. ``listed = done + skipped + failed + pending``.

    The counters agree at every commit. ``done`` and ``failed`` count only the closed shards. The open ones have their
    own counts. A request with several stages is several jobs: ``with_job_id`` is the one whose listing they follow.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'paused', 'done', 'cancelled', 'failed')", name="state"),
        Index("ix_job_open", "id", postgresql_where=text("state IN ('running', 'paused')")),
        Index(
            "ix_job_turn",
            "priority",
            text("coalesce(counts_for, said_by, 'local')"),
            text("coalesce(with_job_id, id)"),
            "id",
            postgresql_where=text("state = 'running'"),
        ),
        Index("ix_job_with_job_id", "with_job_id", postgresql_where=text("with_job_id IS NOT NULL")),
        Index("ix_job_watch_id", "watch_id", "id", postgresql_where=text("watch_id IS NOT NULL")),
        # For lists in which jobs of watches that have nothing to tell are folded.
        Index("ix_job_newest", "watch_id", "stage", "id", postgresql_where=text("watch_id IS NOT NULL")),
        Index("ix_job_told", "id", postgresql_where=text("watch_id IS NULL OR state <> 'done' OR failed > 0")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id))
    source: Mapped[str]
    prefix: Mapped[str]
    stage: Mapped[str] = mapped_column(server_default="recognition")
    with_job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    # The search whose hits it works on, as people wrote it. None: all images of the archive.
    query: Mapped[str | None]
    # What a further stage was asked for, such as the tags to look for.
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    model: Mapped[str]
    captioner: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(server_default="running")
    generation_id: Mapped[int | None] = mapped_column(ForeignKey(Generation.id))
    # A vocabulary other than the model's own; the features to store; and the generation whose stored features are
    # used, if new tags are computed from them.
    vocabulary_id: Mapped[int | None] = mapped_column(ForeignKey(Vocabulary.id))
    features: Mapped[str] = mapped_column(server_default="none")
    from_generation_id: Mapped[int | None] = mapped_column(ForeignKey(Generation.id))
    # Of the manifest that `source` names, when the job began. None if an archive is listed.
    manifest_version: Mapped[str | None]
    # Which keys are listed: patterns as in .gitignore, and whether the default list counts.
    include: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    exclude: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    has_defaults: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # The watch that began it. Such a job may list only the keys in `job_key`.
    watch_id: Mapped[int | None] = mapped_column(BigInteger)
    of_keys: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # The last shard and the last row of skipped images of the other job that a follower has seen.
    follow_cursor: Mapped[str | None]
    # When its keys, which `listing_range` divides, were all listed.
    listed_all_at: Mapped[datetime | None]
    listed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    skipped: Mapped[int] = mapped_column(BigInteger, server_default="0")
    done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # Number of keys that were left out, by reason. They are not part of `listed`.
    ignored: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # Of the done ones in closed shards: those that have the results of an image with the same bytes.
    copied: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # Whether images whose files were moved have been looked for, after all its images had an outcome.
    looked_for_moves: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # Resumed after it failed: it continues however many of its images are forbidden.
    breaker_is_off: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    stage_seconds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # Seconds in which completed shards were worked on. Time in which several workers did counts once.
    active_seconds: Mapped[float] = mapped_column(Float, server_default="0")
    # Seconds of workers that closed shards took: those in which several worked count for each of them.
    worked_seconds: Mapped[float] = mapped_column(Float, server_default="0")
    active_until: Mapped[datetime | None]
    # When it was paused to ask whether all its images are gone. Resuming it counts as a yes.
    found_nothing_at: Mapped[datetime | None]
    note: Mapped[str | None]
    # Who started it. None: before that was noted, or nobody did.
    said_by: Mapped[str | None]
    # Whose quotas and share it counts for, if the user was renamed since. None: `said_by`.
    counts_for: Mapped[str | None]
    # The `traceparent` of the request for it (W3C Trace Context).
    trace: Mapped[str | None] = mapped_column(default=traces.current)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ListingRange(Base):
    """Keys of a listing that one planner lists: those after ``cursor``, up to and including ``until``; None: no limit.

    Every job has one. Where several workers list an archive, a range is cut in two, and the second is a row of its own.
    The holder of the lease knows ``epoch``. Of what is known (images, named keys), the cursor is the last one listed.
    """

    __tablename__ = "listing_range"
    __table_args__ = (Index("ix_listing_range_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    cursor: Mapped[str | None] = mapped_column(Text(collation="C"))
    until: Mapped[str | None] = mapped_column(Text(collation="C"))
    epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    # When it may be continued, or when it was last.
    next_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]


class JobRequest(Base):
    """A request for a job with an idempotency key. It is kept for a day, in case it is sent again."""

    __tablename__ = "job_request"
    __table_args__ = (Index("ix_job_request_created_at", "created_at"),)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Shard(Base):
    """Keys leased together, and their outcomes: ``outcomes[i]`` belongs to ``image_ids[i]``.

    An outcome is one byte: 0 pending, 1 done, 2 failed, 3 skipped (deleted while it waited). The holder of the lease
    knows ``epoch``, and every write has to name it.
    """

    __tablename__ = "shard"
    __table_args__ = (
        CheckConstraint("state IN ('ready', 'leased', 'done', 'cancelled')", name="state"),
        CheckConstraint("length(outcomes) = cardinality(image_ids)", name="outcomes_fit"),
        Index("ix_shard_open", "job_id", "id", postgresql_where=text("state IN ('ready', 'leased')")),
        Index("ix_shard_leased", "lease_until", postgresql_where=text("state = 'leased'")),
        Index(
            "ix_shard_begun",
            "job_id",
            postgresql_include=["n_done", "n_failed", "n_skipped"],
            postgresql_where=text("state <> 'done' AND n_done + n_failed + n_skipped > 0"),
        ),
        Index("ix_shard_failed", "job_id", postgresql_where=text("n_failed > 0")),
        Index("ix_shard_with_shard_id", "with_shard_id", postgresql_where=text("with_shard_id IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    state: Mapped[str] = mapped_column(server_default="ready")
    epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    next_try_at: Mapped[datetime | None]
    # Rounds that ended in a transient error. `attempts` counts holders that died.
    tries: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    # The position of the image that is processed alone. If the holder dies, this image is the suspect.
    probe: Mapped[int | None] = mapped_column(SmallInteger)
    probe_deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    # The `traceparent` of its last recorded claim; before that, of the listing that made it.
    trace: Mapped[str | None]
    # The shard of the recognition of these images. A worker that can do both fetches and decodes them once.
    with_shard_id: Mapped[int | None] = mapped_column(BigInteger)
    image_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    outcomes: Mapped[bytes] = mapped_column(LargeBinary)
    n_done: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    n_failed: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    n_skipped: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    n_copied: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    stage_seconds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Skip(Base):
    """The images of one page of a listing that needed no work. Reports need them for the outcome of every key.

    Ids are assigned in the order of keys, so a page of a thousand is usually a single range.
    """

    __tablename__ = "skip"
    __table_args__ = (Index("ix_skip_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    image_ids: Mapped[list[Range[int]]] = mapped_column(INT8MULTIRANGE)


class Ignored(Base):
    """The keys of one page of a listing that the job left out for one reason, in byte order.

    They have no other row: an archive may have more of them than images. The first and the last key tell which rows may
    hold a key that is erased.
    """

    __tablename__ = "ignored"
    __table_args__ = (Index("ix_ignored_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    reason: Mapped[str]
    first_key: Mapped[str] = mapped_column(Text(collation="C"))
    last_key: Mapped[str] = mapped_column(Text(collation="C"))
    keys: Mapped[list[str]] = mapped_column(ARRAY(Text(collation="C")))


class Naming(Base):
    """An image that a job's manifest has named already, or that its search found. Empty once all are in shards.

    A negative number stands for a named key that is left out: see ``storage.ledger.ignored``. Where keys are not listed
    in the order of their bytes, a number stands for each listed key: see ``storage.ledger.unfound``.
    """

    __tablename__ = "naming"

    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id), primary_key=True)
    image_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)


class Failure(Base):
    """Why an image of a job has no record. Kept for the job's counters; ``retrying`` while a retry is under way."""

    __tablename__ = "failure"
    __table_args__ = (Index("ix_failure_image_id_generation_id", "image_id", "generation_id"),)

    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id))
    version: Mapped[str]
    error_class: Mapped[str]
    about_content: Mapped[bool] = mapped_column(Boolean)
    detail: Mapped[str]
    attempts: Mapped[int] = mapped_column(SmallInteger)
    retrying: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Base):
    """A webhook delivery about the end of a job: pending while ``due_at`` is set, delivered at ``sent_at``."""

    __tablename__ = "notice"
    __table_args__ = (Index("ix_notice_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),)

    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id), primary_key=True)
    # Which end of the job it reports: a job that is retried ends again.
    ended_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]


class Worker(Base):
    """A worker process. It was alive at ``heartbeat_at``."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    device: Mapped[str]
    model: Mapped[str | None]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    images_per_second: Mapped[float] = mapped_column(Float, server_default="0")
    stages: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # The models that it takes jobs for; NULL: any.
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # The stages of jobs that it can do, and after `weights:` the models whose weights it has.
    runs: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{recognition}'"))
    # What it cannot do now and why: a list of {kind, name, reason}.
    unfit: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    sends_notices: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())

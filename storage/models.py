"""The tables. Postgres is the truth about every key, job, result and failure; everything else can be rebuilt from it.

Sizes and choices are reasoned in ``docs/ARCHITECTURE.md``: one row per image with its tags in an array, durable
progress per shard in one byte per image, failures sparse, vectors beside the records so that tag queries do not read
them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, JSONB, Range
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

SCORE_SCALE = 10_000
"""Scores are stored as whole numbers of 1/10,000, so that a threshold compares exactly."""

PERSON_UNITS = SCORE_SCALE + 1
"""The score of a tag that a person gave: above every threshold. Shown as 1. Written into ``corrected_tags``, too."""


class XID8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id. Not a number to Postgres: compare it with values cast to ``xid8``."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


class Base(DeclarativeBase):
    """Base of the tables; names constraints so that migrations can name them again."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own spelling)
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


class Vocabulary(Base):
    """A list of tags that a model can give. Tags are keyed by their position: names may be shared."""

    __tablename__ = "vocabulary"

    id: Mapped[int] = mapped_column(SmallInteger, Identity(), primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    size: Mapped[int] = mapped_column(Integer)


class Tag(Base):
    """One tag of a vocabulary, with the threshold above which it is assigned unless a query says otherwise."""

    __tablename__ = "tag"
    __table_args__ = (
        Index("ix_tag_lower_name", "vocabulary_id", func.lower(text("name"))),
        Index("ix_tag_name_zh", "vocabulary_id", "name_zh"),
    )

    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id, ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    name: Mapped[str]
    name_zh: Mapped[str | None]
    threshold: Mapped[float] = mapped_column(REAL)
    descriptions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class Generation(Base):
    """What made a result: model, weights, vocabulary, preprocessing. Immutable; one of them serves search."""

    __tablename__ = "generation"
    __table_args__ = (
        Index("uq_generation_is_default", "is_default", unique=True, postgresql_where=text("is_default")),
    )

    id: Mapped[int] = mapped_column(SmallInteger, Identity(), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str]
    weights_sha256: Mapped[str]
    preprocessing: Mapped[str]
    vector_kind: Mapped[str]
    vector_size: Mapped[int] = mapped_column(SmallInteger)
    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id))
    is_default: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When another took its place in search: the newest of these is what a rollback returns to.
    served_until: Mapped[datetime | None]
    # Its results are gone; the row stays, since the reports of its jobs name it.
    dropped_at: Mapped[datetime | None]


class Archive(Base):
    """A bucket and prefix, or a folder. ``uri`` is its name: ``s3://bucket/prefix`` or ``file:///folder``.

    ``images`` and ``missing`` are counted by triggers on ``image``. Whoever adds, deletes or marks images locks the
    archive first (``repositories.archives.lock``), so that two of them cannot wait for each other.
    """

    __tablename__ = "archive"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    uri: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    images: Mapped[int] = mapped_column(BigInteger, server_default="0")
    missing: Mapped[int] = mapped_column(BigInteger, server_default="0")


class Image(Base):
    """One key of an archive and the version of the object that was last listed there."""

    __tablename__ = "image"
    __table_args__ = (Index("uq_image_archive_id_key", "archive_id", "key", unique=True),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id))
    # Keys sort by bytes, as object stores list them; a prefix is then a range of the index.
    key: Mapped[str] = mapped_column(Text(collation="C"))
    version: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    modified_at: Mapped[datetime | None]
    listed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a listing first passed its place without finding it; its results stay until somebody deletes them.
    missing_since: Mapped[datetime | None]


class Job(Base):
    """One request to recognise an archive. ``listed = done + skipped + failed + pending`` at every commit.

    ``done`` and ``failed`` count the closed shards only; the open ones carry their own counts.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'paused', 'done', 'cancelled', 'failed')", name="state"),
        Index("ix_job_open", "id", postgresql_where=text("state IN ('running', 'paused')")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id))
    source: Mapped[str]
    prefix: Mapped[str]
    model: Mapped[str]
    captioner: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(server_default="running")
    generation_id: Mapped[int | None] = mapped_column(ForeignKey(Generation.id))
    # Other tags than the model's own; what is kept of each image; and where tags are given anew from what is kept, by
    # which generation that was recorded.
    vocabulary_id: Mapped[int | None] = mapped_column(ForeignKey(Vocabulary.id))
    features: Mapped[str] = mapped_column(server_default="none")
    from_generation_id: Mapped[int | None] = mapped_column(ForeignKey(Generation.id))
    # Of the manifest that `source` names, when the job began; None where an archive is listed.
    manifest_version: Mapped[str | None]
    # The listing: where it got to, who is at it, and whether it is complete.
    list_cursor: Mapped[str | None]
    list_epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    list_lease_until: Mapped[datetime | None]
    list_attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    list_next_at: Mapped[datetime | None]
    listed_all_at: Mapped[datetime | None]
    listed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    skipped: Mapped[int] = mapped_column(BigInteger, server_default="0")
    done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    # Resumed after it failed: it goes on however many of its images are forbidden.
    breaker_is_off: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    stage_seconds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    note: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Shard(Base):
    """Keys leased together, and what became of each: ``outcomes[i]`` belongs to ``image_ids[i]``.

    An outcome is one byte: 0 pending, 1 done, 2 failed, 3 skipped (deleted while it waited). Whoever holds the lease
    knows ``epoch``; every write names it.
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
    # Rounds that ended in a passing trouble of the surroundings; `attempts` counts holders that died.
    tries: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    # The position of the image that is being tried alone: if the holder dies, this image is the suspect.
    probe: Mapped[int | None] = mapped_column(SmallInteger)
    probe_deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    image_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    outcomes: Mapped[bytes] = mapped_column(LargeBinary)
    n_done: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    n_failed: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    n_skipped: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    stage_seconds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Skip(Base):
    """The images of one page of a listing that needed nothing: a report tells the outcome of every key.

    Ids are given out in the order of keys, so that a page of a thousand is mostly a single range.
    """

    __tablename__ = "skip"
    __table_args__ = (Index("ix_skip_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    image_ids: Mapped[list[Range[int]]] = mapped_column(INT8MULTIRANGE)


class Naming(Base):
    """An image that a job's manifest has named so far: it may name it again. Empty once the manifest is read."""

    __tablename__ = "naming"

    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id), primary_key=True)
    image_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)


class Record(Base):
    """What one image yielded under one generation: tags with scores, caption, true size.

    ``tags`` is ascending and holds every tag above the model's score floor; ``scores[i]`` belongs to ``tags[i]``, in
    units of ``1 / SCORE_SCALE``. A tag is assigned when its score is above its threshold: a matter of the query.

    Whoever changes tags, scores or the job of a record must touch its vector (``repositories.vectors.touch``). What
    people say of the tags is apart, in ``correction``; the SQL function ``corrected_tags`` puts both together.
    """

    __tablename__ = "record"
    __table_args__ = (
        Index("ix_record_job_id", "job_id", "image_id"),
        {"postgresql_partition_by": "LIST (generation_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a generation that is registered has a partition (``repositories.partitions``).
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    tags: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    scores: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    caption: Mapped[str | None]
    captioner: Mapped[str]
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Vector(Base):
    """The unit vector of one image under one generation, as little-endian float16.

    ``xid`` is the transaction that wrote the row, or changed something else that the index shows of the image: the
    index reads what is new by it, and misses nothing that commits late, which a sequence would.
    """

    __tablename__ = "vector"
    __table_args__ = (
        Index("ix_vector_xid", "xid"),  # of one partition at a time, that is of one generation
        {"postgresql_partition_by": "LIST (generation_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    v: Mapped[bytes] = mapped_column(LargeBinary)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))


class JobRequest(Base):
    """A request for a job that named itself, for a day, so that it may be sent twice."""

    __tablename__ = "job_request"
    __table_args__ = (Index("ix_job_request_created_at", "created_at"),)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Correction(Base):
    """What a person said of one tag of an image: that it is there, or that it is not, whatever any model says.

    By name, since it holds under each generation whose vocabulary has a tag of that name. ``name`` is in lower case.
    """

    __tablename__ = "correction"

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    spelling: Mapped[str]  # as it was typed
    is_present: Mapped[bool] = mapped_column(Boolean)
    # The name of the token that it was said with, or "local".
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Erasure(Base):
    """An image that was deleted: the index must forget it, and reports tell that it did."""

    __tablename__ = "erasure"
    __table_args__ = (Index("ix_erasure_generation_id_xid", "generation_id", "xid"),)

    image_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id), primary_key=True)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    erased_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TagPolicy(Base):
    """That a tag (its name in lower case) counts in an archive (None: in all) or not; see ``storage.policy``."""

    __tablename__ = "tag_policy"
    __table_args__ = (
        CheckConstraint("kind IN ('allow', 'deny')", name="kind"),
        UniqueConstraint("archive_id", "name", postgresql_nulls_not_distinct=True),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    archive_id: Mapped[int | None] = mapped_column(ForeignKey(Archive.id))
    name: Mapped[str]
    kind: Mapped[str]
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Deletion(Base):
    """What somebody wanted deleted. It names no key: those may be what has to be forgotten.

    ``sha256`` is over the ids of all its images, ``request_sha256`` over the words that asked for them.
    """

    __tablename__ = "deletion"
    __table_args__ = (CheckConstraint("kind IN ('images', 'prefix', 'archive')", name="kind"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    request_sha256: Mapped[str]
    kind: Mapped[str]
    archive_id: Mapped[int | None] = mapped_column(ForeignKey(Archive.id))
    said_by: Mapped[str]
    images: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    feature_files: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    begun_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class DeletionPart(Base):
    """Some images of a deletion, and whether all that was here of them is gone. ``keys`` only where asked for."""

    __tablename__ = "deletion_part"

    deletion_id: Mapped[int] = mapped_column(ForeignKey(Deletion.id), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    image_ids: Mapped[list[Range[int]]] = mapped_column(INT8MULTIRANGE)
    keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    is_done: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class FeatureFile(Base):
    """A file of stored features beside the index: never changed, named by its content."""

    __tablename__ = "feature_file"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id))
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)
    rows: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # When another file took its place: whoever is reading it may finish.
    retired_at: Mapped[datetime | None]


class Feature(Base):
    """Where the features of one image lie. ``version`` is the object's that they were made of."""

    __tablename__ = "feature"
    __table_args__ = (Index("ix_feature_file_id", "file_id"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id), primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey(FeatureFile.id))
    position: Mapped[int] = mapped_column(Integer)
    version: Mapped[str]


class Failure(Base):
    """Why an image of a job has no record. Kept for the job's books; ``retrying`` while a retry is under way."""

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


class Worker(Base):
    """A worker process that lives, or lived until ``heartbeat_at``."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    device: Mapped[str]
    model: Mapped[str | None]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    images_per_second: Mapped[float] = mapped_column(Float, server_default="0")
    stages: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IndexState(Base):
    """Which manifest of a generation's vector index is published, and up to which transaction it is complete."""

    __tablename__ = "index_state"

    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id), primary_key=True, autoincrement=False)
    manifest: Mapped[int] = mapped_column(BigInteger)
    watermark: Mapped[int] = mapped_column(XID8)
    epoch: Mapped[int] = mapped_column(Integer)
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())

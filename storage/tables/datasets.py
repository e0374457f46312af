"""Data sets for training: their versions, the pictures and labels of each, and what people said of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base
from storage.tables.generation import Vocabulary
from storage.tables.ledger import Image


class Dataset(Base):
    """A data set. Its labels are tags of one vocabulary."""

    __tablename__ = "dataset"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id))
    said_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DatasetVersion(Base):
    """One version of a data set: what a step made of its parent. It never changes once its ``state`` is ``done``.

    ``phase`` is the part of the step that is under way; see ``workers.datasets``. ``job_ids`` are the jobs that a step
    waits for.
    """

    __tablename__ = "dataset_version"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        CheckConstraint("step IN ('build', 'import', 'generate', 'clean', 'correct')", name="step"),
        CheckConstraint("state IN ('running', 'paused', 'done', 'cancelled', 'failed')", name="state"),
        Index("ix_dataset_version_open", "id", postgresql_where=text("state IN ('running', 'paused')")),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(Dataset.id, ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id", ondelete="SET NULL"))
    step: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="running")
    phase: Mapped[str | None]
    # Whether the phase has its tasks. Some need none.
    is_planned: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # What was asked for: sources, thresholds, the settings of cleaning.
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    job_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    # Over all pictures and labels, in order. None until the version is done.
    sha256: Mapped[str | None]
    note: Mapped[str | None]
    said_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class DatasetTask(Base):
    """A piece of work of a phase, such as one tag or a range of images. It is leased like a shard: see ``epoch`` there.

    ``input`` says what to do, ``result`` what came of it.
    """

    __tablename__ = "dataset_task"
    __table_args__ = (
        CheckConstraint("state IN ('ready', 'leased', 'done', 'failed')", name="state"),
        Index(
            "ix_dataset_task_open",
            "version_id",
            "phase",
            "number",
            postgresql_where=text("state IN ('ready', 'leased')"),
        ),
    )

    version_id: Mapped[int] = mapped_column(ForeignKey(DatasetVersion.id, ondelete="CASCADE"), primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    state: Mapped[str] = mapped_column(server_default="ready")
    input: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    result: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    epoch: Mapped[int] = mapped_column(Integer, server_default="0")
    # Holders in a row that ended without a word.
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    # How often in a row a holder gave it back, since something that it needs was away.
    given_back: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    next_try_at: Mapped[datetime | None]
    note: Mapped[str | None]
    seconds: Mapped[float] = mapped_column(Float, server_default="0")
    done_at: Mapped[datetime | None]


class DatasetItem(Base):
    """A picture of a version, and its captions: ``origins[i]`` says where ``captions[i]`` is from.

    ``version`` is that of the bytes. Pictures with the same ``group_id`` are the same or nearly: they are in one split.
    """

    __tablename__ = "dataset_item"
    __table_args__ = (
        CheckConstraint("cardinality(captions) = cardinality(origins)", name="origins_fit"),
        {"postgresql_partition_by": "LIST (version_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a version that is registered has a partition (``datasets.partitions``).
    version_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    version: Mapped[str]
    # False until the step has decided: training.
    is_validation: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    group_id: Mapped[int | None] = mapped_column(BigInteger)
    captions: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")


class DatasetLabel(Base):
    """A tag of a picture in a version: kept, or dropped for a ``reason``.

    ``origins`` are all those that named it: ``given``, ``parsed``, ``generated``, ``corrected``. ``certainty`` is how
    sure its step was of keeping or dropping it, 0..1; ``evidence`` is on what.
    """

    __tablename__ = "dataset_label"
    __table_args__ = (
        CheckConstraint("reason IN ('outlier', 'contradicted', 'no_region', 'removed')", name="reason"),
        Index("ix_dataset_label_tag", "version_id", "tag_id", "image_id"),
        {"postgresql_partition_by": "LIST (version_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    version_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    tag_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    origins: Mapped[list[str]] = mapped_column(ARRAY(Text))
    reason: Mapped[str | None]
    certainty: Mapped[float | None] = mapped_column(REAL)
    evidence: Mapped[dict[str, Any] | None]


class DatasetReview(Base):
    """What a person said of a step's decision about a tag of a picture: it was right, or not.

    The decision was to drop the tag, or (``was_dropped`` false) to add or keep it.
    """

    __tablename__ = "dataset_review"
    __table_args__ = (Index("ix_dataset_review_said", "dataset_id", "said_by", "said_at"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey(Dataset.id, ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    was_dropped: Mapped[bool] = mapped_column(Boolean)
    is_right: Mapped[bool] = mapped_column(Boolean)
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())

"""Results: records, vectors and stored features; people's corrections; deletions."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
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
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, Range
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.generation import Generation
from storage.tables.ledger import Archive, Image


class Record(Base):
    """The result of one image under one generation: tags with scores, caption, true size.

    ``tags`` is ascending and holds every tag above the model's score floor. ``scores[i]`` belongs to ``tags[i]``, in
    units of ``1 / SCORE_SCALE``. A tag is assigned if its score is above its threshold, which depends on the query.

    Every change of a record's tags, scores or job must touch its vector (``results.vectors.touch``). People's
    corrections are separate, in ``correction``. The SQL function ``corrected_tags`` combines both.
    """

    __tablename__ = "record"
    __table_args__ = ({"postgresql_partition_by": "LIST (generation_id)"},)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a generation that is registered has a partition (``results.partitions``).
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
    # Of the bytes that were recognised. None: recorded by a version of ramq that did not keep it.
    sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    # Number format of the products behind the tags, by its place in ``PRECISIONS``. None likewise.
    precision: Mapped[int | None] = mapped_column(SmallInteger)


class Vector(Base):
    """The unit vector of one image under one generation, as little-endian float16.

    ``xid`` is the transaction that wrote the row, or changed another fact that the index shows of the image. The index
    uses it to read new rows. Unlike a sequence, it misses no row that commits late.
    """

    __tablename__ = "vector"
    __table_args__ = (
        Index("ix_vector_xid", "xid"),  # per partition, that is per generation
        {"postgresql_partition_by": "LIST (generation_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    v: Mapped[bytes] = mapped_column(LargeBinary)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))


class FeatureFile(Base):
    """A file of stored features, next to the index: never changed, named by its content."""

    __tablename__ = "feature_file"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id))
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)
    rows: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # When another file replaced it. Current readers may finish.
    retired_at: Mapped[datetime | None]


class Feature(Base):
    """Position of the stored features of one image. ``version`` is that of the object they were computed from."""

    __tablename__ = "feature"
    __table_args__ = (Index("ix_feature_file_id", "file_id"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id), primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey(FeatureFile.id))
    position: Mapped[int] = mapped_column(Integer)
    version: Mapped[str]


class IndexState(Base):
    """The published manifest of a generation's vector index, and the transaction up to which it is complete."""

    __tablename__ = "index_state"

    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id), primary_key=True, autoincrement=False)
    manifest: Mapped[int] = mapped_column(BigInteger)
    watermark: Mapped[int] = mapped_column(XID8)
    epoch: Mapped[int] = mapped_column(Integer)
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Correction(Base):
    """A correction of one tag of an image by a person: it is present, or not, whatever a model says.

    It is stored by name, since it applies under each generation whose vocabulary has this name. ``name`` is in lower
    case.
    """

    __tablename__ = "correction"
    # Searches by text ask what people said of a tag.
    __table_args__ = (Index("ix_correction_name", "name", "image_id", postgresql_include=["is_present"]),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    spelling: Mapped[str]  # as typed
    is_present: Mapped[bool] = mapped_column(Boolean)
    # The name of the author's token, or "local".
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TagPolicy(Base):
    """A rule for a tag (its name in lower case) in an archive (None: in all); see ``results.policy``.

    A tag has one rule there about whether it counts, and one that it is no thing.
    """

    __tablename__ = "tag_policy"
    __table_args__ = (
        CheckConstraint("kind IN ('allow', 'deny', 'no_thing')", name="kind"),
        Index(
            "ix_tag_policy_rule",
            "archive_id",
            "name",
            text("(kind = 'no_thing')"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    archive_id: Mapped[int | None] = mapped_column(ForeignKey(Archive.id))
    name: Mapped[str]
    kind: Mapped[str]
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Erasure(Base):
    """An erased row of the index: the index must forget it, and reports confirm that it did.

    ``image_id`` is the row's id: that of its image, or for regions a number made from it (``results.index_rows``).
    """

    __tablename__ = "erasure"
    __table_args__ = (Index("ix_erasure_generation_id_xid", "generation_id", "xid"),)

    image_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id), primary_key=True)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    erased_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Deletion(Base):
    """A request to delete images. It contains no key, since keys themselves may have to be forgotten.

    ``sha256`` is over the ids of all its images, ``request_sha256`` over the words of the request.
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
    """Some images of a deletion, and whether everything here is deleted. ``keys`` only if requested."""

    __tablename__ = "deletion_part"

    deletion_id: Mapped[int] = mapped_column(ForeignKey(Deletion.id), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    image_ids: Mapped[list[Range[int]]] = mapped_column(INT8MULTIRANGE)
    keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    is_done: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))

"""What the files of images say of them: date, camera, place, and what people wrote into them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Archive, Image


class Device(Base):
    """A camera or a lens. Images have its number, since they share few of them.

    ``make`` and ``model`` are as files have them; a lens has only a model. ``label`` is for people, ``folded`` is the
    label as search compares it. Rows stay when the last image of a device is erased: they say nothing of images.
    """

    __tablename__ = "device"
    __table_args__ = (
        CheckConstraint("kind IN ('camera', 'lens')", name="kind"),
        UniqueConstraint("kind", "make", "model"),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    make: Mapped[str]
    model: Mapped[str]
    label: Mapped[str]
    folded: Mapped[str]


class Metadata(Base):
    """What the file of one image says, whatever recognised it. NULL: nothing that can be read.

    An image has a row as soon as its file was read, also if the file says nothing. ``version`` is that of the bytes,
    ``job_id`` the job that read them. ``taken_at`` is the local time of the camera, and ``taken_offset`` the minutes
    by which that is ahead of UTC, if the file tells. ``cell`` is a square of latitude and longitude
    (``results.metadata.cell_of``). ``keyword_folds`` are the keywords as search compares them, also each level of a
    hierarchy. ``xid`` is the transaction that last changed the row.
    """

    __tablename__ = "metadata"
    __table_args__ = (
        Index("ix_metadata_taken_at", "taken_at", postgresql_where=text("taken_at IS NOT NULL")),
        Index("ix_metadata_camera_id", "camera_id", postgresql_where=text("camera_id IS NOT NULL")),
        Index("ix_metadata_lens_id", "lens_id", postgresql_where=text("lens_id IS NOT NULL")),
        Index("ix_metadata_cell", "cell", postgresql_where=text("cell IS NOT NULL")),
        Index("ix_metadata_rating", "rating", postgresql_where=text("rating IS NOT NULL")),
        Index(
            "ix_metadata_keyword_folds",
            "keyword_folds",
            postgresql_using="gin",
            postgresql_where=text("keyword_folds IS NOT NULL"),
        ),
        Index("ix_metadata_xid", "xid"),
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    taken_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=False))
    taken_offset: Mapped[int | None] = mapped_column(SmallInteger)
    camera_id: Mapped[int | None] = mapped_column(ForeignKey(Device.id))
    lens_id: Mapped[int | None] = mapped_column(ForeignKey(Device.id))
    focal_mm: Mapped[float | None] = mapped_column(REAL)
    exposure_seconds: Mapped[float | None] = mapped_column(REAL)
    f_number: Mapped[float | None] = mapped_column(REAL)
    iso: Mapped[int | None] = mapped_column(Integer)
    latitude: Mapped[float | None] = mapped_column(Double)
    longitude: Mapped[float | None] = mapped_column(Double)
    altitude_m: Mapped[float | None] = mapped_column(REAL)
    cell: Mapped[int | None] = mapped_column(Integer)
    title: Mapped[str | None]
    description: Mapped[str | None]
    keywords: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    keyword_folds: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    rating: Mapped[int | None] = mapped_column(SmallInteger)
    creator: Mapped[str | None]
    rights: Mapped[str | None]
    # What the file itself says, if the other columns also have what its sidecar says.
    own: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))


class Sidecar(Base):
    """An XMP file beside images, and what it says (``results.sidecars``). ``version`` is that of the listing."""

    __tablename__ = "sidecar"

    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id, ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    version: Mapped[str]
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)

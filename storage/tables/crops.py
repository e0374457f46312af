"""Regions as pictures of their own: what the stage ``crops`` computed for each region of an image."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Image


class Cropping(Base):
    """An image whose regions have vectors under one generation of the stage ``crops``, or that has no region.

    ``regions_xid`` is ``located_image.xid`` when the regions were read. If it is another one now, they have changed
    since, by locating again or by a person. ``version`` is that of the bytes that were cropped.
    """

    __tablename__ = "cropping"
    __table_args__ = ({"postgresql_partition_by": "LIST (generation_id)"},)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a generation that is registered has a partition (``results.partitions``).
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    regions_xid: Mapped[int | None] = mapped_column(XID8)
    cropped_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Crop(Base):
    """The unit vector of one region of an image, as little-endian float16, and the tags of the region as a picture.

    ``tag`` and ``box`` are those of the region, as in ``Localization``. ``tags`` are the names that the model assigned,
    highest score first, with ``scores`` in units of ``1 / SCORE_SCALE``. ``number`` counts the regions of the image
    from 1 as they were then. ``xid`` is the transaction that wrote the row, as in ``Vector``.
    """

    __tablename__ = "crop"
    __table_args__ = (
        Index("ix_crop_xid", "xid"),  # per partition, that is per generation
        {"postgresql_partition_by": "LIST (generation_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    tag: Mapped[str]
    box: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    scores: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    v: Mapped[bytes] = mapped_column(LargeBinary)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))

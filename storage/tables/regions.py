"""Where tags are in images: what the stage ``locate`` found, how people corrected it, and what search counts."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
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
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Image

AREA_SCALE = 1_000_000
"""Shares of a picture are stored as whole numbers of 1/1,000,000. What covers anything at all has at least 1."""


class Localization(Base):
    """The regions of one image under one generation of the stage ``locate``, highest score first.

    Region n has the tag ``tags[n]``, the score ``scores[n]`` in units of ``1 / SCORE_SCALE``, and the four numbers
    ``boxes[4n : 4n + 4]``: left, top, right, bottom in units of ``1 / CORNER_SCALE`` of the upright picture's width and
    height. Line n of ``masks`` is its mask (``results.masks``), empty without one, and ``mask_qualities[n]`` the
    mask's quality in units of ``1 / SCORE_SCALE``. Both are NULL if no region has a mask.
    """

    __tablename__ = "localization"
    __table_args__ = ({"postgresql_partition_by": "LIST (generation_id)"},)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a generation that is registered has a partition (``results.partitions``).
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    scores: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    boxes: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    masks: Mapped[str | None]
    mask_qualities: Mapped[list[int | None] | None] = mapped_column(ARRAY(SmallInteger))
    # There were more regions than the limit.
    is_cut: Mapped[bool] = mapped_column(Boolean)
    located_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LocatedImage(Base):
    """An image with regions, or in which none were found, and the generation of its newest result.

    Search counts the regions of the newest result, whatever its generation.
    """

    __tablename__ = "located_image"
    __table_args__ = (Index("ix_located_image_xid", "xid"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # None: no result is left.
    generation_id: Mapped[int | None] = mapped_column(SmallInteger)
    # The lists (``RegionList``) in which the image is.
    names: Mapped[list[str]] = mapped_column(ARRAY(Text(collation="C")), server_default=text("'{}'"))
    # The last transaction that changed its counts. A process that keeps the images of a condition asks what changed.
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))


class RegionList(Base):
    """The images of one block that have regions of a tag, with their number and the share of the picture they cover.

    People's corrections are included. ``results.region_lists`` says how it is packed. A tag without regions in a block
    has no row there.
    """

    __tablename__ = "region_list"

    # In the one form of names that people would call equal (``texts.fold``); empty: every located image.
    name: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    block: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    packed: Mapped[bytes] = mapped_column(LargeBinary)


class RegionCorrection(Base):
    """A person's correction of a region: that a tag is at a place, or that it is not.

    It belongs to a tag and a place in the picture and not to a generation, so it survives locating again: it replaces
    the regions of the tag that are at about this place.
    """

    __tablename__ = "region_correction"
    __table_args__ = (Index("ix_region_correction_image_id", "image_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"))
    tag: Mapped[str]
    box: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))  # as in ``Localization``, of one region
    is_there: Mapped[bool] = mapped_column(Boolean)
    # The name of the author's token, or "local".
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())

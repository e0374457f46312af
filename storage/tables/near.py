"""Near copies: groups of pictures that are nearly the same, and the search that found them."""

from datetime import datetime

from sqlalchemy import REAL, BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Image


class NearCopy(Base):
    """An image of a group of near copies, as the last search found them (``near_search``).

    ``group_id`` is the id of the image around which the group is: the one with the most pixels. ``distance`` is how
    many bits of the two hashes of what they show differ, and ``cosine`` that of their vectors; 0 and 1 for that image.
    """

    __tablename__ = "near_copy"
    __table_args__ = (Index("ix_near_copy_group_id", "group_id", "image_id"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    group_id: Mapped[int] = mapped_column(BigInteger)
    distance: Mapped[int] = mapped_column(SmallInteger)
    cosine: Mapped[float] = mapped_column(REAL)


class NearSearch(Base):
    """The last search for near copies, and whether another one is wanted. One row, or none before the first.

    What it found is as of ``found_at``: what transactions from ``watermark`` on wrote is not in it. ``generation_id``
    made the vectors, ``distance`` and ``cosine`` were its thresholds. It took ``seconds``. ``images`` were compared;
    ``unread`` had no hash, ``plain`` no structure, ``common`` more pictures like them than a hash tells apart.
    """

    __tablename__ = "near_search"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    requested_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    found_at: Mapped[datetime | None]
    watermark: Mapped[int | None] = mapped_column(XID8)
    generation_id: Mapped[int | None] = mapped_column(SmallInteger)
    distance: Mapped[int | None] = mapped_column(SmallInteger)
    cosine: Mapped[float | None] = mapped_column(REAL)
    images: Mapped[int | None] = mapped_column(BigInteger)
    unread: Mapped[int | None] = mapped_column(BigInteger)
    plain: Mapped[int | None] = mapped_column(BigInteger)
    common: Mapped[int | None] = mapped_column(BigInteger)
    grouped: Mapped[int | None] = mapped_column(BigInteger)
    seconds: Mapped[float | None] = mapped_column(REAL)

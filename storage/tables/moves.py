"""Pictures that changed their place: the bytes that a key had before, and the numbers of images that were merged."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base
from storage.tables.ledger import Image


class FormerContent(Base):
    """The bytes that an image had when people last could speak of them, if others were read at its key since.

    A row stays until the end of a job decides what became of the picture (``results.replaced``). ``version`` and
    ``hash`` are as in ``content``. ``v``, ``width`` and ``height`` are what ``generation_id`` had recorded of these
    bytes: with ``pixels``, as in ``content``, they tell whether only what the file says was changed. None: nothing was
    recorded.
    """

    __tablename__ = "former_content"
    __table_args__ = (Index("ix_former_content_archive_id_hash", "archive_id", "hash"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    archive_id: Mapped[int] = mapped_column(Integer)
    version: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    pixels: Mapped[int | None] = mapped_column(BigInteger)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    generation_id: Mapped[int | None] = mapped_column(SmallInteger)
    v: Mapped[bytes | None] = mapped_column(LargeBinary)
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)


class MergedImage(Base):
    """The number of an image that was merged into another one, to which links to it lead."""

    __tablename__ = "merged_image"
    __table_args__ = (Index("ix_merged_image_image_id", "image_id"),)

    merged_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"))

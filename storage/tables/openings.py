"""Images whose picture was not read as a whole."""

from sqlalchemy import REAL, BigInteger, ForeignKey, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base
from storage.tables.ledger import Image


class Opening(Base):
    """How the picture of an image was read when it was recognised last, if not as a whole. NULL: in this it was.

    ``share`` is that of the rows that could be read of a file which is cut short, ``pages`` the pages of a document of
    which one was read, ``tiles`` the parts in which a long picture was recognised. ``version`` is that of the
    bytes, ``job_id`` the job that read them.
    """

    __tablename__ = "opening"
    __table_args__ = (
        Index("ix_opening_job_id", "job_id"),
        Index("ix_opening_share", "image_id", postgresql_where=text("share IS NOT NULL")),
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    share: Mapped[float | None] = mapped_column(REAL)
    tiles: Mapped[int | None] = mapped_column(SmallInteger)
    pages: Mapped[int | None] = mapped_column(Integer)

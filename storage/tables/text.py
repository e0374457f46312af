"""The text that stands in images: what the stage ``text`` read, and how people corrected it."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Identity, Index, Integer, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Image

_SHORT = {"gin_pending_list_limit": 256}
"""In KiB. Every search reads what an index has not put in order yet."""


class Reading(Base):
    """The lines of text in one image under one generation of the stage ``text``, in reading order; without text: none.

    Line n has the text ``lines[n]``, the confidence ``confidences[n]`` in units of ``1 / SCORE_SCALE``, and the eight
    numbers ``corners[8n : 8n + 8]``: x and y of four corners, clockwise from the text's own top left, in units of
    ``1 / CORNER_SCALE`` of the upright picture's width and height.
    """

    __tablename__ = "reading"
    __table_args__ = ({"postgresql_partition_by": "LIST (generation_id)"},)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a generation that is registered has a partition (``results.partitions``).
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    lines: Mapped[list[str]] = mapped_column(ARRAY(Text))
    confidences: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    corners: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    # There was more text than the limit.
    is_cut: Mapped[bool] = mapped_column(Boolean)
    read_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReadingIndex(Base):
    """The words that search finds in an image under one generation, people's corrections included (``storage.words``).

    It is apart from ``Reading`` because a search visits the row of every image that has a word, and rows half as wide
    are found in half the time. An image that never had words has no row.
    """

    __tablename__ = "reading_index"
    __table_args__ = (
        # Per partition, that is per generation.
        Index("ix_reading_index_words", "words", postgresql_using="gin", postgresql_with=_SHORT),
        Index("ix_reading_index_xid", "xid"),
        {"postgresql_partition_by": "LIST (generation_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    # None: no words any more.
    words: Mapped[str | None] = mapped_column(TSVECTOR)
    # The last transaction that changed it. A process that keeps the images of a word asks what changed since.
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))


class ReadWord(Base):
    """A word that stands in some image, for finding the words that a reader misread.

    Near words have a key in common (``results.misread``). Words that are too short to say are not here
    (``storage.words.can_be_misread``).
    """

    __tablename__ = "read_word"
    __table_args__ = (Index("ix_read_word_keys", "keys", postgresql_using="gin", postgresql_with=_SHORT),)

    word: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    keys: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class LineCorrection(Base):
    """A person's correction of a line: its right text, or (None) that there is no text.

    It belongs to a place in the picture and not to a generation, so it survives reading again: it replaces the lines
    whose middle lies in it, and is a line of its own if there is none.
    """

    __tablename__ = "line_correction"
    __table_args__ = (Index("ix_line_correction_image_id", "image_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"))
    corners: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))  # as in ``Reading``, of one line
    text: Mapped[str | None]
    # The name of the author's token, or "local".
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())

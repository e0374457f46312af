"""The keywords that people give images, and the acts by which they give and remove them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Identity, Index, Integer, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, Range
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Image


class KeywordAct(Base):
    """What a person did to the keywords of some images at one time. It can be undone as a whole.

    Images that have none of ``if_any`` (folded words) are left alone; NULL: none is. ``query`` is the search that
    chose the images. ``images`` is how many were chosen, ``seen`` how many of them are done, ``changed`` how many of
    these got or lost a word, and ``full`` how many have too many keywords already. ``undone_by`` is set when the
    undoing begins, ``undone_at`` when it has ended. Both are empty again once it is redone, by ``redone_by``.
    """

    __tablename__ = "keyword_act"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    added: Mapped[list[str]] = mapped_column(ARRAY(Text))
    removed: Mapped[list[str]] = mapped_column(ARRAY(Text))
    if_any: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # For each added word the name of the tag that is added with it; empty: none is. Without any: no elements.
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    query: Mapped[str | None]
    images: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    seen: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    changed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    full: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    said_by: Mapped[str]
    said_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    undone_by: Mapped[str | None]
    undone_at: Mapped[datetime | None]
    redone_by: Mapped[str | None]


class KeywordPart(Base):
    """Images of an act that are still to be done, or to be redone if it was undone, at most a thousand.

    The row is deleted when they are done.
    """

    __tablename__ = "keyword_part"

    act_id: Mapped[int] = mapped_column(ForeignKey(KeywordAct.id, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    image_ids: Mapped[list[Range[int]]] = mapped_column(INT8MULTIRANGE)


class KeywordSaid(Base):
    """What an act says of one image and one word: it has it, or it has it not.

    Of several acts that speak of the same image and word the last one counts. To undo an act is to delete its rows:
    then the one before it counts again. So there are rows that change nothing, too. That an image has not a word is
    left out where no act said otherwise, or may still do so. ``fold`` is the word as it is compared, ``word`` as it was
    typed. ``tag_before`` is for an act because of which the tag of that name is there, too: the correction of a person
    that had removed it, or an empty object if there was none. NULL: the tag is not there because of the act.
    """

    __tablename__ = "keyword_said"
    __table_args__ = (Index("ix_keyword_said_act_id", "act_id", "image_id"),)

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    fold: Mapped[str] = mapped_column(primary_key=True)
    act_id: Mapped[int] = mapped_column(ForeignKey(KeywordAct.id, ondelete="CASCADE"), primary_key=True)
    word: Mapped[str]
    is_present: Mapped[bool] = mapped_column(Boolean)
    tag_before: Mapped[dict[str, Any] | None]


class Keyword(Base):
    """The keywords that people gave one image, as ``keyword_said`` tells. A row stays when the last word is removed.

    ``words`` are as typed, in the order in which they came. ``folds`` are what ``keyword:`` finds, also each level of
    a hierarchy (``results.metadata.folds_of``), ``tokens`` the single words that a text finds. ``xid`` is the
    transaction that last changed the row.
    """

    __tablename__ = "keyword"
    __table_args__ = (
        Index("ix_keyword_folds", "folds", postgresql_using="gin"),
        Index("ix_keyword_tokens", "tokens", postgresql_using="gin"),
        Index("ix_keyword_xid", "xid"),
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    folds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    tokens: Mapped[list[str]] = mapped_column(ARRAY(Text))
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))

"""What people taught: vocabularies with heads. Neither ever changes: teaching again makes another vocabulary."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, LargeBinary, SmallInteger, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base
from storage.tables.generation import Generation, Vocabulary


class Teaching(Base):
    """A vocabulary that people taught: the tags of ``base_id`` under their ids, and new ones behind them."""

    __tablename__ = "teaching"

    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id, ondelete="CASCADE"), primary_key=True)
    base_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id))
    # The generation whose images it was taught on.
    from_generation_id: Mapped[int] = mapped_column(ForeignKey(Generation.id))
    said_by: Mapped[str]
    taught_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Head(Base):
    """How a mended or new tag gets its score: see ``ram_core.teaching.heads``."""

    __tablename__ = "head"
    __table_args__ = (CheckConstraint("method IN ('threshold', 'description', 'own+head', 'head')", name="method"),)

    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Teaching.vocabulary_id, ondelete="CASCADE"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    method: Mapped[str]
    weights: Mapped[bytes] = mapped_column(LargeBinary)  # float32, little-endian
    own: Mapped[float] = mapped_column(Float)
    bias: Mapped[float] = mapped_column(Float)
    # The images that taught it. Deleted ones leave the lists.
    yes: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    no: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    report: Mapped[dict[str, Any]] = mapped_column(JSONB)
    said_by: Mapped[str] = mapped_column(Text)
    taught_at: Mapped[datetime] = mapped_column(server_default=func.now())

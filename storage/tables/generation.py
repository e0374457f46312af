"""What made a result: generations and their vocabularies."""

from datetime import datetime

from sqlalchemy import (
    REAL,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class Vocabulary(Base):
    """A list of tags that a model can give. Tags are keyed by position, since several may share a name.

    Only synonyms of tags ever change, and ``edition`` with them; 0: none were given yet.
    """

    __tablename__ = "vocabulary"

    id: Mapped[int] = mapped_column(SmallInteger, Identity(), primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    size: Mapped[int] = mapped_column(Integer)
    edition: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class Tag(Base):
    """One tag of a vocabulary, with the threshold above which it is assigned by default."""

    __tablename__ = "tag"
    __table_args__ = (
        Index("ix_tag_lower_name", "vocabulary_id", func.lower(text("name"))),
        Index("ix_tag_name_zh", "vocabulary_id", "name_zh"),
    )

    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id, ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    name: Mapped[str]
    name_zh: Mapped[str | None]
    threshold: Mapped[float] = mapped_column(REAL)
    descriptions: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    synonyms: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class Generation(Base):
    """What made a result: model, weights, vocabulary, preprocessing. Immutable; one of each stage serves search.

    Only generations of recognition have a vocabulary. Those of other stages have vectors if ``vector_size`` is above 0.
    """

    __tablename__ = "generation"
    __table_args__ = (
        Index("uq_generation_is_default", "stage", unique=True, postgresql_where=text("is_default")),
        CheckConstraint("(stage = 'recognition') = (vocabulary_id IS NOT NULL)", name="vocabulary"),
    )

    id: Mapped[int] = mapped_column(SmallInteger, Identity(), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    stage: Mapped[str] = mapped_column(server_default="recognition")
    model: Mapped[str]
    weights_sha256: Mapped[str]
    preprocessing: Mapped[str]
    vector_kind: Mapped[str]
    vector_size: Mapped[int] = mapped_column(SmallInteger)
    # NULL for a stage other than recognition. Whoever asks for a vocabulary has a generation of recognition.
    vocabulary_id: Mapped[int] = mapped_column(ForeignKey(Vocabulary.id), nullable=True)
    is_default: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When another one replaced it in search. A rollback returns to the newest of these.
    served_until: Mapped[datetime | None]
    # Its results are deleted. The row stays, since the reports of its jobs refer to it.
    dropped_at: Mapped[datetime | None]

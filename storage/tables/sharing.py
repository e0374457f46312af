"""How users share the workers: quotas, whose turn it is, and how many images each was given today."""

from datetime import date

from sqlalchemy import BigInteger, CheckConstraint, Date, Float, ForeignKey, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base
from storage.tables.ledger import Archive

_KINDS = (
    "kind IN ('images_waiting', 'images_a_day', 'jobs_at_once', 'highest_priority', 'searches_per_second', 'share')"
)
_SUBJECTS = "subject IN ('default', 'user', 'token', 'archive')"


class Quota(Base):
    """How much somebody may use: for all users (``default``), or an exception for a user, a token or an archive.

    ``name`` is the user's name, the token's id or the archive's URI; empty for ``default``. The kind ``share`` is the
    weight of a user among those whose images wait.
    """

    __tablename__ = "quota"
    __table_args__ = (CheckConstraint(_KINDS, name="kind"), CheckConstraint(_SUBJECTS, name="subject"))

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    # NULL: as much as wanted, although others are limited. Of `highest_priority`: the number of the priority.
    amount: Mapped[float | None] = mapped_column(Float)


class Turn(Base):
    """What a user was given in a class of priority, in seconds of a worker divided by the weight. See ``ledger.turns``.

    ``began`` and ``ended`` are where the user's last claim begins and ends on the clock of the class. ``owed`` is what
    claims were charged that took less. ``image_seconds`` is what an image of the user took lately; None: unknown.
    """

    __tablename__ = "turn"

    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    began: Mapped[float] = mapped_column(Float)
    ended: Mapped[float] = mapped_column(Float)
    owed: Mapped[float] = mapped_column(Float, server_default="0")
    image_seconds: Mapped[float | None] = mapped_column(Float)
    claims: Mapped[int] = mapped_column(BigInteger)
    # How many claims there had been in all classes at this user's last one.
    claimed_at: Mapped[int] = mapped_column(BigInteger)
    last_job_id: Mapped[int] = mapped_column(BigInteger)


class DayUse(Base):
    """How many images jobs of a user were given in a day of UTC, by archive. Rows of earlier days are deleted."""

    __tablename__ = "day_use"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey(Archive.id, ondelete="CASCADE"), primary_key=True)
    images: Mapped[int] = mapped_column(BigInteger)

"""How fast workers were: what the backlog and estimates are reckoned with, also when no worker is alive."""

from datetime import datetime

from sqlalchemy import Float, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class Pace(Base):
    """How fast one worker was with one model on one kind of device: ``images`` in ``seconds``.

    ``squares`` is the sum of the squared rates of each report, weighted by its seconds: it tells how much they differ.
    All shrink as newer work is added, so that they tell of the last hours of work. Retagging is not among it, nor are
    images that took over the results of others.
    """

    __tablename__ = "pace"

    stage: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    device: Mapped[str] = mapped_column(Text, primary_key=True)
    images: Mapped[float] = mapped_column(Float)
    seconds: Mapped[float] = mapped_column(Float)
    squares: Mapped[float] = mapped_column(Float)
    measured_at: Mapped[datetime] = mapped_column(server_default=func.now())

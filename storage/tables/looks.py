"""How images look: what the stage ``look`` computed."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import XID8, Base
from storage.tables.ledger import Image


class Look(Base):
    """The unit vector of how one image looks under one generation of the stage ``look``, as little-endian float16.

    ``version`` is that of the bytes. ``xid`` is the transaction that wrote the row, as in ``Vector``.
    """

    __tablename__ = "look"
    __table_args__ = (
        Index("ix_look_xid", "xid"),  # per partition, that is per generation
        {"postgresql_partition_by": "LIST (generation_id)"},
    )

    image_id: Mapped[int] = mapped_column(ForeignKey(Image.id, ondelete="CASCADE"), primary_key=True)
    # No foreign key: only a generation that is registered has a partition (``results.partitions``).
    generation_id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]
    v: Mapped[bytes] = mapped_column(LargeBinary)
    xid: Mapped[int] = mapped_column(XID8, server_default=text("pg_current_xact_id()"))
    looked_at: Mapped[datetime] = mapped_column(server_default=func.now())

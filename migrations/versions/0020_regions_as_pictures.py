"""Regions as pictures of their own: their vectors and tags.

Revision: 0020
Follows: 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


class XID8(UserDefinedType[int]):
    """PostgreSQL's transaction ids, which SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the type's name."""
        return "xid8"


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "cropping",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("regions_xid", XID8(), nullable=True),
        sa.Column("cropped_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_cropping_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_cropping")),
        postgresql_partition_by="LIST (generation_id)",
    )
    op.create_table(
        "crop",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("box", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("scores", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("v", sa.LargeBinary(), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_crop_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", "number", name=op.f("pk_crop")),
        postgresql_partition_by="LIST (generation_id)",
    )
    op.create_index("ix_crop_xid", "crop", ["xid"])


def downgrade() -> None:
    """Take back: vectors of regions, and the jobs that made them, are deleted."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for table in ("crop", "cropping"):
        op.drop_table(table)
    cropping = "SELECT id FROM job WHERE stage = 'crops'"
    for table in ("failure", "skip", "naming", "shard", "notice", "job_request"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN ({cropping})")  # noqa: S608  (constants only)
    op.execute("DELETE FROM job WHERE stage = 'crops'")
    for table in ("erasure", "index_state"):
        op.execute(f"DELETE FROM {table} WHERE generation_id IN (SELECT id FROM generation WHERE stage = 'crops')")  # noqa: S608
    op.execute("DELETE FROM generation WHERE stage = 'crops'")

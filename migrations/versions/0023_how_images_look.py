"""How images look: vectors of a stage of their own.

Revision: 0023
Follows: 0022
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "0023"
down_revision = "0022"
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
        "look",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("v", sa.LargeBinary(), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_look_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_look")),
        postgresql_partition_by="LIST (generation_id)",
    )
    op.create_index("ix_look_xid", "look", ["xid"])


def downgrade() -> None:
    """Take back: vectors of how images look, and the jobs that made them, are deleted."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("look")
    looking = "SELECT id FROM job WHERE stage = 'look'"
    for table in ("failure", "skip", "naming", "shard", "notice", "job_request"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN ({looking})")  # noqa: S608  (constants only)
    op.execute("DELETE FROM job WHERE stage = 'look'")
    for table in ("erasure", "index_state"):
        op.execute(f"DELETE FROM {table} WHERE generation_id IN (SELECT id FROM generation WHERE stage = 'look')")  # noqa: S608
    op.execute("DELETE FROM generation WHERE stage = 'look'")

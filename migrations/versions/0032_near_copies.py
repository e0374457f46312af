"""What finds pictures that are nearly the same: hashes of what they show, groups of near copies, and the last search.

Revision: 0032
Follows: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


class XID8(sa.types.UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


def upgrade() -> None:
    """Apply. Images that were read before get their hashes when they are read again. No row is written for that."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("content", sa.Column("shape", sa.BigInteger(), nullable=True))
    op.add_column("content", sa.Column("pixels", sa.BigInteger(), nullable=True))
    # Without a default at first: one that is a function would write every row again.
    op.add_column("content", sa.Column("xid", XID8(), nullable=True))
    op.alter_column("content", "xid", server_default=sa.text("pg_current_xact_id()"))
    op.create_index("ix_content_xid", "content", ["xid"], postgresql_where=sa.text("shape IS NOT NULL"))
    op.create_table(
        "near_copy",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("distance", sa.SmallInteger(), nullable=False),
        sa.Column("cosine", sa.REAL(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_near_copy_image_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", name="pk_near_copy"),
    )
    op.create_index("ix_near_copy_group_id", "near_copy", ["group_id", "image_id"])
    op.create_table(
        "near_search",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watermark", XID8(), nullable=True),
        sa.Column("generation_id", sa.SmallInteger(), nullable=True),
        sa.Column("distance", sa.SmallInteger(), nullable=True),
        sa.Column("cosine", sa.REAL(), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=True),
        sa.Column("unread", sa.BigInteger(), nullable=True),
        sa.Column("plain", sa.BigInteger(), nullable=True),
        sa.Column("common", sa.BigInteger(), nullable=True),
        sa.Column("grouped", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.REAL(), nullable=True),
        sa.CheckConstraint("id = 1", name="ck_near_search_one"),
        sa.PrimaryKeyConstraint("id", name="pk_near_search"),
    )


def downgrade() -> None:
    """Take back: the hashes are lost, and are made again when the images are read."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("near_search")
    op.drop_table("near_copy")
    op.drop_index("ix_content_xid", "content")
    op.drop_column("content", "xid")
    op.drop_column("content", "pixels")
    op.drop_column("content", "shape")

"""Which images have the same bytes, and how many of a job took over the results of another one.

Revision: 0031
Follows: 0030
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Images that were read before get their hashes when they are listed or read again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "content",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_content_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_content")),
    )
    op.create_index("ix_content_hash", "content", ["hash", "image_id"])
    op.add_column("job", sa.Column("copied", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("looked_for_moves", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("shard", sa.Column("n_copied", sa.SmallInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Take back: the hashes are lost, and are made again when the images are read."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("shard", "n_copied")
    op.drop_column("job", "looked_for_moves")
    op.drop_column("job", "copied")
    op.drop_table("content")

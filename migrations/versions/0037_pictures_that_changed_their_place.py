"""Which bytes a key had before, until a job knows where they are now; and which images were merged into others.

Revision: 0037
Follows: 0036
"""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Both tables begin empty, and no row is rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "former_content",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("pixels", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=True),
        sa.Column("v", sa.LargeBinary(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_former_content_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_former_content")),
    )
    op.create_index("ix_former_content_archive_id_hash", "former_content", ["archive_id", "hash"])
    op.create_table(
        "merged_image",
        sa.Column("merged_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_merged_image_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("merged_id", name=op.f("pk_merged_image")),
    )
    op.create_index("ix_merged_image_image_id", "merged_image", ["image_id"])


def downgrade() -> None:
    """Take back: links to merged images lead nowhere again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("merged_image")
    op.drop_table("former_content")

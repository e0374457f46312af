"""Deletions: who asked for which, what became of every image, and where traces may still be.

Revision: 0010
Follows: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "deletion",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=True),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("feature_files", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('images', 'prefix', 'archive')", name=op.f("ck_deletion_kind")),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_deletion_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion")),
    )
    op.create_table(
        "deletion_part",
        sa.Column("deletion_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("image_ids", postgresql.INT8MULTIRANGE(), nullable=False),
        sa.Column("keys", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("is_done", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["deletion_id"], ["deletion.id"], name=op.f("fk_deletion_part_deletion_id")),
        sa.PrimaryKeyConstraint("deletion_id", "number", name=op.f("pk_deletion_part")),
    )


def downgrade() -> None:
    """Take back. What was deleted stays deleted; what is told of it is lost."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("deletion_part")
    op.drop_table("deletion")

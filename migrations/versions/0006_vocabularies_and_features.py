"""Vocabularies of one's own, stored features, and jobs that give new tags from them.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("tag", sa.Column("descriptions", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("job", sa.Column("vocabulary_id", sa.SmallInteger(), nullable=True))
    op.add_column("job", sa.Column("features", sa.Text(), server_default="none", nullable=False))
    op.add_column("job", sa.Column("from_generation_id", sa.SmallInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_job_vocabulary_id"), "job", "vocabulary", ["vocabulary_id"], ["id"])
    op.create_foreign_key(op.f("fk_job_from_generation_id"), "job", "generation", ["from_generation_id"], ["id"])
    op.create_table(
        "feature_file",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_feature_file_generation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feature_file")),
        sa.UniqueConstraint("name", name=op.f("uq_feature_file_name")),
    )
    op.create_table(
        "feature",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["feature_file.id"], name=op.f("fk_feature_file_id")),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_feature_generation_id")),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_feature_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_feature")),
    )
    op.create_index("ix_feature_file_id", "feature", ["file_id"])


def downgrade() -> None:
    """Take back. Feature files stay where they are, as files of no use."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("feature")
    op.drop_table("feature_file")
    op.drop_column("job", "from_generation_id")
    op.drop_column("job", "features")
    op.drop_column("job", "vocabulary_id")
    op.drop_column("tag", "descriptions")

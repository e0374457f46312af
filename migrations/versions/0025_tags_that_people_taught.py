"""Vocabularies that people taught further, and the heads that score their tags.

Revision: 0025
Follows: 0024
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "teaching",
        sa.Column("vocabulary_id", sa.SmallInteger(), nullable=False),
        sa.Column("base_id", sa.SmallInteger(), nullable=False),
        sa.Column("from_generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("taught_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["vocabulary_id"], ["vocabulary.id"], name=op.f("fk_teaching_vocabulary_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["base_id"], ["vocabulary.id"], name=op.f("fk_teaching_base_id")),
        sa.ForeignKeyConstraint(["from_generation_id"], ["generation.id"], name=op.f("fk_teaching_from_generation_id")),
        sa.PrimaryKeyConstraint("vocabulary_id", name=op.f("pk_teaching")),
    )
    op.create_table(
        "head",
        sa.Column("vocabulary_id", sa.SmallInteger(), nullable=False),
        sa.Column("tag_id", sa.SmallInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("weights", sa.LargeBinary(), nullable=False),
        sa.Column("own", sa.Float(), nullable=False),
        sa.Column("bias", sa.Float(), nullable=False),
        sa.Column("yes", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("no", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("report", postgresql.JSONB(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("taught_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("method IN ('threshold', 'description', 'own+head', 'head')", name=op.f("ck_head_method")),
        sa.ForeignKeyConstraint(
            ["vocabulary_id"], ["teaching.vocabulary_id"], name=op.f("fk_head_vocabulary_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("vocabulary_id", "tag_id", name=op.f("pk_head")),
    )


def downgrade() -> None:
    """Take back: what people taught is deleted. Images keep the tags that it gave them."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("head")
    op.drop_table("teaching")

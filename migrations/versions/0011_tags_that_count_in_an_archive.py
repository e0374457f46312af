"""Which tags count in which archive.

Revision: 0011
Follows: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "tag_policy",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('allow', 'deny')", name=op.f("ck_tag_policy_kind")),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_tag_policy_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag_policy")),
        sa.UniqueConstraint(
            "archive_id", "name", name=op.f("uq_tag_policy_archive_id_name"), postgresql_nulls_not_distinct=True
        ),
    )


def downgrade() -> None:
    """Take back. Every tag counts everywhere again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("tag_policy")

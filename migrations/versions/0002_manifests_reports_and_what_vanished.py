"""Manifests as sources, reports of every key, and keys that are no longer there.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Columns without a default are added without rewriting a table, however large."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("image", sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("manifest_version", sa.Text(), nullable=True))
    op.create_table(
        "skip",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("image_ids", postgresql.INT8MULTIRANGE(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_skip_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_skip")),
    )
    op.create_index("ix_skip_job_id", "skip", ["job_id"], unique=False)
    op.create_table(
        "naming",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_naming_job_id")),
        sa.PrimaryKeyConstraint("job_id", "image_id", name=op.f("pk_naming")),
    )


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("naming")
    op.drop_index("ix_skip_job_id", table_name="skip")
    op.drop_table("skip")
    op.drop_column("job", "manifest_version")
    op.drop_column("image", "missing_since")

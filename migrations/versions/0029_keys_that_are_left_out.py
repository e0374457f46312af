"""Which keys a job lists, and those that it left out.

Revision: 0029
Follows: 0028
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply: earlier jobs left nothing out, which the defaults say, and no row is rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    texts = postgresql.ARRAY(sa.Text())
    op.add_column("job", sa.Column("include", texts, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("job", sa.Column("exclude", texts, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("job", sa.Column("has_defaults", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("job", sa.Column("ignored", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.create_table(
        "ignored",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_key", sa.Text(collation="C"), nullable=False),
        sa.Column("last_key", sa.Text(collation="C"), nullable=False),
        sa.Column("keys", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_ignored_job_id_job")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ignored")),
    )
    op.create_index("ix_ignored_job_id", "ignored", ["job_id"])


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("ignored")
    for column in ("ignored", "has_defaults", "exclude", "include"):
        op.drop_column("job", column)

"""Notices that jobs ended, owed to a webhook, and which workers send them.

Revision: 0014
Follows: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("worker", sa.Column("sends_notices", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table(
        "notice",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_notice_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_notice")),
    )
    op.create_index("ix_notice_due_at", "notice", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))


def downgrade() -> None:
    """Take back. What is owed is forgotten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("notice")
    op.drop_column("worker", "sends_notices")

"""Turns are of worker time instead of images: what users are owed, and what their images took lately.

Revision: 0044
Follows: 0043
"""

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply: what users were given in images becomes seconds. There is a row for each user and priority."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("turn", sa.Column("owed", sa.Float(), server_default="0", nullable=False))
    op.add_column("turn", sa.Column("image_seconds", sa.Float(), nullable=True))
    # Whose turn it is, is found in it without reading every running job.
    op.create_index(
        "ix_job_turn",
        "job",
        ["priority", sa.text("coalesce(counts_for, said_by, 'local')"), sa.text("coalesce(with_job_id, id)"), "id"],
        postgresql_where=sa.text("state = 'running'"),
    )
    # What an image is taken to take at first.
    op.execute("UPDATE turn SET began = began * 0.125, ended = ended * 0.125")


def downgrade() -> None:
    """Take back: turns are of images again, and what users are owed is forgotten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("UPDATE turn SET began = began / 0.125, ended = ended / 0.125")
    op.drop_index("ix_job_turn", "job")
    op.drop_column("turn", "image_seconds")
    op.drop_column("turn", "owed")

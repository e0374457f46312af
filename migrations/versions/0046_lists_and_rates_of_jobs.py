"""Lists of jobs skip those of watches which have nothing to tell; what an image of a job takes a worker is kept.

Revision: 0046
Follows: 0045
"""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply: two indexes of jobs, and a column. There are few jobs; a hundred thousand take a fraction of a second."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("job", sa.Column("worked_seconds", sa.Float(), server_default="0", nullable=False))
    # As if one worker had done what is done of them.
    op.execute("UPDATE job SET worked_seconds = active_seconds WHERE state IN ('running', 'paused', 'failed')")
    op.create_index(
        "ix_job_newest", "job", ["watch_id", "stage", "id"], postgresql_where=sa.text("watch_id IS NOT NULL")
    )
    op.create_index(
        "ix_job_told", "job", ["id"], postgresql_where=sa.text("watch_id IS NULL OR state <> 'done' OR failed > 0")
    )


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_job_told", "job")
    op.drop_index("ix_job_newest", "job")
    op.drop_column("job", "worked_seconds")

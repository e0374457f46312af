"""Lists of jobs that skip those of watches which have nothing to tell, however many there are.

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
    """Apply: two indexes of jobs. There are few jobs; a hundred thousand take a fraction of a second."""
    op.execute("SET LOCAL lock_timeout = '2s'")
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

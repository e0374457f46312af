"""Records are no longer indexed by their job: nothing looked there, and every record paid for it.

Revision: 0013
Follows: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_record_job_id", table_name="record")


def downgrade() -> None:
    """Take back. Nobody can record while the index is made."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_index("ix_record_job_id", "record", ["job_id", "image_id"])

"""Where the trace of a job and of a shard goes on: the ``traceparent`` of the request, and of the last claim.

Revision: 0041
Follows: 0040
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The columns are empty, and no row is rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("job", sa.Column("trace", sa.Text(), nullable=True))
    op.add_column("shard", sa.Column("trace", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back: traces of jobs that are open begin anew."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("shard", "trace")
    op.drop_column("job", "trace")

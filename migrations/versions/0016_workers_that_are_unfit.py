"""What a worker runs and what it cannot do now; how long a job was worked on, and that it asked about an empty listing.

Revision: 0016
Follows: 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("worker", sa.Column("models", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("worker", sa.Column("unfit", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False))
    op.add_column("job", sa.Column("active_seconds", sa.Float(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("found_nothing_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("active_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("job", "active_until")
    op.drop_column("job", "found_nothing_at")
    op.drop_column("job", "active_seconds")
    op.drop_column("worker", "unfit")
    op.drop_column("worker", "models")

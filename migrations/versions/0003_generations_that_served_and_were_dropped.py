"""Which generation served search before the present one, and which were dropped.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("generation", sa.Column("served_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("generation", sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take back. A dropped generation is there again, without results."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("generation", "dropped_at")
    op.drop_column("generation", "served_until")

"""Whether a job goes on although most of its archive may not be read.

Revision: 0008
Follows: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("job", sa.Column("breaker_is_off", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("job", "breaker_is_off")

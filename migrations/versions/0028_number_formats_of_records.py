"""In which number format a record was computed.

Revision: 0028
Follows: 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply: older records do not say it, and no row is rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("record", sa.Column("precision", sa.SmallInteger(), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("record", "precision")

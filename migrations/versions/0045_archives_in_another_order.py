"""Archives whose store does not list keys in the order of their bytes are known as such.

Revision: 0045
Follows: 0044
"""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply: of the archives that are there, the next listing finds out."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("archive", sa.Column("disordered_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("archive", "disordered_at")

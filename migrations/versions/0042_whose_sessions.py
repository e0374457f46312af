"""Whose sessions of the page there are, so that they end when their user is disabled.

Revision: 0042
Follows: 0041
"""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Of the sessions that go on it is not known whose they are. They end when any user is disabled."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("page_session", sa.Column("name", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back: sessions go on when a user who was disabled is enabled again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("page_session", "name")

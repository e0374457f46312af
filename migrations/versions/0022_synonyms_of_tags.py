"""Further names of tags, and a number that changes with those of a vocabulary.

Revision: 0022
Follows: 0021
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("tag", sa.Column("synonyms", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("vocabulary", sa.Column("edition", sa.Integer(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("vocabulary", "edition")
    op.drop_column("tag", "synonyms")

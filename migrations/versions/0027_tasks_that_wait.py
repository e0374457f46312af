"""Tasks of data sets that wait longer each time, and the answers of a data set and a person.

Revision: 0027
Follows: 0026
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("dataset_task", sa.Column("given_back", sa.SmallInteger(), server_default="0", nullable=False))
    op.create_index("ix_dataset_review_said", "dataset_review", ["dataset_id", "said_by", "said_at"])


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_dataset_review_said", "dataset_review")
    op.drop_column("dataset_task", "given_back")

"""An index of the images whose original is missing, which searches can leave out.

Revision: 0015
Follows: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Reads all images once."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_index("ix_image_missing", "image", ["id"], postgresql_where=sa.text("missing_since IS NOT NULL"))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_image_missing", table_name="image")

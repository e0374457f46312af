"""What people say of a tag is looked up by its name.

Revision: 0026
Follows: 0025
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_index("ix_correction_name", "correction", ["name", "image_id"], postgresql_include=["is_present"])


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_correction_name", "correction")

"""Pictures that were not read as a whole; sidecars beside pictures.

Revision: 0037
Follows: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply: the tables are empty, and the new column is NULL, so no row is rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "opening",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("share", sa.REAL(), nullable=True),
        sa.Column("tiles", sa.SmallInteger(), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_opening_image_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", name="pk_opening"),
    )
    op.create_index("ix_opening_job_id", "opening", ["job_id"])
    op.create_index("ix_opening_share", "opening", ["image_id"], postgresql_where=sa.text("share IS NOT NULL"))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("opening")

"""Pictures that were not read as a whole; sidecars beside pictures.

Revision: 0036
Follows: 0035
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0036"
down_revision = "0035"
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
    op.add_column("metadata", sa.Column("own", postgresql.JSONB(), nullable=True))
    op.create_table(
        "sidecar",
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("facts", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name="fk_sidecar_archive_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("archive_id", "key", name="pk_sidecar"),
    )
    op.create_index("ix_opening_job_id", "opening", ["job_id"])
    op.create_index("ix_opening_share", "opening", ["image_id"], postgresql_where=sa.text("share IS NOT NULL"))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("sidecar")
    op.drop_column("metadata", "own")
    op.drop_table("opening")

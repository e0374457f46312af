"""Where tags are in pictures: regions, what search counts of them, and what a job was asked for.

Revision: 0018
Follows: 0017
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


class XID8(UserDefinedType[int]):
    """PostgreSQL's transaction ids, which SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the type's name."""
        return "xid8"


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("job", sa.Column("options", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False))
    op.create_table(
        "localization",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("scores", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("boxes", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("masks", sa.Text(), nullable=True),
        sa.Column("mask_qualities", postgresql.ARRAY(sa.SmallInteger()), nullable=True),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.Column("located_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_localization_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_localization")),
        postgresql_partition_by="LIST (generation_id)",
    )
    op.create_table(
        "located_image",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=True),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_located_image_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_located_image")),
    )
    op.create_index("ix_located_image_xid", "located_image", ["xid"])
    op.create_table(
        "region_count",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("regions", sa.Integer(), nullable=False),
        sa.Column("area", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_region_count_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "name", name=op.f("pk_region_count")),
    )
    for number in ("regions", "area"):
        op.create_index(f"ix_region_count_name_{number}", "region_count", ["name", number, "image_id"])
    op.create_table(
        "region_correction",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("box", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("is_there", sa.Boolean(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_region_correction_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_region_correction")),
    )
    op.create_index("ix_region_correction_image_id", "region_correction", ["image_id"])


def downgrade() -> None:
    """Take back: regions, and jobs that locate tags, are deleted."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for table in ("region_correction", "region_count", "located_image", "localization"):
        op.drop_table(table)
    locating = "SELECT id FROM job WHERE stage = 'locate'"
    for table in ("failure", "skip", "naming", "shard", "notice", "job_request"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN ({locating})")  # noqa: S608  (constants only)
    op.execute("DELETE FROM job WHERE stage = 'locate'")
    op.execute("DELETE FROM generation WHERE stage = 'locate'")
    op.drop_column("job", "options")

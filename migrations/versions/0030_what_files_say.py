"""What the files of images say of them: date, camera, place, keywords.

Revision: 0030
Follows: 0029
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


class XID8(sa.types.UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


def upgrade() -> None:
    """Apply. The tables are empty: ``ramq metadata`` fills them for images that are recorded already."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "device",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("make", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('camera', 'lens')", name="ck_device_kind"),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
        sa.UniqueConstraint("kind", "make", "model", name="uq_device_kind_make_model"),
    )
    op.create_table(
        "metadata",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=False), nullable=True),
        sa.Column("taken_offset", sa.SmallInteger(), nullable=True),
        sa.Column("camera_id", sa.Integer(), nullable=True),
        sa.Column("lens_id", sa.Integer(), nullable=True),
        sa.Column("focal_mm", sa.REAL(), nullable=True),
        sa.Column("exposure_seconds", sa.REAL(), nullable=True),
        sa.Column("f_number", sa.REAL(), nullable=True),
        sa.Column("iso", sa.Integer(), nullable=True),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("altitude_m", sa.REAL(), nullable=True),
        sa.Column("cell", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("keywords", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("keyword_folds", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("rating", sa.SmallInteger(), nullable=True),
        sa.Column("creator", sa.Text(), nullable=True),
        sa.Column("rights", sa.Text(), nullable=True),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.ForeignKeyConstraint(["camera_id"], ["device.id"], name="fk_metadata_camera_id"),
        sa.ForeignKeyConstraint(["lens_id"], ["device.id"], name="fk_metadata_lens_id"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_metadata_image_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", name="pk_metadata"),
    )
    for column in ("taken_at", "camera_id", "lens_id", "cell", "rating"):
        op.create_index(
            f"ix_metadata_{column}", "metadata", [column], postgresql_where=sa.text(f"{column} IS NOT NULL")
        )
    op.create_index(
        "ix_metadata_keyword_folds",
        "metadata",
        ["keyword_folds"],
        postgresql_using="gin",
        postgresql_where=sa.text("keyword_folds IS NOT NULL"),
    )
    op.create_index("ix_metadata_xid", "metadata", ["xid"])


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_table("metadata")
    op.drop_table("device")

"""Lists of located images: what search counts of regions takes a fifth of the space.

Revision: 0019
Follows: 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_COLLATED = sa.Text(collation="C")


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column(
        "located_image",
        sa.Column("names", postgresql.ARRAY(_COLLATED), server_default=sa.text("'{}'"), nullable=False),
    )
    op.create_table(
        "region_list",
        sa.Column("name", _COLLATED, nullable=False),
        sa.Column("block", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", "block", name=op.f("pk_region_list")),
    )
    # A record: number in the block, regions, area, as ``storage.results.region_lists`` packs them.
    op.execute(
        """INSERT INTO region_list (name, block, packed)
           SELECT name, image_id >> 8, string_agg(substr(int4send((image_id & 255)::int), 4)
               || substr(int4send(least(regions, 65535)), 3) || int4send(area), '' ORDER BY image_id)
           FROM (SELECT name, image_id, regions, area FROM region_count WHERE name <> ''
               UNION ALL SELECT '', image_id, 0, 0 FROM located_image WHERE generation_id IS NOT NULL) AS counted
           GROUP BY name, image_id >> 8 ORDER BY name, image_id >> 8"""
    )
    op.execute(
        """UPDATE located_image SET names = own.names FROM (
               SELECT image_id, array_agg(name ORDER BY name) AS names FROM region_count WHERE name <> ''
               GROUP BY image_id) AS own
           WHERE own.image_id = located_image.image_id"""
    )
    op.drop_table("region_count")


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "region_count",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("name", _COLLATED, nullable=False),
        sa.Column("regions", sa.Integer(), nullable=False),
        sa.Column("area", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_region_count_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "name", name=op.f("pk_region_count")),
    )
    op.execute(
        """INSERT INTO region_count (image_id, name, regions, area)
           SELECT (block::bigint << 8) + get_byte(packed, at), name,
               (get_byte(packed, at + 1) << 8) + get_byte(packed, at + 2),
               (get_byte(packed, at + 3) << 24) + (get_byte(packed, at + 4) << 16) + (get_byte(packed, at + 5) << 8)
                   + get_byte(packed, at + 6)
           FROM region_list CROSS JOIN generate_series(0, octet_length(packed) - 1, 7) AS at WHERE name <> ''
           ORDER BY 1, 2"""
    )
    for number in ("regions", "area"):
        op.create_index(f"ix_region_count_name_{number}", "region_count", ["name", number, "image_id"])
    op.drop_table("region_list")
    op.drop_column("located_image", "names")

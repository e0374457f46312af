"""What people say of images, apart from what models do: tags that they added or removed.

Revision: 0009
Follows: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The tags and scores that count of an image: a model's, less those that people removed, with those that they added,
# which score more than any threshold asks for (``storage.tables.PERSON_UNITS``). Whoever reads records for others reads
# them through this. Postgres puts the text of the function into the query, so that an image that nobody spoke about
# costs one look into an index.
_CORRECTED_TAGS = """
    CREATE FUNCTION corrected_tags(
        of_image bigint, of_generation smallint, given_tags smallint[], given_scores smallint[]
    ) RETURNS TABLE (tags smallint[], scores smallint[]) LANGUAGE sql STABLE AS $body$
        SELECT
            CASE WHEN said.ids IS NULL THEN given_tags ELSE ARRAY(
                SELECT t.tag FROM unnest(given_tags) AS t (tag) WHERE t.tag <> ALL (said.ids)
                UNION ALL SELECT unnest(said.added) ORDER BY 1
            ) END,
            CASE WHEN said.ids IS NULL THEN given_scores ELSE ARRAY(
                SELECT left_over.score FROM (
                    SELECT t.tag, t.score FROM unnest(given_tags, given_scores) AS t (tag, score)
                    WHERE t.tag <> ALL (said.ids)
                    UNION ALL SELECT a.tag, 10001::smallint FROM unnest(said.added) AS a (tag)
                ) AS left_over ORDER BY left_over.tag
            ) END
        FROM (
            SELECT array_agg(tag.id) AS ids, array_agg(tag.id) FILTER (WHERE correction.is_present) AS added
            FROM correction
            JOIN generation ON generation.id = of_generation
            JOIN tag ON tag.vocabulary_id = generation.vocabulary_id AND lower(tag.name) = correction.name
            WHERE correction.image_id = of_image
        ) AS said
    $body$
"""


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "correction",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spelling", sa.Text(), nullable=False),
        sa.Column("is_present", sa.Boolean(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_correction_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "name", name=op.f("pk_correction")),
    )
    op.execute(_CORRECTED_TAGS)


def downgrade() -> None:
    """Take back. What people said is lost; the index has to be built again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("DROP FUNCTION corrected_tags(bigint, smallint, smallint[], smallint[])")
    op.drop_table("correction")

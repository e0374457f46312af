"""What people say is looked up from the image, whatever the planner knows of the tables.

Revision: 0012
Follows: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_FUNCTION = """
    CREATE OR REPLACE FUNCTION corrected_tags(
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
            {source}
            WHERE correction.image_id = of_image
        ) AS said
    $body$
"""

_BEFORE = """FROM correction
            JOIN generation ON generation.id = of_generation
            JOIN tag ON tag.vocabulary_id = generation.vocabulary_id AND lower(tag.name) = correction.name"""

# OFFSET 0 keeps Postgres from going the other way round. Without statistics of the tags, as after a first installation
# or a restored dump, it asked for each tag of the vocabulary whether somebody had said it of the image: 2.4 ms an image
# with 4,585 tags, where one look into an index takes a thousandth of that.
_AFTER = """FROM correction CROSS JOIN LATERAL (
                SELECT tag.id FROM generation
                JOIN tag ON tag.vocabulary_id = generation.vocabulary_id AND lower(tag.name) = correction.name
                WHERE generation.id = of_generation OFFSET 0
            ) AS tag"""


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(_FUNCTION.format(source=_AFTER))


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute(_FUNCTION.format(source=_BEFORE))

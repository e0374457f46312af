"""Tags that are no things, so that nobody looks for their place in pictures.

Revision: 0021
Follows: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_constraint(op.f("ck_tag_policy_kind"), "tag_policy")
    op.create_check_constraint(op.f("ck_tag_policy_kind"), "tag_policy", "kind IN ('allow', 'deny', 'no_thing')")
    op.drop_constraint(op.f("uq_tag_policy_archive_id_name"), "tag_policy")
    op.create_index(
        "ix_tag_policy_rule",
        "tag_policy",
        ["archive_id", "name", sa.text("(kind = 'no_thing')")],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )


def downgrade() -> None:
    """Take back. Every tag is looked for again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("DELETE FROM tag_policy WHERE kind = 'no_thing'")
    op.drop_index("ix_tag_policy_rule", "tag_policy")
    op.create_unique_constraint(
        op.f("uq_tag_policy_archive_id_name"), "tag_policy", ["archive_id", "name"], postgresql_nulls_not_distinct=True
    )
    op.drop_constraint(op.f("ck_tag_policy_kind"), "tag_policy")
    op.create_check_constraint(op.f("ck_tag_policy_kind"), "tag_policy", "kind IN ('allow', 'deny')")

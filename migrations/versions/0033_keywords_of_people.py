"""Keywords that people give images, and single words of what files say.

Revision: 0033
Follows: 0032
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


class XID8(sa.types.UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


def upgrade() -> None:
    """Apply. The new tables are empty. Workers note the words of what files said before, some at a time."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    _create_acts()
    _create_keywords()
    _add_words_of_files()


def _create_acts() -> None:
    op.create_table(
        "keyword_act",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("added", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("removed", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("if_any", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("images", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seen", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("full", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keyword_act"),
    )
    op.create_table(
        "keyword_part",
        sa.Column("act_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("image_ids", postgresql.INT8MULTIRANGE(), nullable=False),
        sa.ForeignKeyConstraint(["act_id"], ["keyword_act.id"], name="fk_keyword_part_act_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("act_id", "number", name="pk_keyword_part"),
    )
    op.create_table(
        "keyword_said",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("fold", sa.Text(), nullable=False),
        sa.Column("act_id", sa.BigInteger(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("is_present", sa.Boolean(), nullable=False),
        sa.Column("tag_before", postgresql.JSONB(), nullable=True),
        sa.ForeignKeyConstraint(["act_id"], ["keyword_act.id"], name="fk_keyword_said_act_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_keyword_said_image_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "fold", "act_id", name="pk_keyword_said"),
    )
    op.create_index("ix_keyword_said_act_id", "keyword_said", ["act_id", "image_id"])


def _create_keywords() -> None:
    op.create_table(
        "keyword",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("words", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("folds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("tokens", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_keyword_image_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", name="pk_keyword"),
    )
    op.create_index("ix_keyword_folds", "keyword", ["folds"], postgresql_using="gin")
    op.create_index("ix_keyword_tokens", "keyword", ["tokens"], postgresql_using="gin")
    op.create_index("ix_keyword_xid", "keyword", ["xid"])


def _add_words_of_files() -> None:
    op.add_column("metadata", sa.Column("tokens", postgresql.ARRAY(sa.Text()), nullable=True))
    op.create_index(
        "ix_metadata_tokens",
        "metadata",
        ["tokens"],
        postgresql_using="gin",
        postgresql_where=sa.text("tokens IS NOT NULL"),
    )
    op.create_index(
        "ix_metadata_without_tokens",
        "metadata",
        ["image_id"],
        postgresql_where=sa.text(
            "tokens IS NULL AND (title IS NOT NULL OR description IS NOT NULL OR keywords IS NOT NULL)"
        ),
    )


def downgrade() -> None:
    """Take back: keywords that people gave are lost."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_metadata_without_tokens", "metadata")
    op.drop_index("ix_metadata_tokens", "metadata")
    op.drop_column("metadata", "tokens")
    for table in ("keyword", "keyword_said", "keyword_part", "keyword_act"):
        op.drop_table(table)

"""Jobs of further stages beside recognition, and the first of them: the text in pictures.

Revision: 0017
Follows: 0016
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0017"
down_revision = "0016"
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
    op.add_column("generation", sa.Column("stage", sa.Text(), server_default="recognition", nullable=False))
    op.alter_column("generation", "vocabulary_id", nullable=True)
    op.create_check_constraint(
        op.f("ck_generation_vocabulary"), "generation", "(stage = 'recognition') = (vocabulary_id IS NOT NULL)"
    )
    _index_of_default("stage")

    op.add_column("job", sa.Column("stage", sa.Text(), server_default="recognition", nullable=False))
    op.add_column("job", sa.Column("with_job_id", sa.BigInteger(), nullable=True))
    op.add_column("job", sa.Column("query", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_job_with_job_id"), "job", "job", ["with_job_id"], ["id"])
    followers = sa.text("with_job_id IS NOT NULL")
    op.create_index("ix_job_with_job_id", "job", ["with_job_id"], postgresql_where=followers)
    op.add_column("shard", sa.Column("with_shard_id", sa.BigInteger(), nullable=True))
    together = sa.text("with_shard_id IS NOT NULL")
    op.create_index("ix_shard_with_shard_id", "shard", ["with_shard_id"], postgresql_where=together)
    runs = sa.Column("runs", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{recognition}'"), nullable=False)
    op.add_column("worker", runs)
    _create_text()


def downgrade() -> None:
    """Take back: jobs and results of further stages are deleted."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for table in ("line_correction", "read_word", "reading_index", "reading"):
        op.drop_table(table)
    further = "SELECT id FROM job WHERE stage <> 'recognition'"
    for table in ("failure", "skip", "naming", "shard", "notice", "job_request"):
        op.execute(f"DELETE FROM {table} WHERE job_id IN ({further})")  # noqa: S608  (constants only)
    op.execute("DELETE FROM job WHERE stage <> 'recognition'")
    op.execute("DELETE FROM generation WHERE stage <> 'recognition'")
    op.drop_column("worker", "runs")
    op.drop_index("ix_shard_with_shard_id", table_name="shard")
    op.drop_column("shard", "with_shard_id")
    op.drop_index("ix_job_with_job_id", table_name="job")
    op.drop_constraint(op.f("fk_job_with_job_id"), "job", type_="foreignkey")
    for column in ("query", "with_job_id", "stage"):
        op.drop_column("job", column)
    _index_of_default("is_default")
    op.drop_constraint(op.f("ck_generation_vocabulary"), "generation", type_="check")
    op.alter_column("generation", "vocabulary_id", nullable=False)
    op.drop_column("generation", "stage")


def _create_text() -> None:
    """Create the tables of the text in pictures."""
    op.create_table(
        "reading",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("lines", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("confidences", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("corners", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_reading_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_reading")),
        postgresql_partition_by="LIST (generation_id)",
    )
    op.create_table(
        "reading_index",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=True),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_reading_index_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_reading_index")),
        postgresql_partition_by="LIST (generation_id)",
    )
    short = {"gin_pending_list_limit": 256}
    op.create_index("ix_reading_index_words", "reading_index", ["words"], postgresql_using="gin", postgresql_with=short)
    op.create_index("ix_reading_index_xid", "reading_index", ["xid"])
    op.create_table(
        "read_word",
        sa.Column("word", sa.Text(collation="C"), nullable=False),
        sa.Column("keys", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.PrimaryKeyConstraint("word", name=op.f("pk_read_word")),
    )
    op.create_index("ix_read_word_keys", "read_word", ["keys"], postgresql_using="gin", postgresql_with=short)
    op.create_table(
        "line_correction",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("corners", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_line_correction_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_line_correction")),
    )
    op.create_index("ix_line_correction_image_id", "line_correction", ["image_id"])


def _index_of_default(column: str) -> None:
    """Make at most one generation the default: of all, or of each stage."""
    op.drop_index("uq_generation_is_default", table_name="generation")
    op.create_index(
        "uq_generation_is_default", "generation", [column], unique=True, postgresql_where=sa.text("is_default")
    )

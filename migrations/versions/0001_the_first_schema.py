"""The first schema.

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


class XID8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id, as it was when this migration was written."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")  # never queue the whole application behind a waiting DDL
    op.create_table(
        "archive",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive")),
        sa.UniqueConstraint("uri", name=op.f("uq_archive_uri")),
    )
    op.create_table(
        "vocabulary",
        sa.Column("id", sa.SmallInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vocabulary")),
        sa.UniqueConstraint("sha256", name=op.f("uq_vocabulary_sha256")),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("images_per_second", sa.Float(), server_default="0", nullable=False),
        sa.Column("stages", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    op.create_table(
        "generation",
        sa.Column("id", sa.SmallInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.Text(), nullable=False),
        sa.Column("preprocessing", sa.Text(), nullable=False),
        sa.Column("vector_kind", sa.Text(), nullable=False),
        sa.Column("vector_size", sa.SmallInteger(), nullable=False),
        sa.Column("vocabulary_id", sa.SmallInteger(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["vocabulary_id"], ["vocabulary.id"], name=op.f("fk_generation_vocabulary_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_generation_fingerprint")),
    )
    op.create_index(
        "uq_generation_is_default", "generation", ["is_default"], unique=True, postgresql_where=sa.text("is_default")
    )
    op.create_table(
        "image",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_image_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
    )
    op.create_index("uq_image_archive_id_key", "image", ["archive_id", "key"], unique=True)
    op.create_table(
        "tag",
        sa.Column("vocabulary_id", sa.SmallInteger(), nullable=False),
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_zh", sa.Text(), nullable=True),
        sa.Column("threshold", sa.REAL(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vocabulary_id"], ["vocabulary.id"], name=op.f("fk_tag_vocabulary_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("vocabulary_id", "id", name=op.f("pk_tag")),
    )
    op.create_index("ix_tag_lower_name", "tag", ["vocabulary_id", sa.literal_column("lower(name)")], unique=False)
    op.create_index("ix_tag_name_zh", "tag", ["vocabulary_id", "name_zh"], unique=False)
    op.create_table(
        "erasure",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_erasure_generation_id")),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_erasure")),
    )
    op.create_index("ix_erasure_generation_id_xid", "erasure", ["generation_id", "xid"], unique=False)
    op.create_table(
        "index_state",
        sa.Column("generation_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("manifest", sa.BigInteger(), nullable=False),
        sa.Column("watermark", XID8(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_index_state_generation_id")),
        sa.PrimaryKeyConstraint("generation_id", name=op.f("pk_index_state")),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("captioner", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=True),
        sa.Column("list_cursor", sa.Text(), nullable=True),
        sa.Column("list_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("list_lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("list_attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("list_next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listed_all_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "stage_seconds", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('running', 'paused', 'done', 'cancelled', 'failed')", name=op.f("ck_job_state")),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_job_archive_id")),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_job_generation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index(
        "ix_job_open", "job", ["id"], unique=False, postgresql_where=sa.text("state IN ('running', 'paused')")
    )
    op.create_table(
        "record",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("scores", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("caption", sa.Text(), nullable=True),
        sa.Column("captioner", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_record_generation_id")),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_record_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_record")),
    )
    op.create_index("ix_record_generation_id_image_id", "record", ["generation_id", "image_id"], unique=False)
    op.create_index("ix_record_job_id", "record", ["job_id", "image_id"], unique=False)
    op.create_index("ix_record_tags", "record", ["tags"], unique=False, postgresql_using="gin")
    op.create_table(
        "vector",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("v", sa.LargeBinary(), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_vector_generation_id")),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_vector_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f("pk_vector")),
    )
    op.create_index("ix_vector_generation_id_xid", "vector", ["generation_id", "xid"], unique=False)
    op.create_table(
        "failure",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=False),
        sa.Column("about_content", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("retrying", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_failure_generation_id")),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_failure_image_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_failure_job_id")),
        sa.PrimaryKeyConstraint("job_id", "image_id", name=op.f("pk_failure")),
    )
    op.create_index("ix_failure_image_id_generation_id", "failure", ["image_id", "generation_id"], unique=False)
    op.create_table(
        "shard",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="ready", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("probe", sa.SmallInteger(), nullable=True),
        sa.Column("probe_deaths", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("image_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("outcomes", sa.LargeBinary(), nullable=False),
        sa.Column("n_done", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("n_failed", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("n_skipped", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column(
            "stage_seconds", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.CheckConstraint("state IN ('ready', 'leased', 'done', 'cancelled')", name=op.f("ck_shard_state")),
        sa.CheckConstraint("length(outcomes) = cardinality(image_ids)", name=op.f("ck_shard_outcomes_fit")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_shard_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shard")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "ix_shard_begun",
        "shard",
        ["job_id"],
        unique=False,
        postgresql_include=["n_done", "n_failed", "n_skipped"],
        postgresql_where=sa.text("state <> 'done' AND n_done + n_failed + n_skipped > 0"),
    )
    op.create_index("ix_shard_failed", "shard", ["job_id"], unique=False, postgresql_where=sa.text("n_failed > 0"))
    op.create_index(
        "ix_shard_leased", "shard", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'leased'")
    )
    op.create_index(
        "ix_shard_open",
        "shard",
        ["job_id", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('ready', 'leased')"),
    )


def downgrade() -> None:
    """Take back."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_shard_open", table_name="shard", postgresql_where=sa.text("state IN ('ready', 'leased')"))
    op.drop_index("ix_shard_leased", table_name="shard", postgresql_where=sa.text("state = 'leased'"))
    op.drop_index("ix_shard_failed", table_name="shard", postgresql_where=sa.text("n_failed > 0"))
    op.drop_index(
        "ix_shard_begun",
        table_name="shard",
        postgresql_include=["n_done", "n_failed", "n_skipped"],
        postgresql_where=sa.text("state <> 'done' AND n_done + n_failed + n_skipped > 0"),
    )
    op.drop_table("shard")
    op.drop_index("ix_failure_image_id_generation_id", table_name="failure")
    op.drop_table("failure")
    op.drop_index("ix_vector_generation_id_xid", table_name="vector")
    op.drop_table("vector")
    op.drop_index("ix_record_tags", table_name="record", postgresql_using="gin")
    op.drop_index("ix_record_job_id", table_name="record")
    op.drop_index("ix_record_generation_id_image_id", table_name="record")
    op.drop_table("record")
    op.drop_index("ix_job_open", table_name="job", postgresql_where=sa.text("state IN ('running', 'paused')"))
    op.drop_table("job")
    op.drop_table("index_state")
    op.drop_index("ix_erasure_generation_id_xid", table_name="erasure")
    op.drop_table("erasure")
    op.drop_index("ix_tag_name_zh", table_name="tag")
    op.drop_index("ix_tag_lower_name", table_name="tag")
    op.drop_table("tag")
    op.drop_index("uq_image_archive_id_key", table_name="image")
    op.drop_table("image")
    op.drop_index("uq_generation_is_default", table_name="generation", postgresql_where=sa.text("is_default"))
    op.drop_table("generation")
    op.drop_table("worker")
    op.drop_table("vocabulary")
    op.drop_table("archive")

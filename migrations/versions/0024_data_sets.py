"""Data sets for training, and the hash of the bytes that were recognised.

Revision: 0024
Follows: 0023
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_TEXTS = postgresql.ARRAY(sa.Text())


def _when(name: str, **more: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **more)  # type: ignore[arg-type]


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.add_column("record", sa.Column("sha256", sa.LargeBinary(), nullable=True))
    _create_sets()
    _create_tasks()
    _create_contents()


def _create_sets() -> None:
    op.create_table(
        "dataset",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vocabulary_id", sa.SmallInteger(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        _when("created_at", server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["vocabulary_id"], ["vocabulary.id"], name=op.f("fk_dataset_vocabulary_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_dataset_name")),
    )
    op.create_table(
        "dataset_version",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("is_planned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("settings", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("job_ids", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("counts", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("said_by", sa.Text(), nullable=False),
        _when("created_at", server_default=_NOW, nullable=False),
        _when("finished_at", nullable=True),
        sa.CheckConstraint(
            "step IN ('build', 'import', 'generate', 'clean', 'correct')", name=op.f("ck_dataset_version_step")
        ),
        sa.CheckConstraint(
            "state IN ('running', 'paused', 'done', 'cancelled', 'failed')", name=op.f("ck_dataset_version_state")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_version_dataset_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["dataset_version.id"], name=op.f("fk_dataset_version_parent_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_version")),
        sa.UniqueConstraint("dataset_id", "number", name=op.f("uq_dataset_version_dataset_id_number")),
    )
    op.create_index(
        "ix_dataset_version_open",
        "dataset_version",
        ["id"],
        postgresql_where=sa.text("state IN ('running', 'paused')"),
    )


def _create_tasks() -> None:
    op.create_table(
        "dataset_task",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="ready", nullable=False),
        sa.Column("input", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("result", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        _when("lease_until", nullable=True),
        _when("next_try_at", nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        _when("done_at", nullable=True),
        sa.CheckConstraint("state IN ('ready', 'leased', 'done', 'failed')", name=op.f("ck_dataset_task_state")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_version.id"], name=op.f("fk_dataset_task_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "phase", "number", name=op.f("pk_dataset_task")),
    )
    op.create_index(
        "ix_dataset_task_open",
        "dataset_task",
        ["version_id", "phase", "number"],
        postgresql_where=sa.text("state IN ('ready', 'leased')"),
    )


def _create_contents() -> None:
    op.create_table(
        "dataset_item",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("is_validation", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=True),
        sa.Column("captions", _TEXTS, server_default="{}", nullable=False),
        sa.Column("origins", _TEXTS, server_default="{}", nullable=False),
        sa.CheckConstraint("cardinality(captions) = cardinality(origins)", name=op.f("ck_dataset_item_origins_fit")),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_dataset_item_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "version_id", name=op.f("pk_dataset_item")),
        postgresql_partition_by="LIST (version_id)",
    )
    op.create_table(
        "dataset_label",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("tag_id", sa.SmallInteger(), nullable=False),
        sa.Column("origins", _TEXTS, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("certainty", sa.REAL(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "reason IN ('outlier', 'contradicted', 'no_region', 'removed')", name=op.f("ck_dataset_label_reason")
        ),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_dataset_label_image_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "version_id", "tag_id", name=op.f("pk_dataset_label")),
        postgresql_partition_by="LIST (version_id)",
    )
    op.create_index("ix_dataset_label_tag", "dataset_label", ["version_id", "tag_id", "image_id"])
    op.create_table(
        "dataset_review",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("tag_id", sa.SmallInteger(), nullable=False),
        sa.Column("was_dropped", sa.Boolean(), nullable=False),
        sa.Column("is_right", sa.Boolean(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        _when("said_at", server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_dataset_review_image_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_review_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "dataset_id", "tag_id", name=op.f("pk_dataset_review")),
    )


def downgrade() -> None:
    """Take back: data sets and what people said of them are deleted. Corrections stay."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    for table in ("dataset_review", "dataset_label", "dataset_item", "dataset_task", "dataset_version", "dataset"):
        op.drop_table(table)
    op.drop_column("record", "sha256")

"""Archives that are watched: their schedule, the keys that they were told of, and the jobs on such keys.

Revision: 0035
Follows: 0034
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_KEY = sa.Text(collation="C")


def _create_watch() -> None:
    now = sa.text("now()")
    op.create_table(
        "watch",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("asks", postgresql.JSONB(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("every_seconds", sa.Integer(), nullable=False),
        sa.Column("settle_seconds", sa.Float(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("queue_url", sa.Text(), nullable=True),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("is_paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", _TIME, server_default=now, nullable=False),
        sa.Column("next_listing_at", _TIME, server_default=now, nullable=False),
        sa.Column("list_now_since", _TIME, nullable=True),
        sa.Column("list_now_reason", sa.Text(), nullable=True),
        sa.Column("listing_job_id", sa.BigInteger(), nullable=True),
        sa.Column("listing_began_at", _TIME, nullable=True),
        sa.Column("listing_settled_at", _TIME, nullable=True),
        sa.Column("listed_at", _TIME, nullable=True),
        sa.Column("not_before", _TIME, nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("event_job_id", sa.BigInteger(), nullable=True),
        sa.Column("event_job_began_at", _TIME, nullable=True),
        sa.Column("event_job_oldest_at", _TIME, nullable=True),
        sa.Column("event_settled_at", _TIME, nullable=True),
        sa.Column("searchable_after_seconds", sa.Float(), nullable=True),
        sa.Column("events_taken", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("events_ignored", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("event_error", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("listening_since", _TIME, nullable=True),
        sa.CheckConstraint("events IN ('none', 'sqs', 'webhook', 'inotify')", name=op.f("ck_watch_events")),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_watch_archive_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watch")),
    )
    op.create_index("uq_watch_archive_id_prefix", "watch", ["archive_id", "prefix"], unique=True)


def upgrade() -> None:
    """Apply: earlier jobs are of no watch, which the defaults say, and no row is rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    _create_watch()
    op.create_table(
        "watch_event",
        sa.Column("watch_id", sa.BigInteger(), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("first_at", _TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("seen_at", _TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["watch_id"], ["watch.id"], name=op.f("fk_watch_event_watch_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("watch_id", "key", name=op.f("pk_watch_event")),
    )
    op.create_table(
        "job_key",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_key_job_id")),
        sa.PrimaryKeyConstraint("job_id", "key", name=op.f("pk_job_key")),
    )
    op.add_column("job", sa.Column("watch_id", sa.BigInteger(), nullable=True))
    op.add_column("job", sa.Column("of_keys", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index("ix_job_watch_id", "job", ["watch_id", "id"], postgresql_where=sa.text("watch_id IS NOT NULL"))


def downgrade() -> None:
    """Take back: jobs on keys that events named end as they are, and their other keys are found by a listing."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_index("ix_job_watch_id", "job")
    op.drop_column("job", "of_keys")
    op.drop_column("job", "watch_id")
    op.drop_table("job_key")
    op.drop_table("watch_event")
    op.drop_table("watch")

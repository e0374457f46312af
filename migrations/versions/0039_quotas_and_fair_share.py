"""Quotas, whose turn it is, what each user was given today; for whom a job counts whose user was renamed.

Revision: 0039
Follows: 0038
"""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_KINDS = (
    "kind IN ('images_waiting', 'images_a_day', 'jobs_at_once', 'highest_priority', 'searches_per_second', 'share')"
)
_SUBJECTS = "subject IN ('default', 'user', 'token', 'archive')"


def upgrade() -> None:
    """Apply. The tables begin empty, no row is rewritten, and nothing is limited."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "quota",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=True),
        sa.CheckConstraint(_KINDS, name=op.f("ck_quota_kind")),
        sa.CheckConstraint(_SUBJECTS, name=op.f("ck_quota_subject")),
        sa.PrimaryKeyConstraint("kind", "subject", "name", name=op.f("pk_quota")),
    )
    op.create_table(
        "turn",
        sa.Column("priority", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("began", sa.Float(), nullable=False),
        sa.Column("ended", sa.Float(), nullable=False),
        sa.Column("claims", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("last_job_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("priority", "owner", name=op.f("pk_turn")),
    )
    op.create_table(
        "day_use",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["archive_id"], ["archive.id"], name=op.f("fk_day_use_archive_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("day", "owner", "archive_id", name=op.f("pk_day_use")),
    )
    op.add_column("job", sa.Column("counts_for", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back: quotas and shares are lost, and nobody is limited."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("job", "counts_for")
    op.drop_table("day_use")
    op.drop_table("turn")
    op.drop_table("quota")

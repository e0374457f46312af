"""Users, their tokens, and what was changed about both; who started a job.

Revision: 0034
Follows: 0032
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0034"
down_revision = "0032"
branch_labels = None
depends_on = None

_KNOWN = "role IN ('look', 'correct', 'run', 'admin')"


def _at(name: str, *, is_now: bool = False) -> sa.Column:
    now = sa.text("now()") if is_now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=now, nullable=not is_now)


def _id() -> sa.Column:
    return sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False)


def upgrade() -> None:
    """Apply. Until the first token is made, requests from this machine need none, as before."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "account",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("former_names", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        _at("created_at", is_now=True),
        _at("removed_at"),
        sa.CheckConstraint(_KNOWN, name=op.f("ck_account_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name", name=op.f("uq_account_name")),
    )
    op.create_table(
        "access_token",
        _id(),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        _at("created_at", is_now=True),
        _at("expires_at"),
        _at("revoked_at"),
        _at("used_at"),
        sa.CheckConstraint(_KNOWN, name=op.f("ck_access_token_role")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_access_token_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_access_token_hash")),
        sa.UniqueConstraint("session_hash", name=op.f("uq_access_token_session_hash")),
    )
    op.create_index("ix_access_token_account_id", "access_token", ["account_id"])
    op.create_table(
        "account_event",
        _id(),
        _at("at", is_now=True),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_event")),
    )
    op.add_column("job", sa.Column("said_by", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back: users and tokens are lost, and who started jobs; what users said keeps their names."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("job", "said_by")
    op.drop_table("account_event")
    op.drop_table("access_token")
    op.drop_table("account")

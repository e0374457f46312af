"""The sessions of the page that have begun and not ended; who redid what was undone to keywords.

Revision: 0038
Follows: 0037
"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The table begins empty: who is signed in on the page signs in again, once."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "page_session",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_page_session")),
    )
    op.add_column("keyword_act", sa.Column("redone_by", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back: signing out deletes only the cookie again, and who redid something is lost."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.drop_column("keyword_act", "redone_by")
    op.drop_table("page_session")

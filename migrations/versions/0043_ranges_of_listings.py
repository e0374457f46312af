"""Several workers list one archive: a listing has ranges of keys, and images are counted when a transaction commits.

Revision: 0043
Follows: 0042
"""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

_NEW = "SELECT archive_id, 1 AS n, (missing_since IS NOT NULL)::int AS m FROM new_rows"
_OLD = "SELECT archive_id, -1, -(missing_since IS NOT NULL)::int FROM old_rows"
_OLD_ALONE = "SELECT archive_id, -1 AS n, -(missing_since IS NOT NULL)::int AS m FROM old_rows"
_ROWS = {"insert": _NEW, "update": f"{_NEW} UNION ALL {_OLD}", "delete": _OLD_ALONE}

_AT_ONCE = """
    UPDATE archive SET images = archive.images + changed.images, missing = archive.missing + changed.missing
    FROM (SELECT archive_id, sum(n) AS images, sum(m) AS missing FROM ({rows}) AS row GROUP BY archive_id) AS changed
    WHERE archive.id = changed.archive_id AND (changed.images <> 0 OR changed.missing <> 0)
"""
_LATER = """
    INSERT INTO archive_change (archive_id, images, missing)
    SELECT archive_id, sum(n), sum(m) FROM ({rows}) AS row GROUP BY archive_id HAVING sum(n) <> 0 OR sum(m) <> 0
"""
# A transaction sees only its own rows: those of others are gone before they commit.
_COUNT = """
    CREATE FUNCTION count_archive_changes() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        WITH counted AS (DELETE FROM archive_change RETURNING archive_id, images, missing)
        UPDATE archive SET images = archive.images + changed.images, missing = archive.missing + changed.missing
        FROM (SELECT archive_id, sum(images) AS images, sum(missing) AS missing FROM counted GROUP BY archive_id)
            AS changed
        WHERE archive.id = changed.archive_id;
        RETURN NULL;
    END $body$
"""


def _count_images(statement: str) -> None:
    for event, rows in _ROWS.items():
        op.execute(
            f"""CREATE OR REPLACE FUNCTION count_images_on_{event}() RETURNS trigger LANGUAGE plpgsql AS $body$
                BEGIN {statement.format(rows=rows)}; RETURN NULL; END $body$"""
        )


def upgrade() -> None:
    """Apply. Every listing gets one range, which goes on where the listing was. No image is read or rewritten."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.create_table(
        "listing_range",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.Text(collation="C"), nullable=True),
        sa.Column("until", sa.Text(collation="C"), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_listing_range_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listing_range")),
    )
    op.create_index("ix_listing_range_job_id", "listing_range", ["job_id"])
    op.execute(
        """INSERT INTO listing_range (job_id, cursor, epoch, lease_until, attempts, next_at, done_at)
           SELECT id, CASE WHEN with_job_id IS NULL THEN list_cursor END, list_epoch, list_lease_until, list_attempts,
               list_next_at, listed_all_at FROM job ORDER BY id"""
    )
    op.alter_column("job", "list_cursor", new_column_name="follow_cursor")
    op.execute("UPDATE job SET follow_cursor = NULL WHERE with_job_id IS NULL AND follow_cursor IS NOT NULL")
    for name in ("list_epoch", "list_lease_until", "list_attempts", "list_next_at"):
        op.drop_column("job", name)
    op.create_table(
        "archive_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive_change")),
        prefixes=["UNLOGGED"],
    )
    op.execute(_COUNT)
    op.execute(
        """CREATE CONSTRAINT TRIGGER count_archive_changes AFTER INSERT ON archive_change
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_archive_changes()"""
    )
    _count_images(_LATER)


# Of the keys before the cursor of a listing none would be listed again, and all after it would be.
_IS_IN_PARTS = """
    SELECT job.id FROM job JOIN listing_range AS part ON part.job_id = job.id
    WHERE job.listed_all_at IS NULL AND job.state <> 'cancelled' AND part.done_at IS NULL
    GROUP BY job.id HAVING count(*) > 1 OR bool_or(part.until IS NOT NULL) ORDER BY job.id LIMIT 1
"""


def downgrade() -> None:
    """Take back. Archives must not be listed by several workers at this moment."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    if (job_id := op.get_bind().scalar(sa.text(_IS_IN_PARTS))) is not None:
        raise RuntimeError(f"several workers list job {job_id}: wait until it is listed, or `ramq cancel {job_id}`")
    _count_images(_AT_ONCE)
    op.execute("DROP TRIGGER count_archive_changes ON archive_change")
    op.execute("DROP FUNCTION count_archive_changes()")
    op.drop_table("archive_change")
    op.alter_column("job", "follow_cursor", new_column_name="list_cursor")
    op.add_column("job", sa.Column("list_epoch", sa.Integer(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("list_lease_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("list_attempts", sa.SmallInteger(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("list_next_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        """UPDATE job SET list_cursor = coalesce(list_cursor, last.cursor), list_epoch = last.epoch,
               list_attempts = last.attempts, list_next_at = last.next_at
           FROM (SELECT DISTINCT ON (job_id) * FROM listing_range
                 ORDER BY job_id, done_at IS NOT NULL, cursor DESC NULLS LAST) AS last
           WHERE last.job_id = job.id"""
    )
    op.drop_table("listing_range")

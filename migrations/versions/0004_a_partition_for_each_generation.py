"""Results in partitions, a generation in each; no index of tags: tags are searched in the index's segments.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PARTS = 8
"""Hash partitions of a generation, as ``storage.results.partitions`` had it when this was written."""


class XID8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id, as it was when this migration was written."""

    cache_ok = True

    def get_col_spec(self, **_kw: object) -> str:
        """Return the name of the type in DDL."""
        return "xid8"


def record_columns() -> list[sa.Column]:
    """Return new columns: a table keeps those it is made of."""
    return [
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
    ]


def vector_columns() -> list[sa.Column]:
    """Return new columns: a table keeps those it is made of."""
    return [
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("generation_id", sa.SmallInteger(), nullable=False),
        sa.Column("v", sa.LargeBinary(), nullable=False),
        sa.Column("xid", XID8(), server_default=sa.text("pg_current_xact_id()"), nullable=False),
    ]


def upgrade() -> None:
    """Apply. Rows are copied once: as much free disk as the two tables take is needed while it runs."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    generations = op.get_bind().execute(sa.text("SELECT id FROM generation ORDER BY id")).scalars().all()
    _set_aside("record", ["ix_record_tags", "ix_record_generation_id_image_id", "ix_record_job_id"])
    _create("record", record_columns(), postgresql_partition_by="LIST (generation_id)")
    _set_aside("vector", ["ix_vector_generation_id_xid"])
    _create("vector", vector_columns(), postgresql_partition_by="LIST (generation_id)")
    for table in ("record", "vector"):
        for generation_id in generations:
            name = f"{table}_g{generation_id}"
            op.execute(
                f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES IN ({generation_id}) PARTITION BY HASH (image_id)"
            )
            for part in range(PARTS):
                op.execute(
                    f"CREATE TABLE {name}_p{part} PARTITION OF {name} "
                    f"FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {part})"
                )
    _move("record", record_columns())
    _move("vector", vector_columns())
    op.create_index("ix_record_job_id", "record", ["job_id", "image_id"])
    op.create_index("ix_vector_xid", "vector", ["xid"])


def downgrade() -> None:
    """Take back: all in one table again."""
    op.execute("SET LOCAL lock_timeout = '2s'")
    _set_aside("record", ["ix_record_job_id"])
    _create("record", record_columns())
    _set_aside("vector", ["ix_vector_xid"])
    _create("vector", vector_columns())
    _move("record", record_columns())
    _move("vector", vector_columns())
    for table in ("record", "vector"):
        op.create_foreign_key(op.f(f"fk_{table}_generation_id"), table, "generation", ["generation_id"], ["id"])
    op.create_index("ix_record_generation_id_image_id", "record", ["generation_id", "image_id"])
    op.create_index("ix_record_job_id", "record", ["job_id", "image_id"])
    op.create_index("ix_record_tags", "record", ["tags"], postgresql_using="gin")
    op.create_index("ix_vector_generation_id_xid", "vector", ["generation_id", "xid"])


def _set_aside(table: str, indexes: list[str]) -> None:
    """Rename a table and free the names of what belongs to it."""
    for index in indexes:
        op.drop_index(index, table_name=table)
    op.drop_constraint(f"pk_{table}", table, type_="primary")
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_image_id")
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS fk_{table}_generation_id")
    op.rename_table(table, f"{table}_before")


def _create(table: str, columns: list[sa.Column], **options: str) -> None:
    key = sa.PrimaryKeyConstraint("image_id", "generation_id", name=op.f(f"pk_{table}"))
    op.create_table(table, *columns, key, **options)


def _move(table: str, columns: list[sa.Column]) -> None:
    """Copy the rows and drop where they were. The foreign key comes last: checked once, not row by row."""
    names = ", ".join(column.name for column in columns)
    op.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {table}_before")  # noqa: S608  (constants only)
    op.drop_table(f"{table}_before")
    op.create_foreign_key(op.f(f"fk_{table}_image_id"), table, "image", ["image_id"], ["id"], ondelete="CASCADE")

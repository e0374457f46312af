"""Alembic's scripts: the schema from the first table on. Shipped with the package, run by ``ramq db upgrade``."""

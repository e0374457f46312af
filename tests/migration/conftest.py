"""Migrations begin with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    """A database without any schema."""
    engine = make_engine(empty_database_url)
    yield engine
    engine.dispose()

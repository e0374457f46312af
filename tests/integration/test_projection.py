"""How rows of an index are read from the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import driver_connection, unit_of_work
from storage.results.index_rows import source_of
from storage.results.vectors import Window
from tests.vector_archive import SIZE, VectorArchive

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic
    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def test_rows_of_a_window_are_looked_up_however_many_others_there_are(engine: Engine) -> None:
    """A join by hashing or merging would read the whole archive for each window."""
    archive = VectorArchive(engine)
    archive.write(archive.images)
    plans: list[str] = []

    def told(diagnostic: Diagnostic) -> None:
        plans.append(diagnostic.message_primary or "")

    with unit_of_work(engine) as session:
        for statement in (
            "ANALYZE image, record, vector",
            "LOAD 'auto_explain'",
            "SET LOCAL auto_explain.log_min_duration = 0",
            "SET LOCAL client_min_messages = log",
        ):
            session.execute(text(statement))
        connection = driver_connection(session)
        connection.add_notice_handler(told)
        found = source_of(session, archive.generation_id).rows(session, Window(archive.generation_id, 0, None), SIZE)
        ids = [image_id for rows, _ in found for image_id in rows.ids.tolist()]
        connection.remove_notice_handler(told)
    [plan] = [plan for plan in plans if "FROM vector AS v" in plan]
    assert "Nested Loop" in plan
    assert "Hash" not in plan
    assert "Merge Join" not in plan
    assert ids == sorted(archive.held)

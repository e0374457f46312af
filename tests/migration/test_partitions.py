"""Results move into partitions and back, row by row the same, and each new generation gets partitions of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from storage import migrate
from storage.database import unit_of_work
from storage.errors import ConflictError
from storage.results import generations, partitions
from storage.results.vocabularies import VocabularySpec

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services

IMAGES = 60


def fill(engine: Engine) -> None:
    """Two generations with results, as the schema was before."""
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO archive (uri) VALUES ('s3://photos')",
            "INSERT INTO vocabulary (sha256, name, size) VALUES ('v', 'own', 3)",
            """INSERT INTO generation (fingerprint, model, weights_sha256, preprocessing, vector_kind, vector_size,
                   vocabulary_id) SELECT 'g' || n, 'lite', '', '', '', 4, 1 FROM generate_series(1, 2) AS n""",
            f"""INSERT INTO image (archive_id, key, version, size)
                   SELECT 1, 'k' || n, 'v', n FROM generate_series(1, {IMAGES}) AS n""",
            """INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width,
                   height)
                   SELECT image.id, g.id, 7, 'v', ARRAY[1, image.id % 3], ARRAY[9000, image.id], 'a cat', 'c', 4, 3
                   FROM image, generation AS g WHERE g.id = 1 OR image.id % 2 = 0""",
            """INSERT INTO vector (image_id, generation_id, v, xid)
                   SELECT image_id, generation_id, '\\x00aabbcc', (image_id + 100)::text::xid8 FROM record""",
        ):
            connection.execute(text(statement))


COLUMNS = {
    "record": "image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height, recorded_at",
    "vector": "image_id, generation_id, v, xid",
}
"""Those of the first schema: later ones are added to them."""


def content(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table: [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 2, 1"))]
            for table, columns in COLUMNS.items()
        }


def test_results_survive_the_way_into_partitions_and_back_and_there_again(engine: Engine) -> None:
    migrate.upgrade(engine, "0002")
    fill(engine)
    before = content(engine)
    assert [len(rows) for rows in before.values()] == [IMAGES * 3 // 2] * 2
    migrate.upgrade(engine)
    assert content(engine) == before
    assert migrate.differences(engine) == []
    with engine.connect() as connection:
        in_second = connection.scalar(text("SELECT count(*) FROM record_g2"))
        used = connection.scalar(text("SELECT count(DISTINCT tableoid) FROM vector WHERE generation_id = 1"))
    assert (in_second, used) == (IMAGES // 2, partitions.PARTS)
    migrate.downgrade(engine, "0002")
    assert content(engine) == before
    migrate.upgrade(engine)
    assert content(engine) == before
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM image WHERE id <= 10"))
    assert {row[0] for rows in content(engine).values() for row in rows} == set(range(11, IMAGES + 1))


def a_generation(engine: Engine, fingerprint: str = "g") -> int:
    with unit_of_work(engine) as session:
        return generations.ensure(
            session,
            generations.GenerationSpec(fingerprint, "lite", "", "", "", 4),
            VocabularySpec("v", "own", ["cat"], [None], [0.5]),
        )


def test_workers_that_register_generations_at_once_make_each_ones_partitions_once(engine: Engine) -> None:
    migrate.upgrade(engine)
    together = threading.Barrier(4)

    def register(number: int) -> int:
        together.wait(30)
        return a_generation(engine, f"g{number % 2}")

    with ThreadPoolExecutor(4) as threads:
        ids = list(threads.map(register, range(4)))
    assert len(set(ids)) == 2
    assert (ids[0], ids[1]) == (ids[2], ids[3])
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT count(*) FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')"))
    assert found == 2 * 2 * (partitions.PARTS + 1)
    assert migrate.differences(engine) == []


def test_results_of_a_generation_that_nobody_registered_are_refused(engine: Engine) -> None:
    migrate.upgrade(engine)
    a_generation(engine)
    with pytest.raises(IntegrityError, match="no partition"), engine.begin() as connection:
        connection.execute(text("INSERT INTO vector (image_id, generation_id, v) VALUES (1, 99, '')"))


def test_a_reader_and_a_writer_of_results_do_not_wait_for_a_new_generation(engine: Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO archive (uri) VALUES ('s3://photos')"))
        connection.execute(text("INSERT INTO image (archive_id, key, version, size) VALUES (1, 'k', 'v', 1)"))
    first = a_generation(engine, "first")
    with engine.connect() as busy, engine.connect() as other:
        busy.execute(text("SELECT count(*) FROM vector"))  # keeps its lock until the transaction ends
        busy.execute(text("INSERT INTO vector (image_id, generation_id, v) VALUES (1, :id, '')"), {"id": first})
        with unit_of_work(engine) as session:
            session.execute(text("SET LOCAL lock_timeout = '5s'"))
            partitions.ensure(session, 99)
            other.execute(text("SET lock_timeout = '5s'"))
            assert other.scalar(text("SELECT count(*) FROM vector")) == 0
        busy.rollback()


def test_a_generation_that_is_read_just_now_is_not_emptied_and_the_message_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.upgrade(engine)
    generation_id = a_generation(engine)
    monkeypatch.setattr(partitions, "PATIENCE", "100ms")
    with engine.connect() as busy:
        busy.execute(text("SELECT count(*) FROM record"))
        with pytest.raises(ConflictError, match="in use: try again"), unit_of_work(engine) as session:
            partitions.empty(session, generation_id)


def test_a_generation_that_is_emptied_leaves_the_others_as_they_were(engine: Engine) -> None:
    migrate.upgrade(engine, "0002")
    fill(engine)
    migrate.upgrade(engine)
    before = content(engine)
    with unit_of_work(engine) as session:
        partitions.empty(session, 1)
    assert content(engine) == {table: [row for row in rows if row[1] == 2] for table, rows in before.items()}

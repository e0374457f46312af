"""What does it cost to know which images have the same bytes?

    python -m benchmarks.bench_same_picture --rows 1000000

In a database of made-up images, of which one in ten has a copy:

* ``hash``: bytes a second on one core, by the way of hashing;
* ``look_up``: milliseconds for images whose bytes are new, and for images whose bytes are known, by how many at once;
* ``note``: milliseconds to store the hashes of a batch of 32;
* ``groups``: milliseconds for all images that have a copy, for the first page of groups, and for how many images have
  the bytes of each of 60 hits;
* ``bytes``: of the table and of its indexes, for each image.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from benchmarks.report import begin, options, write
from benchmarks.search_data import prepare
from ramq.embedded import embedded
from storage import migrate
from storage.database import driver_connection, make_engine, unit_of_work
from storage.results import contents, copies, same_bytes
from storage.results.contents import ReadBytes
from storage.results.same_bytes import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

BODY_BYTES = 2_000_000
ROUNDS = 30
WAYS: dict[str, Callable[[bytes], Any]] = {
    "sha256": lambda body: hashlib.sha256(body).digest(),
    "blake2b-128": lambda body: hashlib.blake2b(body, digest_size=16).digest(),
}

_FILL = (
    """INSERT INTO image (archive_id, key, version, size)
       SELECT (SELECT min(id) FROM archive), lpad(n::text, 12, '0'), 'v' || n, 1000
       FROM generate_series(1, {rows}) AS n""",
    """INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height,
           sha256)
       SELECT id, {generation_id}, 1, version, '{{1,2,3,4,5,6,7,8}}', '{{1,2,3,4,5,6,7,8}}', 'a caption of some words',
           'template', 640, 480, sha256(convert_to((CASE WHEN mod(id, 20) = 1 THEN id - 1 ELSE id END)::text, 'UTF8'))
       FROM image""",
    """INSERT INTO vector (image_id, generation_id, v)
       SELECT id, {generation_id}, decode(repeat('00', 1024), 'hex') FROM image""",
    """INSERT INTO content (image_id, version, hash) SELECT image_id, version, substring(sha256 FOR 16) FROM record""",
    "VACUUM ANALYZE",
)


def fill(engine: Engine, generation_id: int, rows: int) -> None:
    """Make images: numbers 0 and 1, 20 and 21, 40 and 41, and so on, have the same bytes."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in _FILL:
            connection.exec_driver_sql(statement.format(rows=rows, generation_id=generation_id))


def milliseconds(call: Callable[[int], object]) -> float:
    """Return the median time of a call, which gets the number of the round."""
    taken = []
    for number in range(ROUNDS + 3):
        begun = time.perf_counter()
        call(number)
        taken.append(1000 * (time.perf_counter() - begun))
    return round(statistics.median(taken[3:]), 3)


def look_up(engine: Engine, generation_id: int, rows: int) -> dict[str, Any]:
    """Time ``same_bytes.find``."""

    def find(number: int, count: int, *, is_known: bool) -> None:
        first = (number * count * 7_919) % (rows - count) + 1
        wanted = {
            image_id: hashlib.sha256(f"{image_id - (image_id % 20 == 1)}{'' if is_known else '!'}".encode()).digest()
            for image_id in range(first, first + count)
        }
        with unit_of_work(engine) as session:
            found = same_bytes.find(session, Wanted(generation_id, "template", "pooled", needs_features=False), wanted)
        assert bool(found) == is_known

    return {
        kind: {
            count: milliseconds(lambda number, count=count, is_known=is_known: find(number, count, is_known=is_known))
            for count in (1, 16, 64)
        }
        for kind, is_known in (("new", False), ("known", True))
    }


def note(engine: Engine) -> float:
    """Time ``contents.note`` for a batch of images that have no hash yet."""
    with unit_of_work(engine) as session:
        session.execute(text("DELETE FROM content WHERE image_id <= 5000"))

    def batch(number: int) -> None:
        ids = range(32 * number + 1, 32 * number + 33)
        with unit_of_work(engine) as session:
            contents.note(session, [ReadBytes(i, f"v{i}", hashlib.sha256(str(i).encode()).digest()) for i in ids])

    return milliseconds(batch)


def groups(engine: Engine, rows: int) -> dict[str, float]:
    """Time what lists and counts duplicates."""
    counting = f"SELECT id, {copies.COUNT_OF.format(image_id='id')} FROM unnest(%(ids)s::bigint[]) AS wanted (id)"

    def count(number: int) -> None:
        first = (number * 60 * 7_919) % (rows - 60) + 1
        with unit_of_work(engine) as session:
            driver_connection(session).execute(counting, {"ids": list(range(first, first + 60))}).fetchall()

    def page(_: int) -> None:
        with unit_of_work(engine) as session:
            copies.groups(session, archive_id=None, after=None, limit=50)

    def every(_: int) -> None:
        with unit_of_work(engine) as session:
            assert len(copies.every(session).ids)

    return {"of_60_hits": milliseconds(count), "page": milliseconds(page), "every": milliseconds(every)}


def main() -> None:
    """Measure; write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    chosen = parser.parse_args()
    head = begin(rows=chosen.rows)
    body = os.urandom(BODY_BYTES)
    report: dict[str, Any] = {
        "hash": {way: round(BODY_BYTES / milliseconds(lambda _, of=of: of(body)) * 1000) for way, of in WAYS.items()}
    }
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "services") as services:
        engine = make_engine(services.database_url)
        migrate.upgrade(engine)
        generation_id = prepare(engine).generation_id
        fill(engine, generation_id, chosen.rows)
        report["look_up"] = look_up(engine, generation_id, chosen.rows)
        report["groups"] = groups(engine, chosen.rows)
        report["note"] = note(engine)
        with unit_of_work(engine) as session:
            size = session.scalar(text("SELECT pg_total_relation_size('content')"))
        report["bytes"] = round(int(size or 0) / chosen.rows, 1)
        engine.dispose()
    print(report)
    write(chosen, "same-picture", head | report)


if __name__ == "__main__":
    main()

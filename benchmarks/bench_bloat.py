"""How far tables and indexes grow with use, and whether autovacuum with its default settings keeps up.

    python -m benchmarks.bench_bloat --rows 100000

The same images are recognised under three generations, listed again without and with a change, corrected and deleted,
and the old generations are dropped, all by the statements that workers and services use. After each step: bytes of each
table and of its indexes, dead rows, and how much of an index is in use.

Then what is updated all the time, for some minutes: shards are claimed, written and closed, heartbeats are sent, leases
are renewed. First as it is, then while one transaction is open, which keeps every old version of a row.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from benchmarks import ledger_client
from benchmarks.ledger_rate import SHARD_SIZE, fill
from benchmarks.report import begin, options, write
from ramq.embedded import embedded
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import driver_connection, make_engine, unit_of_work
from storage.ledger import workers
from storage.objects.base import PAGE_SIZE, ObjectInfo
from storage.results import generations, images
from storage.results.generations import GenerationSpec
from storage.results.vocabularies import VocabularySpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

GENERATIONS = 3
_SHARDS = 250
"""Small ones, of a round of what is updated all the time."""

HOT = ("job", "shard", "archive", "worker", "turn", "day_use", "index_state")
"""Tables with rows that are updated all the time."""
_SIZES = """
    SELECT regexp_replace(c.relname, '_g[0-9]+_p[0-9]+$', '') AS name, sum(pg_table_size(c.oid))::bigint AS bytes,
        sum(pg_indexes_size(c.oid))::bigint AS index_bytes, sum(s.n_live_tup)::bigint AS live,
        sum(s.n_dead_tup)::bigint AS dead, sum(s.autovacuum_count)::bigint AS vacuums,
        sum(s.n_tup_upd)::bigint AS updates, sum(s.n_tup_hot_upd)::bigint AS hot
    FROM pg_class AS c JOIN pg_stat_user_tables AS s ON s.relid = c.oid
    WHERE c.relkind = 'r' GROUP BY 1 HAVING sum(pg_table_size(c.oid)) > 200000 OR min(c.relname) = ANY(:hot)
    ORDER BY bytes DESC
"""


class Bloat:
    """A database, and what its tables took at each step.

    Args:
        engine: of the database.
        rows: images.
    """

    def __init__(self, engine: Engine, rows: int) -> None:
        self.engine = engine
        self.rows = rows
        self.steps: dict[str, Any] = {}
        self._wal = 0

    def look(self, name: str) -> None:
        """Note the sizes after a step."""
        self.engine.dispose()  # sessions tell what they did when they end
        with unit_of_work(self.engine) as session:
            rows = session.execute(text(_SIZES), {"hot": list(HOT)}).mappings()
            tables = {row["name"]: {key: row[key] for key in row if key != "name"} for row in rows}
            written = int(session.scalar(text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")) or 0)
        wal, self._wal = written - self._wal, written
        self.steps[name] = {"log_bytes": wal, "tables": tables}
        total = sum(each["bytes"] + each["index_bytes"] for each in tables.values())
        dead = {table: each["dead"] for table, each in tables.items() if each["dead"] > self.rows / 100}
        print(f"{name:44} {total / 1e6:9.1f} MB; log {wal / 1e6:8.1f} MB; dead rows: {dead}", flush=True)

    def vacuumed(self, name: str) -> None:
        """Do what autovacuum does in the end, and note the sizes after it."""
        self.engine.dispose()
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM (ANALYZE)"))
        self.look(name)

    def recognise(self, number: int, shard_size: int = SHARD_SIZE, most: int | None = None) -> None:
        """Make a job of a new generation on all images, or on the last of them, and write its results."""
        with unit_of_work(self.engine) as session:
            names = [f"tag {tag}" for tag in range(ledger_client.TAGS)]
            vocabulary = VocabularySpec("made up", "made up", names, [None] * len(names), [0.68] * len(names))
            spec = GenerationSpec(f"made up {number}", "lite", "", "", "", ledger_client.WIDTH)
            generation_id = generations.ensure(session, spec, vocabulary)
            values = {"generation": generation_id, "size": shard_size, "n": most or self.rows}
            values["job"] = session.scalar(
                text(
                    """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, state, generation_id,
                           listed, listed_all_at)
                       SELECT archive_id, source, prefix, model, captioner, priority, 'running', :generation, :n, now()
                       FROM job WHERE id = 1 RETURNING id"""
                ),
                values,
            )
            session.execute(
                text(
                    """INSERT INTO shard (job_id, image_ids, outcomes)
                       SELECT :job, array_agg(id ORDER BY id), decode(repeat('00', count(*)::int), 'hex')
                       FROM image WHERE id > (SELECT max(id) - :n FROM image)
                       GROUP BY (id - 1) / :size ORDER BY min(id)"""
                ),
                values,
            )
        ledger_client.run(self.engine, 32)

    def list_again(self, version: str) -> None:
        """Upsert every key, as a listing does."""
        with unit_of_work(self.engine) as session:
            keys = list(session.scalars(text("SELECT key FROM image ORDER BY key")))
        for first in range(0, len(keys), PAGE_SIZE):
            page = [ObjectInfo(key, version, 200_000, None) for key in keys[first : first + PAGE_SIZE]]
            with unit_of_work(self.engine) as session:
                images.upsert_page(session, 1, page)

    def beat(self, count: int) -> None:
        """Send heartbeats of twenty workers."""
        for number in range(count):
            with unit_of_work(self.engine) as session:
                workers.beat(
                    session,
                    f"worker-{number % 20}",
                    host="host",
                    pid=number % 20,
                    device="cpu",
                    model="lite",
                    job_id=None,
                    images_per_second=float(number),
                    stages={"fetch": number, "decode": number},
                )


@contextmanager
def open_transaction(engine: Engine) -> Iterator[None]:
    """Keep a snapshot during the block, as a dump does."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT count(*) FROM worker"))
        yield
        connection.rollback()


def hot(bloat: Bloat, number: int, seconds: float) -> dict[str, Any]:
    """Claim, write and close small shards, and send heartbeats, for some seconds. Return the rate, early and late."""
    closed: list[float] = []
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.02):
            bloat.beat(1)

    thread = threading.Thread(target=beat)
    thread.start()
    began = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            bloat.recognise(number, shard_size=4, most=4 * _SHARDS)
            closed.append(time.monotonic())
    finally:
        ended.set()
        thread.join()
    rounds = [after - before for before, after in zip([began, *closed], closed, strict=False)]
    tenth = max(1, len(rounds) // 10)
    return {
        "shards": _SHARDS * len(rounds),
        f"seconds of {_SHARDS} shards, first": round(statistics.median(rounds[:tenth]), 2),
        f"seconds of {_SHARDS} shards, last": round(statistics.median(rounds[-tenth:]), 2),
    }


def run(rows: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Do all of it. Return the sizes of each step, and what the hot tables did."""
    with ExitStack() as stack:
        services = stack.enter_context(embedded(folder))
        fill(services.database_url, rows)
        engine = make_engine(services.database_url)
        stack.callback(engine.dispose)
        client = Services(Settings(data_dir=folder), engine, None, is_reachable=False)
        bloat = Bloat(engine, rows)
        bloat.look("listed")
        ledger_client.run(engine, 32)
        bloat.look("recognised, generation 1")
        for number in range(2, GENERATIONS + 1):
            bloat.recognise(number)
            bloat.look(f"recognised, generation {number}")
        bloat.list_again("1")
        bloat.look("listed again, nothing changed")
        if not seconds:
            return {"steps": bloat.steps}
        bloat.list_again("2")
        bloat.look("listed again, all changed")
        bloat.vacuumed("vacuumed")
        with unit_of_work(engine) as session:
            driver_connection(session).execute("UPDATE job SET state = 'done'")
        client.generations.use(GENERATIONS, force=True)
        for number in range(1, GENERATIONS):
            client.generations.drop(number)
        bloat.look("generations 1 and 2 dropped")
        for first in range(1, rows // 20, 1000):
            client.corrections.tag(range(first, min(first + 1000, rows // 20)), add=["tag 1"], remove=["tag 2"])
        bloat.look("5 % corrected")
        client.erasures.delete(list(range(1, rows // 5)))
        bloat.look("20 % deleted")
        bloat.vacuumed("vacuumed after it")
        _fill_again(engine, rows)
        bloat.vacuumed("as many new images listed and recognised")
        with unit_of_work(engine) as session:
            session.execute(text("UPDATE job SET state = 'done'"))
        found = {"as it is": hot(bloat, GENERATIONS, seconds)}
        bloat.look("hot, as it is")
        with open_transaction(engine):
            found["beside an open transaction"] = hot(bloat, GENERATIONS, seconds)
            bloat.look("hot, beside an open transaction")
        bloat.vacuumed("hot, vacuumed")
        return {"steps": bloat.steps, "hot": found}


def _fill_again(engine: Engine, rows: int) -> None:
    """List as many new images as were deleted, and recognise them: do they take the place of the deleted ones?"""
    with unit_of_work(engine) as session:
        session.execute(text("SELECT setval(pg_get_serial_sequence('image', 'id'), max(id)) FROM image"))
    for first in range(0, rows // 5, PAGE_SIZE):
        page = [ObjectInfo(f"new/{first + n:012}.jpg", "1", 200_000, None) for n in range(PAGE_SIZE)]
        with unit_of_work(engine) as session:
            images.upsert_page(session, 1, page)
    with unit_of_work(engine) as session:
        session.execute(
            text(
                """WITH made AS (
                       INSERT INTO job (archive_id, source, prefix, model, captioner, priority, state, generation_id,
                           listed, listed_all_at)
                       SELECT archive_id, source, prefix, model, captioner, priority, 'running', :generation,
                           :n, now() FROM job WHERE id = 1 RETURNING id)
                   INSERT INTO shard (job_id, image_ids, outcomes)
                   SELECT made.id, array_agg(image.id ORDER BY image.id), decode(repeat('00', count(*)::int), 'hex')
                   FROM image, made WHERE key LIKE 'new/%' GROUP BY made.id, image.id / 256 ORDER BY min(image.id)"""
            ),
            {"generation": GENERATIONS, "n": rows // 5},
        )
    ledger_client.run(engine, 32)


def main() -> None:
    """Measure, print, write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="images")
    parser.add_argument(
        "--seconds",
        type=float,
        default=120.0,
        help="of each part on what is updated all the time; 0: end with the second listing",
    )
    chosen = parser.parse_args()
    report = begin() | {"rows": chosen.rows}
    with tempfile.TemporaryDirectory() as folder:
        report |= run(chosen.rows, chosen.seconds, Path(folder))
    write(chosen, "bloat", report)


if __name__ == "__main__":
    main()

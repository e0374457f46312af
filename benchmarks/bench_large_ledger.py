"""What a day of work asks of a database with 10^8 images: how long it takes, and by which plans.

    python -m benchmarks.bench_large_ledger --rows 1e8 --folder /var/tmp/large

The database is filled once (``large_ledger``; some 35 GB and an hour) and kept in ``--folder``. Each run then:

* publishes the vectors of 10^6 images, once;
* restarts PostgreSQL and empties the page cache of the system (as root), and asks the web server: each question with
  ``ASKED`` different arguments, the first ones cold;
* lets a worker whose model answers at once do jobs: 2,000 new pictures in 1,000 folders of the largest archive; the
  same again, unchanged; a folder of which one picture is left;
* deletes a folder with its proof, retries 10^5 failures once, reports all images, vacuums the tables.

Beside each it writes the statements that took most (``pg_stat_statements``) and the plans of the slowest
(``auto_explain``). Memory: ``shared_buffers`` of 2 GB, and what the system keeps of files.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
from PIL import Image
from sqlalchemy import create_engine, text

from benchmarks.large_ledger import OTHERS, Filled, fill
from benchmarks.report import begin, options, write
from ramq.embedded.postgres import Postgres
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import make_engine
from storage.errors import UsageError
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.migrate import upgrade
from storage.results import partitions
from tests.services.breakable import BreakableServices, breakable_services
from tests.services.fleet import Fleet, running_fleet, wait_for
from tests.services.web import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

ASKED = 40
NEW = 2_000
SLOW_MS = 50
LIMIT_SECONDS = 1_800.0
PARTS = ("publish", "ask", "work", "retry", "report", "upkeep")
FILLING = {"wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "'4GB'", "maintenance_work_mem": "'512MB'"}
WATCHING = {
    "shared_preload_libraries": "pg_stat_statements, auto_explain",
    "pg_stat_statements.track": "'all'",
    "auto_explain.log_min_duration": str(SLOW_MS),
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_buffers": "on",
}


class Large:
    """The filled database and its server."""

    def __init__(self, running: BreakableServices, folder: Path) -> None:
        self.running, self.folder = running, folder
        self.log = folder / "services" / "logs" / "postgres.log"

    def configure(self, settings: dict[str, str]) -> None:
        """Set these settings and no others, and restart the server."""
        with self._admin() as connection:
            connection.exec_driver_sql("ALTER SYSTEM RESET ALL")
            for name, value in settings.items():
                connection.exec_driver_sql(f"ALTER SYSTEM SET {name} = {value}")
        self.restart()

    def restart(self, *, is_cold: bool = False) -> None:
        """Restart the server; its files are then on disk only, if that is wanted and we may."""
        self.running.postgres.stop()
        if is_cold and os.geteuid() == 0:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
        self.running.postgres.prepare()
        self.running.postgres.start()

    def _admin(self) -> Any:
        return create_engine(self.running.database_url, isolation_level="AUTOCOMMIT").connect()

    def sql(self, statement: str, **values: object) -> list[Any]:
        """Run a statement by itself and return its rows."""
        with self._admin() as connection:
            found = connection.execute(text(statement), values)
            return list(found.mappings()) if found.returns_rows else []

    def watched(self, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run it. Return what it returns, the seconds, and what the server did meanwhile."""
        self.sql("SELECT pg_stat_statements_reset()")
        at, began = self.log.stat().st_size, time.monotonic()
        found = do()
        found["seconds"] = round(time.monotonic() - began, 3)
        found["statements"] = [
            {**row, "query": " ".join(row["query"].split())[:160]}
            for row in self.sql(
                """SELECT query, calls, round(total_exec_time)::int AS total_ms,
                       round(mean_exec_time::numeric, 2)::float AS mean_ms,
                       round(max_exec_time::numeric, 1)::float AS max_ms,
                       shared_blks_read AS blocks_read, wal_bytes::bigint AS wal_bytes
                   FROM pg_stat_statements WHERE query !~ 'pg_stat_statements' ORDER BY total_exec_time DESC LIMIT 5"""
            )
        ]
        found["slow_plans"] = plans(self.log, at)
        print(json.dumps(found, indent=1), flush=True)
        return found


def plans(log: Path, at: int) -> list[dict[str, Any]]:
    """Return the slowest plans that the log tells since a position: one of each shape, at most five."""
    with log.open("rb") as file:
        file.seek(at)
        told = file.read().decode(errors="replace")
    found: dict[str, dict[str, Any]] = {}
    for entry in re.split(r"\n(?=\S)", told):
        if "duration:" not in entry or "Query Text:" not in entry:
            continue
        took = float(re.findall(r"duration: ([\d.]+) ms", entry)[0])
        query = " ".join(entry.partition("Query Text:")[2].split())[:160]
        nodes = [
            re.sub(r"\s*\((cost|actual|never)[^()]*\)", "", line.strip().removeprefix("->")).strip()
            + "".join(f" rows={rows}" for rows in re.findall(r"actual rows=([\d.]+)", line)[:1])
            for line in entry.splitlines()
            if "(cost=" in line
        ]
        if query not in found or took > found[query]["ms"]:
            found[query] = {"ms": took, "query": query, "nodes": nodes[:12]}
    return sorted(found.values(), key=lambda one: -one["ms"])[:5]


def of_times(times: list[float]) -> dict[str, Any]:
    """Return the first and the largest of some seconds, and the middle and the 95th percentile of the later half."""
    later = sorted(times[len(times) // 2 :])
    return {
        "first_ms": round(1000 * times[0], 1),
        "worst_ms": round(1000 * max(times), 1),
        "p50_ms": round(1000 * statistics.median(later), 1),
        "p95_ms": round(1000 * later[int(0.95 * (len(later) - 1))], 1),
    }


def ask(url: str, filled: Filled, large: Large) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ask the web server what people and their programs ask."""
    chance = random.Random(5)
    number = lambda: chance.randrange(1, filled.rows)  # noqa: E731
    job = filled.job_id
    with httpx.Client(base_url=url, timeout=300) as client:

        def get(path: str) -> httpx.Response:
            found = client.get(path)
            found.raise_for_status()
            return found

        asked: dict[str, tuple[int, Callable[[], object]]] = {
            "an image": (ASKED, lambda: get(f"/v1/images/{number()}")),
            "page of an image": (ASKED, lambda: get(f"/images/{number()}")),
            "a tag put right": (
                ASKED,
                lambda: client.put(f"/v1/images/{number()}/tags/tag 5", json={"present": True}).raise_for_status(),
            ),
            "an image deleted": (10, lambda: client.delete(f"/v1/images/{number()}").raise_for_status()),
            "the job of all images": (10, lambda: get(f"/v1/jobs/{job}")),
            "jobs": (10, lambda: get("/v1/jobs")),
            "page of jobs": (10, lambda: get("/jobs")),
            "page of a job": (10, lambda: get(f"/jobs/{job}")),
            "first failures of a job": (10, lambda: get(f"/v1/jobs/{job}/failures?limit=100")),
            "archives": (10, lambda: get("/v1/archives")),
            "page of archives": (10, lambda: get("/archives")),
            "missing originals": (3, lambda: get("/v1/missing")),
            "metrics": (3, lambda: get("/metrics")),
            "ready": (10, lambda: get("/readyz")),
        }
        for name, (times, one) in asked.items():
            large.restart(is_cold=True)
            get("/healthz")

            def repeated(times: int = times, one: Callable[[], object] = one) -> dict[str, Any]:
                took = []
                for _ in range(times):
                    began = time.monotonic()
                    one()
                    took.append(time.monotonic() - began)
                return {"asked": times, **of_times(took)}

            print(name, flush=True)
            yield name, large.watched(repeated)


def work(services: Services, filled: Filled, large: Large, fleet: Fleet) -> Iterator[tuple[str, dict[str, Any]]]:
    """Do what workers do."""
    root = Path(filled.archives[0].removeprefix("file://"))
    run = int(time.time())  # for names that no earlier run has used
    keys = new_pictures(root, filled, run)
    listed = large.folder / "new.txt"
    listed.write_text("".join(f"{root / key}\n" for key in keys), encoding="utf-8")
    large.restart(is_cold=True)
    fleet.start(1)

    def job(source: str) -> dict[str, Any]:
        view = services.jobs.create(source)
        over = wait_for(services, view.id, fleet, lambda one: one.is_over, timeout=LIMIT_SECONDS)
        assert over.state == "done", over
        return {"listed": over.listed, "done": over.done, "skipped": over.skipped, "failed": over.failed}

    yield "2,000 new pictures", large.watched(lambda: job(str(listed)))
    yield "the same list again", large.watched(lambda: job(str(listed)))
    empty = root / "photos" / "0000" / f"{100 + run % 400}"
    empty.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(empty / "last.png")
    yield "a folder of which one picture is left", large.watched(lambda: job(str(empty)))

    for process in list(fleet.processes):
        fleet.kill(process)

    def deleted() -> dict[str, Any]:
        folder = f"photos/0000/{500 + run % 400}/"
        return {"images": services.erasures.delete_below(folder, filled.archives[0]).images}

    yield "a folder of 1,000 deleted", large.watched(deleted)


def publish(large: Large, engine: Engine, filled: Filled) -> Iterator[tuple[str, dict[str, Any]]]:
    """Publish the vectors of the newest rows, as workers do."""
    builder = IndexBuilder(engine, FolderStorage(large.folder / "data" / "index"), large.folder / "data" / "cache")

    def run() -> dict[str, Any]:
        builder.publish_new(filled.generation_id, force=True)
        return {}

    yield "10^6 vectors published", large.watched(run)


def new_pictures(root: Path, filled: Filled, run: int) -> list[str]:
    """Write pictures into folders all over the largest archive, two in each."""
    chance = random.Random(run)
    keys = []
    for number in range(NEW // 2):
        n = chance.randrange(1, round(filled.rows * 0.9)) // 1000
        for letter in "ab":
            key = f"photos/{n // 1000:04}/{n % 1000:03}/NEW_{run}_{letter}{number:05}.png"
            keys.append(key)
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8 + run % 997), (number % 256, number // 256, ord(letter))).save(root / key)
    return keys


def retry(services: Services, filled: Filled, large: Large) -> Iterator[tuple[str, dict[str, Any]]]:
    """Retry all failures, once: who did so has none left."""

    def run() -> dict[str, Any]:
        view = services.jobs.retry(filled.job_id)
        services.jobs.cancel(filled.job_id)
        return {"retried": view.pending}

    with suppress(UsageError):
        yield "10^5 failures retried, and cancelled", large.watched(run)


def told(services: Services, filled: Filled, large: Large) -> Iterator[tuple[str, dict[str, Any]]]:
    """Report the job of all images."""

    def first() -> dict[str, Any]:
        lines = services.jobs.report_lines(filled.job_id)
        next(lines)
        lines.close()
        return {"temporary_bytes": temporary()}

    def whole() -> dict[str, Any]:
        report = services.jobs.report(filled.job_id)
        return {"lines": report.lines, "temporary_bytes": temporary()}

    def temporary() -> int:
        return int(
            large.sql("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")[0]["temp_bytes"]
        )

    large.restart(is_cold=True)
    yield "first line of the report", large.watched(first)
    yield "the whole report", large.watched(whole)


def upkeep(large: Large) -> Iterator[tuple[str, dict[str, Any]]]:
    """Do what autovacuum and administrators do."""
    ((generation_id,),) = (tuple(row.values()) for row in large.sql("SELECT max(id) FROM generation"))
    part = f"{partitions.partition('record', generation_id)}_p0"
    for statement in ("VACUUM image", "ANALYZE image", f"VACUUM {part}", f"REINDEX TABLE CONCURRENTLY {part}"):

        def run(statement: str = statement) -> dict[str, Any]:
            large.sql(statement)
            return {}

        large.restart(is_cold=True)
        yield statement, large.watched(run)


def sizes(large: Large) -> list[dict[str, Any]]:
    """Return the bytes of tables and of their indexes, with their partitions."""
    return [
        dict(row)
        for row in large.sql(
            r"""SELECT regexp_replace(relname, '_g\d+_p\d+$', '') AS "table", sum(reltuples)::bigint AS rows,
                   sum(pg_table_size(oid))::bigint AS bytes, sum(pg_indexes_size(oid))::bigint AS index_bytes
               FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
               GROUP BY 1 HAVING sum(pg_total_relation_size(oid)) > 10000000 ORDER BY 3 DESC"""
        )
    ]


def main() -> None:
    """Fill unless that is done, ask, work, and write the report."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--folder", type=Path, required=True, help="where the database is kept")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    report = begin(shared_buffers="2GB")
    Postgres.shared_buffers = "2GB"
    done = folder / "filled.json"
    with breakable_services(folder / "services") as running:
        large = Large(running, folder)
        engine = make_engine(running.database_url, pool_size=10)
        if not done.exists():
            large.configure(FILLING)
        upgrade(engine)
        if not done.exists():
            uris = [(folder / "archives" / f"{number:02}").as_uri() for number in range(OTHERS + 1)]
            filled = fill(engine, round(chosen.rows), uris)
            done.write_text(json.dumps(asdict(filled)), encoding="utf-8")
        filled = Filled(**json.loads(done.read_text(encoding="utf-8")))
        large.configure(WATCHING)
        large.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        report |= {"rows": filled.rows, "fill_seconds": filled.seconds, "sizes": sizes(large)}
        settings = Settings(
            data_dir=folder / "data", database_url=running.database_url, broker_url=running.broker_url, rate_limit=0
        )
        services = Services(settings, engine, running.broker_url, is_reachable=False)
        if "publish" in chosen.parts:
            report["published"] = dict(publish(large, engine, filled))
        if "ask" in chosen.parts:
            with serving(services) as url:
                report["asked"] = dict(ask(url, filled, large))
        if "work" in chosen.parts:
            with running_fleet(settings, folder) as fleet:
                report["work"] = dict(work(services, filled, large, fleet))
        if "retry" in chosen.parts:
            report["retry"] = dict(retry(services, filled, large))
        if "report" in chosen.parts:
            report["report"] = dict(told(services, filled, large))
        if "upkeep" in chosen.parts:
            report["upkeep"] = dict(upkeep(large))
        engine.dispose()
    write(chosen, "large-ledger", report)


if __name__ == "__main__":
    main()

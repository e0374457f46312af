"""What the report of a large job takes: sorted by the database, and read along the index of keys.

    python -m benchmarks.bench_report --rows 1e6 --folder /var/tmp/report

The database is that of ``large_ledger``, with nine tenths of the images in the archive of the job. Both ways are run
in turns, each time in a process of its own: seconds until the first line and until the last, bytes of temporary files
that the server wrote, and by how much the process of the reader grew. The lines have to be the same. ``prefix``: the
job is of a part of the archive, which happens to have all of its images.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import shutil
import time
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from benchmarks.large_ledger import OTHERS, fill
from benchmarks.report import begin, options, write
from ramq.embedded.postgres import Postgres
from storage.database import make_engine, unit_of_work
from storage.ledger import reports
from storage.migrate import upgrade
from tests.services.breakable import breakable_services

WAYS = {"sorted": 2**62, "scanned": 0}
"""From how many listed keys on the index of keys is read."""

ROUNDS = 2
FILLING = {"wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "'512MB'"}


def read(url: str, job_id: int, scans_from: int, told: Any) -> None:
    """Read all lines of a report, and tell what it took."""
    engine = make_engine(url, pool_size=1)
    with unit_of_work(engine) as session:
        session.scalar(text("SELECT 1"))
    before, began, first, count = _most_bytes(), time.monotonic(), 0.0, 0
    hashed = hashlib.sha256()
    with unit_of_work(engine) as session:
        for line in reports.lines(session, job_id, scans_from):
            first = first or time.monotonic() - began
            hashed.update(line)
            count += 1
    told.put(
        {
            "lines": count,
            "sha256": hashed.hexdigest(),
            "first_line_seconds": round(first, 2),
            "seconds": round(time.monotonic() - began, 2),
            "reader_grew_bytes": _most_bytes() - before,
        }
    )
    engine.dispose()


def _most_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(url: str, job_id: int, scans_from: int) -> dict[str, Any]:
    """Read the report in a process of its own."""
    before = _sql(url, "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=read, args=(url, job_id, scans_from, told))
    process.start()
    found: dict[str, Any] = told.get()
    process.join()
    time.sleep(2)  # the server counts what a connection did when it has ended
    after = _sql(url, "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    return found | {"temporary_bytes": int(after) - int(before)}


def _sql(url: str, statement: str) -> Any:
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        found = connection.execute(text(statement))
        return found.scalar() if found.returns_rows else None


def main() -> None:
    """Fill, read, and write the report."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--folder", type=Path, required=True, help="where the database is made, and deleted at the end")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True)
    report = begin(shared_buffers=Postgres.shared_buffers)
    try:
        with breakable_services(folder / "services") as running:
            url = running.database_url
            for name, value in FILLING.items():
                _sql(url, f"ALTER SYSTEM SET {name} = {value}")
            running.postgres.stop()
            running.postgres.prepare()
            running.postgres.start()
            engine = make_engine(url)
            upgrade(engine)
            uris = [(folder / "archives" / f"{number:02}").as_uri() for number in range(OTHERS + 1)]
            filled = fill(engine, round(chosen.rows), uris)
            report |= {"rows": filled.rows, "work_mem": _sql(url, "SHOW work_mem"), "found": []}
            for prefix in ("", "photos/"):
                _sql(url, f"UPDATE job SET prefix = '{prefix}'")
                for number in range(ROUNDS * len(WAYS)):
                    way = list(WAYS)[number % len(WAYS)]
                    found = {"way": way, "prefix": prefix, **measured(url, filled.job_id, WAYS[way])}
                    report["found"].append(found)
                    print(found, flush=True)
            assert len({found["sha256"] for found in report["found"]}) == 1
            engine.dispose()
    finally:
        shutil.rmtree(folder)
    write(chosen, "report", report)


if __name__ == "__main__":
    main()

"""How fast 1, 2 and 4 planners record the keys of one archive, beside an earlier version, and what they wait for.

    python -m benchmarks.bench_planning --baseline ../main --keys 100000

The archive lies nowhere, so a page of keys costs nothing: what is measured is the ledger. Each planner is a process.
``--baseline`` is a checkout of another version. Besides the rate the report has what one key costs, on processors and
in the write-ahead log, what sessions wait for, and how long of a page other planners of the job wait: from the lock of
the job to the end of the commit (``others_wait_ms``). That tells what more machines would give.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.ledger_rate import figures, together
from benchmarks.report import begin, options, write
from tests.services.breakable import breakable_services
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from tests.services.breakable import BreakableServices

CLIENT = str(Path(__file__).with_name("planning_client.py"))
PLANNERS = (1, 2, 4)


def plan(running: BreakableServices, url: str, keys: int, planners: int, checkout: Path) -> dict[str, Any]:
    """List the archive with so many processes that run the code of ``checkout``."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, CLIENT, "list", url, str(keys)]
    told, usage = together(running, url, command, environment, planners)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        check = """SELECT (SELECT sum(listed) FROM job), (SELECT images FROM archive), (SELECT count(*) FROM image),
            (SELECT sum(cardinality(image_ids)) FROM shard)"""
        if set(connection.execute(check).fetchone() or ()) != {keys}:
            raise RuntimeError("keys were lost or doubled: the figures mean nothing")
    found = figures(usage, keys)
    return {
        "planners": planners,
        "pages_of_each": [one["pages"] for one in told],
        "page_ms": round(1000 * sum(one["page_seconds"] for one in told) / sum(one["pages"] for one in told), 1),
        "others_wait_ms": round(
            1000 * sum(one["locked_seconds"] for one in told) / sum(one["pages"] for one in told), 1
        ),
        "keys_per_second": found["images_per_second"],
        "processor_us_per_key": found["processor_us_per_image"],
        "bound_keys_per_second": found["bound_images_per_second"],
        **{name: found[name] for name in ("cores_busy", "share_of_bound", "sessions_in")},
        "wal_bytes_per_key": found["wal_bytes_per_image"],
        "commits_per_second": found["commits_per_second"],
    }


def main() -> None:
    """Measure, print a line for each run, write a file."""
    parser = options(__doc__)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--baseline", type=Path, help="a checkout of another version")
    chosen = parser.parse_args()
    report = begin()
    checkouts = {"ours": Path.cwd(), **({"baseline": chosen.baseline.resolve()} if chosen.baseline else {})}
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, breakable_services(Path(folder)) as running:
        server = PostgresServer(running.database_url)
        for planners in PLANNERS:
            for name, checkout in checkouts.items():
                url = server.create_database(f"{name}_{planners}")
                environment = {**os.environ, "PYTHONPATH": str(checkout)}
                subprocess.run([sys.executable, CLIENT, "prepare", url, "0"], check=True, env=environment)
                runs.append({"code": name, **plan(running, url, chosen.keys, planners, checkout)})
                print(runs[-1], flush=True)
                server.drop_database(url)
    write(chosen, "planning", report | {"keys": chosen.keys, "runs": runs})


if __name__ == "__main__":
    main()

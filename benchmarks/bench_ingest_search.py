"""Searches over HTTP while images are stored and published: how much slower are they than when nothing else happens?

    python -m benchmarks.bench_ingest_search --rows 100000 --against ../older-checkout

One client searches by tag, by text and for similar images, all the time. Beside it, in turns:

* ``idle``: nothing.
* ``steady``: a process stores some images a second, and publishes an index segment every two seconds.
* ``fast``: the same, with as many images a second as several GPUs recognise.
* ``steady, only its processor time`` and ``fast, only its processor time``: processes that do nothing but use as many
  processor seconds as ingest and its database sessions did. What searches lose beside them is the price of sharing
  cores. What they lose beyond that is ours.

Before that, ``benchmarks.view_cost`` measures the processor time that a search pays to see what was committed since the
last one. It depends little on what else the machine does; the milliseconds of searches depend much on it. With
``--against``, another checkout takes turns with this one.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import urllib3
from sqlalchemy import text

from benchmarks.bench_load import serving
from benchmarks.ledger_rate import servers
from benchmarks.load_data import fill
from benchmarks.processor import used_seconds
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK
from ramq.embedded import EmbeddedServices
from storage.database import make_engine, unit_of_work
from storage.migrate import upgrade
from tests.services.breakable import BreakableServices, breakable_services
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parents[1]
STEADY_RATE, FAST_RATE = 100.0, 1_500.0  # images a second
PUBLISH_SECONDS = 2.0
WORDS = ("red", "old", "small", "wet", "wooden", "a dog on", "people at", "a car by", "the sea and", "food on")
PLACES = ("a table", "a street", "the beach", "grass", "a kitchen", "snow", "a bridge", "a tree", "a window", "a boat")
_SPIN = """
import sys, time
share = float(sys.argv[1])
while True:
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.01 * share: pass
    time.sleep(max(0.0, began + 0.01 - time.monotonic()))
"""


class Searcher:
    """One client that asks a server again as soon as it is answered."""

    def __init__(self, url: str, rows: int) -> None:
        self._url, self._rows = url.rstrip("/"), rows
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=60)
        self._kinds = {
            "tag": lambda rng: f"/v1/search?tag=tag%20{rng.randint(0, 1500)}",
            "text": lambda rng: f"/v1/search?q={rng.choice(WORDS)} {rng.choice(PLACES)}&relevance=0".replace(" ", "+"),
            "like": lambda rng: f"/v1/search?like={rng.randint(1, self._rows)}",
        }

    def search(self, seconds: float) -> dict[str, list[float]]:
        """Search for so long; return the seconds that each answer took, by kind."""
        rng, until = random.Random(0), time.monotonic() + seconds
        found: dict[str, list[float]] = {kind: [] for kind in self._kinds}
        while time.monotonic() < until:
            for kind, path in self._kinds.items():
                began = time.perf_counter()
                answer = self._pool.request("GET", self._url + path(rng))
                found[kind].append(time.perf_counter() - began)
                if answer.status != 200 or b'"items":[]' in answer.data:
                    raise SystemExit(f"{kind}: {answer.status}: {answer.data[:500]!r}")
        return found


@contextmanager
def ingest(checkout: Path, **plan: object) -> Iterator[dict[str, Any]]:
    """Run ``benchmarks.ingest`` beside a block; what it told is in the value afterwards."""
    script = Path(__file__).with_name("ingest.py")
    # The script's own folder is not on the path of the other checkout, which may not have the script.
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(
        [sys.executable, "-P", str(script), json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    told: dict[str, Any] = {}
    try:
        yield told
        process.stdin.close()
        told |= json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextmanager
def spinning(cores: float) -> Iterator[None]:
    """Use so many cores, and nothing else of the machine."""
    count = os.cpu_count() or 1
    processes = [subprocess.Popen([sys.executable, "-c", _SPIN, str(cores / count)]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def report_of(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return the figures of each kind of search, and of all."""
    every = {**found, "all": [second for seconds in found.values() for second in seconds]}
    return {
        kind: {
            "requests": len(seconds),
            "p50_ms": round(1000 * float(np.percentile(seconds, 50)), 2),
            "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 2),
            "slowest_ms": round(1000 * max(seconds), 2),
        }
        for kind, seconds in every.items()
    }


class Bench:
    """A filled database that is searched.

    Args:
        running: its services.
        folder: has its index.
        rows: how many images it has at first.
        seconds: that each measurement takes.
    """

    def __init__(self, running: Any, folder: Path, rows: int, seconds: float) -> None:
        self._running, self._folder, self._rows, self._seconds = running, folder, rows, seconds
        self._url = running.database_url
        engine = make_engine(self._url)
        upgrade(engine)
        fill(engine, folder, rows)
        with unit_of_work(engine) as session:
            self._row = session.execute(
                text(
                    """SELECT job_id, generation_id, octet_length(v) / 2 FROM record
                       JOIN vector USING (image_id, generation_id) LIMIT 1"""
                )
            ).one()
        engine.dispose()
        self._next_chunk = -(-rows // CHUNK)

    def measure(self, code: str, checkout: Path) -> dict[str, Any]:
        """Measure the code of a checkout: idle, with ingest, and with as much processor time for nothing."""
        services = EmbeddedServices(self._url, self._running.broker_url, os.getpid())
        with serving(services, self._folder, checkout=checkout, name=f"web-{code}") as (url, _):
            searcher = Searcher(url, self._rows)
            searcher.search(2.0)
            found: dict[str, Any] = {"idle": report_of(searcher.search(self._seconds))}
            for name, rate in (("steady", STEADY_RATE), ("fast", FAST_RATE)):
                found[name], cores = self._beside_ingest(searcher, checkout, rate)
                with spinning(cores):
                    found[f"{name}, only its processor time"] = report_of(searcher.search(self._seconds))
            again = report_of(searcher.search(self._seconds))
        found["idle again"] = again
        for name, part in found.items():
            ratio = part["all"]["p95_ms"] / found["idle"]["all"]["p95_ms"]
            part["p95_over_idle"] = round(ratio, 2)
            print(f"{name:36} {part}", flush=True)
        return found

    def _beside_ingest(self, searcher: Searcher, checkout: Path, rate: float) -> tuple[dict[str, Any], float]:
        number, self._next_chunk = self._next_chunk, self._next_chunk + 1
        assert rate * self._seconds <= CHUNK, "images would run out"
        plan = {
            "url": self._url,
            "folder": str(self._folder),
            "first": number,
            "width": self._row[2],
            "rate": rate,
            "publish_seconds": PUBLISH_SECONDS,
            "job_id": self._row[0],
            "generation_id": self._row[1],
        }
        with ingest(checkout, **plan) as told:
            before = used_seconds(*servers(self._running))
            began = time.monotonic()
            found: dict[str, Any] = report_of(searcher.search(self._seconds))
            seconds = time.monotonic() - began
            used = used_seconds(*servers(self._running))
            used.subtract(before)
        found["ingest"] = told
        # Sessions of searches are counted too: a few percent of a core.
        cores = (used["ingest"] + used["database, sessions"] + used["database, other"]) / seconds
        found["cores_used_by_it"] = round(cores, 2)
        return found, cores


def views(running: BreakableServices, checkouts: dict[str, Path], turns: int) -> dict[str, list[dict[str, float]]]:
    """Return the milliseconds of processor that seeing a change costs a search; the checkouts take turns."""
    server, script = PostgresServer(running.database_url), Path(__file__).with_name("view_cost.py")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for turn in range(turns):
        for name, checkout in checkouts.items():
            told = subprocess.run(
                [sys.executable, "-P", str(script), server.create_database(f"views_{name}_{turn}"), "24"],
                env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                check=True,
            )
            found[name].append(json.loads(told.stdout))
            print(name, found[name][-1], flush=True)
    return found


def main() -> None:
    """Measure, print, write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="images in the database")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement; 0: only processor time")
    parser.add_argument("--turns", type=int, default=2, help="of measuring processor time")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version to measure in the same run")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin()
    report |= {
        "rows": chosen.rows,
        "images_per_second": {"steady": STEADY_RATE, "fast": FAST_RATE},
        "publish_seconds": PUBLISH_SECONDS,
    }
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, breakable_services(Path(name) / "services") as running:
        checkouts = {} if chosen.against is None else {"before": chosen.against.absolute()}
        checkouts["after"] = HERE
        report["view_processor_ms"] = views(running, checkouts, chosen.turns)
        if chosen.seconds:
            bench = Bench(running, Path(name), chosen.rows, chosen.seconds)
            report |= {code: bench.measure(code, checkout) for code, checkout in checkouts.items()}
    write(chosen, "ingest-search", report)


if __name__ == "__main__":
    main()

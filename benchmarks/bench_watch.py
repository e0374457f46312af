"""How long does it take from a file that is written to a search over HTTP that finds it?

    python -m benchmarks.bench_watch --pictures 40

The whole stack runs as ``ramq up`` runs it, with the model ``lite``. Of a watched folder:

* ``alone``: pictures that come one at a time, with pauses in which nothing happens: seconds from the end of writing to
  the first answer of ``GET /v1/search`` that has the key;
* ``burst``: so many pictures at once: seconds until the first and until all are found, and how many jobs that took;
* ``deleted``: seconds until a deleted picture is no longer among what is there (``missing:no``).

And of the ledger alone, in the same database:

* ``storm``: seconds for 100,000 events a hundred in a transaction, and the keys that are stored after it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.report import begin, options, write
from ramq.client import Client
from ramq.embedded import embedded
from storage.database import make_engine, unit_of_work
from storage.ledger import watch_events
from tests.services.checker import picture

PAUSE_SECONDS = 12.0
EVENTS = 100_000


def found(url: str, q: str = "missing:no") -> set[str]:
    """Ask the server for all keys."""
    keys: set[str] = set()
    cursor = None
    while True:
        asked = {"q": q, "limit": 500, **({"cursor": cursor} if cursor else {})}
        with urllib.request.urlopen(f"{url}/v1/search?{urllib.parse.urlencode(asked)}") as answer:
            page = json.load(answer)
        keys |= {hit["key"] for hit in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return keys


def seconds_until(condition: Any, limit_seconds: float = 300.0) -> float:
    """Wait for a condition. Return how long it took."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > limit_seconds:
            raise TimeoutError
        time.sleep(0.05)
    return time.perf_counter() - began


def measure_folder(url: str, photos: Path, count: int) -> dict[str, Any]:
    """Write pictures one at a time, then many at once, then delete one."""
    (photos / "warm.png").write_bytes(picture(1))
    seconds_until(lambda: "warm.png" in found(url))
    alone = []
    for number in range(5):
        time.sleep(PAUSE_SECONDS)
        name = f"alone-{number}.png"
        (photos / name).write_bytes(picture(100 + number))
        alone.append(seconds_until(lambda name=name: name in found(url)))
    time.sleep(PAUSE_SECONDS)
    with Client(url) as ramq:
        jobs = len(list(ramq.jobs(watch=1)))
        burst = {f"burst-{number}.png" for number in range(count)}
        for number, name in enumerate(sorted(burst)):
            (photos / name).write_bytes(picture(1_000 + number))
        first = seconds_until(lambda: burst & found(url))
        everything = first + seconds_until(lambda: burst <= found(url))
        seconds_until(lambda: all(job.is_over for job in ramq.jobs(watch=1)))
        made = len(list(ramq.jobs(watch=1))) - jobs
    time.sleep(PAUSE_SECONDS)
    (photos / "alone-0.png").unlink()
    deleted = seconds_until(lambda: "alone-0.png" not in found(url))
    return {
        "alone": {"seconds": alone, "median_seconds": statistics.median(alone), "most_seconds": max(alone)},
        "burst": {"pictures": count, "first_seconds": first, "all_seconds": everything, "jobs": made},
        "deleted": {"seconds": deleted},
    }


def measure_storm(database_url: str) -> list[dict[str, Any]]:
    """Store events as a stream of messages would."""
    engine = make_engine(database_url)
    measured = []
    try:
        for keys in (1_000, EVENTS):
            began = time.perf_counter()
            for start in range(0, EVENTS, 100):
                named = [f"storm/{(start + each) % keys}.jpg" for each in range(100)]
                with unit_of_work(engine) as session:
                    watch_events.store(session, 1, named)
            seconds = time.perf_counter() - began
            with unit_of_work(engine) as session:
                connection = session.connection()
                stored = connection.exec_driver_sql("SELECT count(*) FROM watch_event").scalar()
                reason = connection.exec_driver_sql("SELECT list_now_reason FROM watch").scalar()
                connection.exec_driver_sql("DELETE FROM watch_event")
                connection.exec_driver_sql("UPDATE watch SET list_now_since = NULL, list_now_reason = NULL")
            measured.append(
                {
                    "events": EVENTS,
                    "keys": keys,
                    "seconds": seconds,
                    "stored": stored,
                    "becomes_a_listing": bool(reason),
                }
            )
    finally:
        engine.dispose()
    return measured


def main() -> None:
    """Measure, and write the result."""
    parser = options(__doc__)
    parser.add_argument("--pictures", type=int, default=100, help="of a burst")
    parser.add_argument("--port", type=int, default=8_971)
    chosen = parser.parse_args()
    report = begin()
    with tempfile.TemporaryDirectory() as place:
        data, photos = Path(place, "data"), Path(place, "photos")
        photos.mkdir()
        environment = {**os.environ, "RAMQ_DATA_DIR": str(data)}
        ramq = [sys.executable, "-m", "ramq.cli.main"]
        up = subprocess.Popen([*ramq, "up", "--port", str(chosen.port)], env=environment, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{chosen.port}"
            seconds_until(lambda: _answers(url))
            with Client(url) as client:
                client.watch(str(photos), events="inotify", every="1d", caption=False)
                seconds_until(lambda: client.watch_state(1).listed_at is not None and client.watch_state(1).is_told)
            report["folder"] = measure_folder(url, photos, chosen.pictures)
            with Client(url) as client:
                client.pause_watch(1)
            with embedded(data) as services:
                report["storm"] = measure_storm(services.database_url)
        finally:
            up.terminate()
            up.wait(120)
    print(json.dumps(report, indent=1))
    write(chosen, "watch", report)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()

"""How long do searches take while the standby that they read hangs, and requests while the database does?

    python -m benchmarks.bench_standby --against ../older

A real PostgreSQL and a standby that streams from it; the web server reaches each through a proxy that can swallow
everything, as a parted network does. Clients send requests through HTTP, one after the other, in three phases: before
the hang, during it, and after the network is well again.

* ``standby``: tag searches. While the standby hangs, are they answered, and when?
* ``database``: lists of jobs, on a server without a standby. While the database hangs, when are they refused?

``--against`` measures the same with the code of another checkout. A client gives a request up after ``MOST_SECONDS``
and counts it with that.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx2
from sqlalchemy import make_url

from benchmarks.report import begin, options, write
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import make_engine
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.migrate import upgrade
from tests.archive_model import ArchiveModel
from tests.services.breakable import breakable_services
from tests.services.standby import catch_up, standby_of
from tests.services.tcp_proxy import TcpProxy, tcp_proxy
from tests.services.web import serving

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES_OF_EACH = 600
CLIENTS = 8
PHASE_SECONDS, HANG_SECONDS = 15.0, 60.0
MOST_SECONDS = 120.0


def socket_of(url: str) -> Path:
    """Return the socket of a server."""
    query = make_url(url).query
    return Path(str(query["host"])) / f".s.PGSQL.{query['port']}"


def through(url: str, proxy: TcpProxy) -> str:
    """Return the address of a server through a proxy."""
    return make_url(url).set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False)


class Clients:
    """Clients that send one request after the other."""

    def __init__(self, address: str, path: str) -> None:
        self._address, self._path = address, path
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._answers: list[tuple[float, float, int]] = []  # when it was sent, how long it took, the status
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx2.Client(base_url=self._address, timeout=MOST_SECONDS) as client:
            while not self._ended.wait(0.02):
                began = time.monotonic()
                try:
                    status = client.get(self._path).status_code
                except httpx2.TimeoutException:
                    status = 0
                with self._lock:
                    self._answers.append((began, time.monotonic() - began, status))

    def between(self, start: float, end: float) -> dict[str, Any]:
        """Return how long the requests took that were sent in a span."""
        with self._lock:
            found = [(took, status) for began, took, status in self._answers if start <= began < end]
        took = [each for each, _ in found]
        return {
            "requests": len(found),
            "statuses": {str(status): sum(s == status for _, s in found) for status in sorted({s for _, s in found})},
            "p50_ms": round(1_000 * statistics.median(took), 1),
            "p95_ms": round(1_000 * statistics.quantiles(took, n=20, method="inclusive")[-1], 1)
            if len(took) > 1
            else None,
            "worst_ms": round(1_000 * max(took), 1),
            "longer_than_a_second": sum(each > 1 for each in took),
        }


def phases(address: str, path: str, hang: Callable[[], None], heal: Callable[[], None]) -> dict[str, Any]:
    """Send requests before, during and after a hang. What was sent during one phase may be answered in the next."""
    with Clients(address, path) as clients:
        time.sleep(2.0)  # everything is loaded
        before = time.monotonic()
        time.sleep(PHASE_SECONDS)
        hung = time.monotonic()
        hang()
        time.sleep(HANG_SECONDS)
        healed = time.monotonic()
        heal()
        time.sleep(PHASE_SECONDS)
        end = time.monotonic()
    return {
        "before": clients.between(before, hung - 0.5),
        "hang": clients.between(hung - 0.5, healed),
        "after": clients.between(healed, end),
    }


def measure(folder: Path) -> dict[str, Any]:
    """Measure both hangs with the code of this process."""
    found: dict[str, Any] = {}
    with breakable_services(folder / "services") as running:
        primary_url = running.database_url
        engine = make_engine(primary_url, pool_size=40)
        upgrade(engine)
        archive = ArchiveModel(engine, images_of_each=IMAGES_OF_EACH)
        archive.record(0, list(archive.facts))
        settings = Settings(
            data_dir=folder / "data",
            database_url=primary_url,
            broker_url=running.broker_url,
            index_url=(folder / "index").as_uri(),
            rate_limit=0,
        )
        builder = IndexBuilder(engine, FolderStorage(folder / "index"), folder / "builder-cache", min_rows=1)
        builder.publish_new(archive.generations[0], force=True)
        with standby_of(primary_url, folder / "standby") as url, tcp_proxy(socket_of(url)) as network:
            far = make_engine(through(url, network), pool_size=40)
            catch_up(engine, far)
            services = Services(settings, engine, None, is_reachable=False, search_engine=far)
            with serving(services) as address:
                found["standby"] = phases(address, "/v1/search?tag=dog", network.fall_silent, network.heal)
            far.dispose()
        with tcp_proxy(socket_of(primary_url)) as network:
            far = make_engine(through(primary_url, network), pool_size=40)
            with serving(Services(settings, far, None, is_reachable=False)) as address:
                found["database"] = phases(address, "/v1/jobs", network.fall_silent, network.heal)
            far.dispose()
        engine.dispose()
    return found


def main() -> None:
    """Measure, and write the report."""
    parser = options(__doc__)
    parser.add_argument("--against", type=Path, help="another checkout")
    chosen = parser.parse_args()
    report = begin(clients=CLIENTS, images=3 * IMAGES_OF_EACH, hang_seconds=HANG_SECONDS)
    checkouts = {"now": Path(__file__).parents[1]}
    if chosen.against:
        checkouts["before"] = chosen.against.resolve()
    with tempfile.TemporaryDirectory() as kept:
        for name, checkout in checkouts.items():
            command = [sys.executable, __file__, "measure-only", str(Path(kept, name))]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
            report[name] = json.loads(done.stdout.splitlines()[-1])
    write(chosen, "standby", report)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure-only"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        main()

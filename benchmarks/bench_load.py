"""How the web server answers many people at once: real PostgreSQL, real index, real HTTP, made-up images.

    python -m benchmarks.bench_load --rows 1000000 --data /tmp/load --against ../older-checkout

Some thousand images answer one client, and a million answer one and many. With ``--against``, ``ramq web`` of another
checkout serves the same data, and the two are asked in turns: what became faster is a ratio of one run.

``ramq web`` runs in a process of its own, as it does for people; the generator speaks to it over loopback with
connections that are kept. Every client asks again as soon as it is answered, so that milliseconds are those of a busy
server. First each kind of request is measured alone, then all of them mixed as a person's clicks make them: a search
brings a page, and with it the thumbnails of its hits. ``inside_ms`` is the mean time that the server itself spent on
the search, by its metrics. Generator and database share the machine with the server. ``cpu_ms`` says how much time of a
core each of them took for a request, which depends less on what else the machine does than requests per second.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import urllib3

from benchmarks.load_data import filled
from benchmarks.load_generator import MIX, Generator, Tally, table, together
from benchmarks.report import begin, options, write
from ramq.embedded.process import spawn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from benchmarks.load_data import Data
    from ramq.embedded import EmbeddedServices

HERE = Path(__file__).parents[1]
MIXED_SHARE = 4
"""The mixed run takes so many times as long as one kind alone."""


@contextmanager
def serving(
    services: EmbeddedServices, folder: Path, *, checkout: Path = HERE, name: str = "web"
) -> Iterator[tuple[str, psutil.Process]]:
    """Run ``ramq web`` of a checkout on what was filled; give its address and its process.

    What it keeps is in ``folder / name``.
    """
    log = folder / f"{name}.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAMQ_")},
        "RAMQ_DATA_DIR": str(folder / name),
        "PYTHONPATH": str(checkout),
        "RAMQ_DATABASE_URL": services.database_url,
        "RAMQ_BROKER_URL": services.broker_url,
        "RAMQ_INDEX_URL": (folder / "index").as_uri(),
        "RAMQ_RATE_LIMIT": "0",
        "COLUMNS": "200",
    }
    process = spawn(
        [sys.executable, "-m", "ramq.cli.main", "web", "--port", "0"],
        cwd=checkout,
        log=log,
        stop_signal=signal.SIGTERM,
        env=environment,
    )
    try:
        yield address_in(log, lambda: process.poll() is None), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def door(url: str) -> Callable[[str], None]:
    """Return what asks a server for a path, on a connection that is kept, and stops if the answer is an error."""
    pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=60)

    def ask(path: str) -> None:
        answer = pool.request("GET", f"{url.rstrip('/')}{path}")
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}: {answer.data[:500]!r}")

    return ask


def address_in(log: Path, is_alive: Callable[[], bool]) -> str:
    while is_alive():
        if found := re.search(r"http://\S+", log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.05)
    raise SystemExit(f"ramq web did not start: {log.read_text(encoding='utf-8')}")


class Version:
    """One version of the server, and what it did.

    Args:
        url: its address.
        server: its process.
        data: what it serves.
        rows: number of its images.
    """

    def __init__(self, url: str, server: psutil.Process, data: Data, rows: int) -> None:
        self._generator = Generator(url, rows, data.pictures)
        self._server = server
        self._services = data.services
        self._inside: dict[str, list[float]] = {}
        self._tallies: dict[str, Tally] = {}
        self._mixed: dict[str, Tally] = {}
        self._used: dict[str, dict[str, float]] = {}
        self.kinds = list(self._generator.kinds)
        self._generator.check()

    def alone(self, kind: str, clients: int, seconds: float, seed: int) -> None:
        """Ask for one kind."""
        before = self._generator.inside()
        with self._using(kind):
            found = self._generator.ask({kind: 1}, clients, seconds, seed)[kind]
        inside = self._inside.setdefault(kind, [0.0, 0.0])
        for place, (now, then) in enumerate(zip(self._generator.inside(), before, strict=True)):
            inside[place] += now - then
        _join(self._tallies, {kind: found})

    def mixed(self, clients: int, seconds: float, seed: int) -> None:
        """Ask for all kinds, as often as ``MIX`` says."""
        with self._using("mixed"):
            found = self._generator.ask(MIX, clients, seconds, seed)
        _join(self._mixed, found)

    def report(self) -> dict[str, Any]:
        """Return the figures of everything that was asked so far."""
        alone = {}
        for kind, tally in self._tallies.items():
            seconds, searches = self._inside[kind]
            alone[kind] = {
                **tally.report(),
                **({"inside_ms": round(1000 * seconds / searches, 2)} if searches else {}),
                "cpu_ms": self._each(kind, tally),
            }
        everything = together(self._mixed)
        return {
            "server_own_mb": round(self._server.memory_full_info().uss / 2**20, 1),
            "alone": alone,
            "mixed": {
                "all": {**everything.report(), "cpu_ms": self._each("mixed", everything)},
                **{kind: tally.report() for kind, tally in self._mixed.items()},
            },
        }

    def _each(self, kind: str, tally: Tally) -> dict[str, float]:
        """Return the milliseconds of a core that each part took for a request."""
        return {name: round(1000 * used / max(1, len(tally.seconds)), 2) for name, used in self._used[kind].items()}

    @contextmanager
    def _using(self, kind: str) -> Iterator[None]:
        """Add the seconds of a core that each part takes during the block to those of a kind."""
        before = self._parts()
        yield
        total = self._used.setdefault(kind, {})
        for name, now in self._parts().items():
            total[name] = total.get(name, 0) + now - before[name]

    def _parts(self) -> dict[str, float]:
        """Return the seconds of a core that each part has taken so far."""
        services = psutil.Process(self._services.supervisor_pid).children(recursive=True)
        database = [process for process in services if process.name().startswith("postgres")]
        return {
            "server": _seconds_of([self._server, *self._server.children(recursive=True)]),
            "database": _seconds_of(database),
            "generator": time.process_time(),
        }


def _seconds_of(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile, and its parent has its time
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _join(tallies: dict[str, Tally], further: dict[str, Tally]) -> None:
    for kind, tally in further.items():
        known = tallies.setdefault(kind, Tally())
        known.add(tally)
        known.wall_seconds += tally.wall_seconds


def measure(chosen: argparse.Namespace, rows: int, clients: list[int], seconds: float) -> dict[str, Any]:
    """Serve so many images, ask from so many clients, the versions in turns; print tables and return the figures."""
    checkouts = {"after": HERE, **({"before": chosen.against.absolute()} if chosen.against else {})}
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        data = stack.enter_context(filled(rows, chosen.data))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "index").symlink_to(data.folder / "index")
        servers = {
            name: stack.enter_context(serving(data.services, folder, checkout=checkout, name=name))
            for name, checkout in checkouts.items()
        }
        for count in clients:
            versions = {name: Version(*server, data, rows) for name, server in servers.items()}
            for turn in range(chosen.turns):
                _take_turn(versions, count, seconds / chosen.turns, seed=turn)
            figures = {name: version.report() for name, version in versions.items()}
            found[str(count)] = figures
            for name, one in figures.items():
                print(f"{name}: {rows:,} images, {count} clients, one kind at a time\n{table(one['alone'])}\n")
                print(f"mixed\n{table(one['mixed'])}\n", flush=True)
            if "before" in figures:
                print(compared(f"{rows:,} images, {count} clients", **figures), flush=True)
    return {"rows": rows, "clients": found}


def _take_turn(versions: dict[str, Version], clients: int, seconds: float, seed: int) -> None:
    for kind in next(iter(versions.values())).kinds:
        for version in versions.values():
            version.alone(kind, clients, seconds, seed)
    for version in versions.values():
        version.mixed(clients, MIXED_SHARE * seconds, seed)


def compared(title: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return a line for each kind: requests per second and milliseconds, before and after."""
    lines = [f"{title:32}{'before':>20}{'after':>20}{'ratio':>10}"]
    kinds = {**after["alone"], "mixed": after["mixed"]["all"]}
    for kind, now in kinds.items():
        then = before["mixed"]["all"] if kind == "mixed" else before["alone"][kind]
        cells = (f"{one['per_second']:,.0f}/s {one['p50_ms']:,.1f} ms" for one in (then, now))
        ratio = now["per_second"] / then["per_second"]
        lines.append(f"{kind:32}" + "".join(f"{cell:>20}" for cell in cells) + f"{ratio:>10.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure a server over few images and over many, here and in another checkout; print tables and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images in the database")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8], help="that ask at the same time")
    parser.add_argument("--seconds", type=float, default=4, help="for each kind, version and number of clients")
    parser.add_argument("--turns", type=int, default=2, help="so often the versions take turns in these seconds")
    parser.add_argument("--idle-rows", type=int, default=5_000, help="images that one client asks for; 0: leave it out")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version, with the same tables")
    parser.add_argument("--data", type=Path, help="where databases are kept for the next run; default: nowhere")
    chosen = parser.parse_args()
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30))
    if chosen.idle_rows:
        report["idle"] = measure(chosen, chosen.idle_rows, [1], chosen.seconds)
    report["busy"] = measure(chosen, chosen.rows, chosen.clients, chosen.seconds)
    write(chosen, "load", report)


if __name__ == "__main__":
    main()

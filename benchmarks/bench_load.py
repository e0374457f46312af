"""How the web server answers many people at once: real PostgreSQL, real index, real HTTP, made-up images.

    python -m benchmarks.bench_load --rows 1000000 --against ../older-checkout

First an idle server over some thousand images answers one client, then a large one answers many. With ``--against`` the
same is then measured of another checkout, with its own code, on this machine: what became faster is a ratio of one run.

``ramq web`` runs in a process of its own, as it does for people; the generator speaks to it over loopback with
connections that are kept. Every client asks again as soon as it is answered, so that milliseconds are those of a busy
server. First each kind of request is measured alone, then all of them mixed as a person's clicks make them: a search
brings a page, and with it the thumbnails of its hits. ``inside_ms`` is the mean time that the server itself spent on
the search, by its metrics. Generator and database share the machine with the server.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import urllib3

from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker, load, prepare
from ram_core import load_text_encoder
from ramq.demo_photos import installed_photographs
from ramq.embedded import embedded
from ramq.embedded.process import spawn
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import MAX_SEGMENT_ROWS, IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.migrate import upgrade
from storage.objects.base import S3Options
from storage.objects.source import open_store, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine

    from ramq.embedded import EmbeddedServices

HERE = Path(__file__).parents[1]
PICTURES = 240
"""Images whose file exists, so that thumbnails are made of photographs."""

THUMBNAIL_BYTES = 1_000
"""Anything smaller is no photograph."""

WORDS = ("red", "old", "small", "wet", "wooden", "a dog on", "people at", "a car by", "the sea and", "food on")
PLACES = ("a table", "a street", "the beach", "grass", "a kitchen", "snow", "a bridge", "a tree", "a window", "a boat")
MIX = {"page: text": 2, "page: tag": 2, "API: text": 1, "API: facets": 1, "API: image": 2, "thumbnail": 12}
"""How often each kind is asked for in the mixed run."""


@dataclass
class Tally:
    """What became of some requests.

    Attributes:
        seconds: each answer took, those of errors too.
        statuses: how often each came; 0 is no answer.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def report(self, wall_seconds: float) -> dict[str, float]:
        """Return the figures of requests that were made in so many seconds."""
        middle, late = np.percentile(self.seconds, (50, 95))
        return {
            "requests": len(self.seconds),
            "errors": len(self.seconds) - self.statuses[200],
            "per_second": round(len(self.seconds) / wall_seconds, 1),
            "p50_ms": round(1000 * middle, 2),
            "p95_ms": round(1000 * late, 2),
            "slowest_ms": round(1000 * max(self.seconds), 2),
        }


class Generator:
    """Asks one server from several threads.

    Args:
        url: of the server.
        rows: images in the database, numbered from 1.
        pictures: ids of images that have a file.
        clients: how many ask at the same time.
    """

    def __init__(self, url: str, rows: int, pictures: Sequence[int], clients: int) -> None:
        self._url = url.rstrip("/")
        self._rows, self._pictures, self._clients = rows, pictures, clients
        self._pool = urllib3.PoolManager(maxsize=clients, retries=False, timeout=60)
        self.kinds: dict[str, Callable[[random.Random], str]] = {
            "health": lambda _: "/healthz",
            "API: tag": lambda rng: f"/v1/search?tag={_tag(rng)}",
            "API: text": lambda rng: f"/v1/search?q={_text(rng)}&relevance=0",
            "API: text and tag": lambda rng: f"/v1/search?q={_text(rng)}&relevance=0&tag={_tag(rng)}",
            "API: facets": lambda rng: f"/v1/tags?tag={_tag(rng)}",
            "API: image": lambda rng: f"/v1/images/{rng.randint(1, self._rows)}",
            "page: tag": lambda rng: f"/?tag={_tag(rng)}",
            "page: text": lambda rng: f"/?q={_text(rng)}&relevance=0",
            "page: image": lambda rng: f"/images/{rng.randint(1, self._rows)}",
            "thumbnail": lambda rng: f"/v1/images/{rng.choice(self._pictures)}/thumbnail",
        }

    def check(self) -> None:
        """Ask once for everything, and stop if an answer is not what it should be: an error is quick to measure."""
        rng = random.Random(0)
        for kind, path in self.kinds.items():
            answer = self._pool.request("GET", self._url + path(rng))
            is_empty = len(answer.data) < THUMBNAIL_BYTES if kind == "thumbnail" else b'"items":[]' in answer.data
            if answer.status != 200 or is_empty or (kind.startswith("page") and b"/images/" not in answer.data):
                raise SystemExit(f"{kind}: {answer.status}: {answer.data[:500]!r}")

    def alone(self, kind: str, requests: int) -> dict[str, float]:
        """Make so many requests of one kind."""
        before = self._inside()
        (tally,), wall_seconds = self._run([kind], requests)
        seconds, count = (now - then for now, then in zip(self._inside(), before, strict=True))
        inside = {"inside_ms": round(1000 * seconds / count, 2)} if count else {}
        return tally.report(wall_seconds) | inside

    def _inside(self) -> tuple[float, float]:
        """Return how many seconds the server has spent on searches so far, and on how many."""
        text = self._pool.request("GET", f"{self._url}/metrics").data.decode()
        found = dict(re.findall(r'^ramq_search_seconds_(sum|count)\{kind="query"\} (\S+)', text, re.MULTILINE))
        return float(found.get("sum", 0)), float(found.get("count", 0))

    def mixed(self, requests: int) -> dict[str, Any]:
        """Make so many requests of all kinds, as often as ``MIX`` says."""
        kinds = [kind for kind, weight in MIX.items() for _ in range(weight)]
        tallies, wall_seconds = self._run(kinds, requests)
        names = list(dict.fromkeys(kinds))
        everything = Tally([second for tally in tallies for second in tally.seconds], Counter())
        for tally in tallies:
            everything.statuses += tally.statuses
        found = dict(zip(names, (tally.report(wall_seconds) for tally in tallies), strict=True))
        return {"all": everything.report(wall_seconds), **found}

    def _run(self, kinds: list[str], requests: int) -> tuple[list[Tally], float]:
        """Return a tally for each of the different kinds, and the seconds that all took."""
        names = list(dict.fromkeys(kinds))

        def client(number: int) -> dict[str, Tally]:
            rng = random.Random(number)
            tallies = {kind: Tally() for kind in names}
            for _ in range(requests // self._clients):
                kind = rng.choice(kinds)
                status, seconds = self._ask(self.kinds[kind](rng))
                tallies[kind].seconds.append(seconds)
                tallies[kind].statuses[status] += 1
            return tallies

        began = time.perf_counter()
        with ThreadPoolExecutor(self._clients) as threads:
            parts = list(threads.map(client, range(self._clients)))
        wall_seconds = time.perf_counter() - began
        merged = []
        for kind in names:
            tally = Tally([second for part in parts for second in part[kind].seconds])
            for part in parts:
                tally.statuses += part[kind].statuses
            merged.append(tally)
        return merged, wall_seconds

    def _ask(self, path: str) -> tuple[int, float]:
        began = time.perf_counter()
        try:
            status = self._pool.request("GET", self._url + path).status
        except urllib3.exceptions.HTTPError:
            status = 0
        return status, time.perf_counter() - began


def fill(engine: Engine, folder: Path, rows: int) -> list[int]:
    """Make a database, its index and some of its files; return the ids of the images that have one."""
    upgrade(engine)
    width = int(load_text_encoder("lite").encode(["a cat"]).shape[1])
    archive = folder / "archive"
    provenance = prepare(engine, archive.as_uri(), width)
    maker = Maker(width)
    builder = IndexBuilder(engine, FolderStorage(folder / "index"), folder / "cache")
    published = 0
    for first in range(0, rows, CHUNK):
        load(engine, maker.chunk(first // CHUNK, min(CHUNK, rows - first)), provenance)
        done = min(rows, first + CHUNK)
        if done - published + CHUNK > MAX_SEGMENT_ROWS or done == rows:
            builder.publish_new(provenance.generation_id, force=True)
            published = done
    while builder.compact(provenance.generation_id):
        pass
    pictures = _give_files(engine, archive, rows)
    with unit_of_work(engine) as session:
        driver_connection(session).execute("ANALYZE")
    return pictures


def _give_files(engine: Engine, archive: Path, rows: int) -> list[int]:
    """Put photographs where some of the keys are, and tell the database which version that is."""
    photographs = installed_photographs()
    if not photographs:
        raise SystemExit("no photographs are installed: pip install scikit-image scikit-learn")
    with unit_of_work(engine) as session:
        every = max(1, rows // PICTURES)
        found = driver_connection(session).execute("SELECT id, key FROM image WHERE id %% %s = 0", (every,)).fetchall()
        for place, (_, key) in enumerate(found):
            path = archive / key
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photographs[place % len(photographs)], path)
        store = open_store(parse_source(str(archive)), S3Options())
        versions = {info.key: info.version for page in store.pages("", None) for info in page}
        for image_id, key in found:
            driver_connection(session).execute("UPDATE image SET version = %s WHERE id = %s", (versions[key], image_id))
    return [image_id for image_id, _ in found]


@contextmanager
def serving(services: EmbeddedServices, folder: Path, checkout: Path = HERE) -> Iterator[tuple[str, psutil.Process]]:
    """Run ``ramq web``, with the code of a checkout, on what was filled; give its address and its process."""
    log = folder / "web.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAMQ_")},
        "RAMQ_DATA_DIR": str(folder / "web"),
        "RAMQ_DATABASE_URL": services.database_url,
        "RAMQ_BROKER_URL": services.broker_url,
        "RAMQ_INDEX_URL": (folder / "index").as_uri(),
        "RAMQ_RATE_LIMIT": "0",
        "PYTHONPATH": str(checkout),
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


def _tag(rng: random.Random) -> str:
    return f"tag%20{rng.randint(0, 1500)}"  # from frequent to rare


def _text(rng: random.Random) -> str:
    return f"{rng.choice(WORDS)} {rng.choice(PLACES)}".replace(" ", "+")


def table(found: dict[str, dict[str, float]]) -> str:
    """Return a line for each kind."""
    head = f"{'':20}{'requests':>10}{'errors':>8}{'per s':>9}{'p50 ms':>10}{'p95 ms':>10}"
    return "\n".join(
        [head]
        + [
            f"{kind:20}{one['requests']:>10,}{one['errors']:>8,}{one['per_second']:>9,.1f}"
            f"{one['p50_ms']:>10,.2f}{one['p95_ms']:>10,.2f}"
            for kind, one in found.items()
        ]
    )


def measure(rows: int, clients: int, requests: int, parent: Path | None) -> dict[str, Any]:
    """Fill a database, serve it, ask it from so many clients; print tables and return the figures."""
    with tempfile.TemporaryDirectory(dir=parent) as name, embedded(Path(name) / "services") as services:
        folder = Path(name)
        engine = make_engine(services.database_url)
        began = time.perf_counter()
        pictures = fill(engine, folder, rows)
        engine.dispose()
        filled_seconds = round(time.perf_counter() - began, 1)
        with serving(services, folder) as (url, server):
            generator = Generator(url, rows, pictures, clients)
            generator.check()
            alone = {kind: generator.alone(kind, requests) for kind in generator.kinds}
            mixed = generator.mixed(requests * 4)
            memory_mb = round(server.memory_full_info().uss / 2**20, 1)
    print(
        f"{rows:,} images, {clients} clients, one kind at a time\n{table(alone)}\n\nmixed\n{table(mixed)}", flush=True
    )
    return {
        "rows": rows,
        "clients": clients,
        "filled_seconds": filled_seconds,
        "server_own_mb": memory_mb,
        "alone": alone,
        "mixed": mixed,
    }


def measure_other(checkout: Path, rows: int, clients: int, requests: int, parent: Path | None) -> dict[str, Any]:
    """Let another checkout measure itself, with its own code, on this machine."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        numbers = {"--rows": rows, "--clients": clients, "--requests": requests}
        words = [str(word) for pair in numbers.items() for word in pair]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_load", *words, "--output", name],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout.absolute())},
            check=True,
        )
        (file,) = Path(name).glob("load-*.json")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("rows", "clients", "server_own_mb", "alone", "mixed")}


def compared(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return a line for each kind: requests per second and milliseconds, before and after."""
    lines = [f"{after['rows']:,} images, {after['clients']} clients{'before':>23}{'after':>20}{'ratio':>10}"]
    kinds = {**after["alone"], "mixed": after["mixed"]["all"]}
    for kind, now in kinds.items():
        then = before["mixed"]["all"] if kind == "mixed" else before["alone"][kind]
        cells = (f"{one['per_second']:,.0f}/s {one['p50_ms']:,.1f} ms" for one in (then, now))
        ratio = now["per_second"] / then["per_second"]
        lines.append(f"{kind:32}" + "".join(f"{cell:>20}" for cell in cells) + f"{ratio:>10.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure an idle server and a busy one, here and in another checkout; print tables and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images in the database")
    parser.add_argument("--clients", type=int, default=8, help="that ask at the same time")
    parser.add_argument("--requests", type=int, default=2_000, help="of each kind")
    parser.add_argument("--idle-rows", type=int, default=5_000, help="images that one client asks for; 0: leave it out")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version to measure in the same run")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30))
    sizes = {"busy": (chosen.rows, chosen.clients, chosen.requests)}
    if chosen.idle_rows:
        sizes = {"idle": (chosen.idle_rows, 1, max(100, chosen.requests // 10)), **sizes}
    for name, size in sizes.items():
        report[name] = {"after": measure(*size, chosen.folder)}
        if chosen.against is not None:
            report[name]["before"] = measure_other(chosen.against, *size, chosen.folder)
            print(compared(report[name]["before"], report[name]["after"]), flush=True)
    write(chosen, "load", report)


if __name__ == "__main__":
    main()

"""A job under misfortune against the same job in peace: does anything get lost, and what does it cost?

Worker processes archive made-up pictures from a real S3 server while a nemesis, drawn from a printed seed, kills
workers, stops them past their lease, empties the broker, kills Postgres and makes the S3 server answer 503, cut bodies
short or reset connections. At the end the books must balance and every record must hold what its picture's bytes say.

    python -m benchmarks.chaos --images 10000 --workers 3 --seed 1

The model is the null model of the tests: what is measured is the machine room. Exits 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ramq.embedded import embedded
from ramq.kit.errors import RamqError
from ramq.settings import Settings
from ramq.wiring import broker_client
from storage.database import make_engine
from storage.migrate import upgrade
from tests.acceptance.test_survival import check_results, picture
from tests.services.crew import Crew, check_books, client_services, running_crew
from tests.services.fault_proxy import Cut, FaultProxy, Reset, Status, fault_proxy
from tests.services.s3 import s3_server

if TYPE_CHECKING:
    import subprocess

    from ramq.embedded import EmbeddedServices
    from ramq.wiring import Services
    from storage.views import JobView

LEASE_SECONDS = 4
MODEL_SECONDS = 0.04  # a batch of 16, so that a job is long enough to be disturbed
PAUSE_SECONDS = (1.0, 3.0)


@dataclass
class Nemesis:
    """Draws misfortunes from a seed and counts them."""

    crew: Crew
    services: EmbeddedServices
    proxy: FaultProxy
    random: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    asleep: list[tuple[float, subprocess.Popen[bytes]]] = field(default_factory=list)

    def strike(self) -> None:
        """Do one thing that must not matter."""
        kind = self.random.choice(("kill", "kill", "sleep", "flush", "postgres", "503", "cut", "reset", "doubles"))
        getattr(self, f"_{kind}" if kind != "503" else "_storm")()
        self.faults[kind] += 1

    def tend(self) -> None:
        """Wake sleepers whose time has come, and replace the dead as a supervisor would."""
        now = time.monotonic()
        for due, process in list(self.asleep):
            if now > due:
                process.send_signal(signal.SIGCONT)
                self.asleep.remove((due, process))
        for process in list(self.crew.processes):
            if process.poll() is not None:
                self.crew.processes.remove(process)
                self.crew.start(1)

    def rest(self) -> None:
        """Stop being a nuisance: wake everyone and let every request through."""
        for _, process in self.asleep:
            process.send_signal(signal.SIGCONT)
        self.asleep.clear()
        self.proxy.heal()

    def _kill(self) -> None:
        self.random.choice(self.crew.processes).kill()

    def _sleep(self) -> None:
        process = self.random.choice(self.crew.processes)
        process.send_signal(signal.SIGSTOP)
        self.asleep.append((time.monotonic() + 2 * LEASE_SECONDS, process))

    def _flush(self) -> None:
        broker_client(self.services.broker_url).flushall()

    def _postgres(self) -> None:
        for process in psutil.process_iter(["name", "ppid"]):
            if process.info["ppid"] == self.services.keeper_pid and process.info["name"] == "postgres":
                process.kill()  # the keeper starts it again

    def _storm(self) -> None:
        self._for_a_while(Status(503))

    def _cut(self) -> None:
        self._for_a_while(Cut(200))

    def _reset(self) -> None:
        self._for_a_while(Reset())

    def _for_a_while(self, fault: Status | Cut | Reset) -> None:
        self.proxy.fail(fault)
        timer = threading.Timer(self.random.uniform(0.5, 2.0), self.proxy.heal)
        timer.daemon = True
        timer.start()

    def _doubles(self) -> None:
        broker = broker_client(self.services.broker_url)
        for key in ("ramq:ramq.lite",):
            waiting = broker.lrange(key, 0, -1)
            for message in waiting * 5:  # type: ignore[operator,union-attr]  # typed for both kinds of client
                broker.lpush(key, message)


def follow(services: Services, job_id: int, crew: Crew, nemesis: Nemesis | None, limit_seconds: float) -> JobView:
    """Return the finished job; its books must balance whenever they can be read."""
    deadline = time.monotonic() + limit_seconds
    next_strike = time.monotonic() + PAUSE_SECONDS[1]
    while True:
        if nemesis is not None:
            nemesis.tend()
            if time.monotonic() > next_strike:
                nemesis.strike()
                next_strike = time.monotonic() + nemesis.random.uniform(*PAUSE_SECONDS)
        try:
            view = services.jobs.get(job_id)
        except RamqError:
            time.sleep(0.2)  # Postgres is on its way back
            continue
        assert view.listed == view.done + view.skipped + view.failed + view.pending, view
        if view.is_over:
            return view
        assert time.monotonic() < deadline, f"not done in time: {view}\n{crew.log()[-3000:]}"
        time.sleep(0.1)


def run(images: int, workers: int, seed: int | None, limit_seconds: float = 900.0) -> dict[str, object]:
    """Archive ``images`` pictures with ``workers`` processes; under a nemesis if there is a seed. Return figures.

    Raises:
        AssertionError: something was lost, doubled or wrong.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramq-chaos-")))
        running = stack.enter_context(embedded(folder / "data"))
        engine = make_engine(running.database_url)
        upgrade(engine)
        engine.dispose()
        server = stack.enter_context(s3_server(folder))
        os.environ.update(server.environment)
        files = {f"{number:06}.png": picture(number) for number in range(images)}
        (folder / "files").mkdir()
        for name, body in files.items():
            (folder / "files" / name).write_bytes(body)
        bucket = server.make_bucket()
        server.upload_folder(folder / "files", bucket)
        shutil.rmtree(folder / "files")
        proxy = stack.enter_context(fault_proxy(server.endpoint_url))
        settings = Settings(
            data_dir=folder / "data",
            database_url=running.database_url,
            broker_url=running.broker_url,
            s3_endpoint_url=proxy.url,
        )
        counted = folder / "recognised"
        environment = {
            "RAMQ_S3_ENDPOINT_URL": proxy.url,
            "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
            "RAMQ_SHARD_SIZE": "128",
            "NULL_MODEL_SECONDS": str(MODEL_SECONDS),
            "NULL_MODEL_COUNT": str(counted),
        }
        services = stack.enter_context(client_services(settings))
        crew = stack.enter_context(running_crew(settings, folder, **environment))
        crew.start(workers)
        job = services.jobs.create(f"s3://{bucket}")
        nemesis = None if seed is None else Nemesis(crew, running, proxy, random.Random(seed))
        while services.jobs.get(job.id).done == 0:
            time.sleep(0.05)  # the workers' start is not what is measured
        began = time.monotonic()
        view = follow(services, job.id, crew, nemesis, limit_seconds)
        seconds = time.monotonic() - began
        if nemesis is not None:
            nemesis.rest()
        assert (view.state, view.listed, view.done, view.failed) == ("done", images, images, 0), view
        check_books(services, job.id)
        check_results(services, files)
        inferred = counted.stat().st_size
        return {
            "images": images,
            "workers": workers,
            "seed": seed,
            "seconds": round(seconds, 2),
            "images_per_second": round(images / seconds, 1),
            "inferred": inferred,
            "repeated_percent": round(100 * (inferred - images) / images, 2),
            "faults": dict(nemesis.faults) if nemesis else {},
        }


def main() -> int:
    """Run the comparison, print it and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    calm = run(options.images, options.workers, None)
    print("calm: ", calm, flush=True)
    rough = run(options.images, options.workers, options.seed)
    print("chaos:", rough, flush=True)
    ratio = float(str(rough["seconds"])) / float(str(calm["seconds"]))
    print(f"nothing lost, nothing twice; {sum(rough['faults'].values())} faults; {ratio:.2f} times the calm run's time")  # type: ignore[attr-defined]
    if options.out:
        figures = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "calm": calm,
            "chaos": rough,
            "time_ratio": round(ratio, 3),
        }
        options.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

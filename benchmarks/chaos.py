"""A job under faults against the same job in peace: does anything get lost, and what does it cost?

Worker processes archive made-up pictures from a real S3 server while a fault_injector, drawn from a printed seed, kills
workers, stops them past their lease, empties the broker and restarts it empty, crashes PostgreSQL, doubles messages,
and makes the S3 server answer 503, cut bodies short, reset connections or vanish. At the end the counters must balance,
every record must hold what its picture's bytes say, and the index must hold what the table holds.

    python -m benchmarks.chaos --images 20000 --workers 3 --faults 40 --seed 1
    python -m benchmarks.chaos --soak --minutes 10 --images 1000000

The model is the null model of the tests: what is measured is the workers. Exits 1 if anything is wrong.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fault_injector import FaultInjector
from benchmarks.report import begin, options, write
from benchmarks.soak import soak
from ramq.settings import Settings
from storage.database import make_engine
from storage.errors import RamqError
from storage.migrate import upgrade
from tests.services.breakable import BreakableServices, breakable_services
from tests.services.checker import check_job, pictures
from tests.services.fault_proxy import FaultProxy, fault_proxy
from tests.services.fleet import Fleet, client_services, running_fleet
from tests.services.postgres import PostgresServer
from tests.services.s3 import s3_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from ramq.wiring import Services
    from storage.ledger.views import JobView

LEASE_SECONDS = 4
MODEL_SECONDS = 0.15  # a batch of 16, so that a job is long enough to be disturbed often
BATCH_SIZE = 16
LIMIT_SECONDS = 1_800.0


@dataclass(frozen=True)
class Stage:
    """What both runs share: services, and a bucket of pictures behind a proxy."""

    folder: Path
    running: BreakableServices
    proxy: FaultProxy
    bucket: str
    files: dict[str, bytes]

    def settings(self, name: str) -> Settings:
        """Of a run with a database and a data folder of its own."""
        server = PostgresServer(self.running.database_url)
        engine = make_engine(server.create_database(name))
        upgrade(engine)
        engine.dispose()
        return Settings(
            data_dir=self.folder / name,
            database_url=server.url_of(name),
            broker_url=self.running.broker_url,
            s3_endpoint_url=self.proxy.url,
        )


def follow(
    services: Services,
    job_id: int,
    fleet: Fleet,
    fault_injector: FaultInjector | None,
    most_faults: int,
    pause: Callable[[], float],
) -> JobView:
    """Return the finished job; its counters must balance whenever they can be read."""
    began = time.monotonic()
    next_strike = began + pause()
    while True:
        if fault_injector is not None:
            fault_injector.tend()
            if time.monotonic() > next_strike and sum(fault_injector.faults.values()) < most_faults:
                fault_injector.strike()
                next_strike = time.monotonic() + pause()
        try:
            view = services.jobs.get(job_id)
        except RamqError:
            time.sleep(0.2)  # PostgreSQL is on its way back
            continue
        assert view.listed == view.done + view.skipped + view.failed + view.pending, view
        if view.is_over:
            return view
        assert time.monotonic() < began + LIMIT_SECONDS, f"not done in time: {view}\n{fleet.log()[-3000:]}"
        time.sleep(0.1)


def run(
    stage: Stage, workers: int, seed: int | None, most_faults: int = 0, seconds_between: float = 1.0
) -> dict[str, Any]:
    """Archive the stage's pictures with ``workers`` processes; with a seed, under faults. Return figures.

    Raises:
        AssertionError: something was lost, doubled or wrong.
    """
    name = "calm" if seed is None else "chaos"
    settings = stage.settings(name)
    counted = stage.folder / f"recognised-{name}"
    environment: dict[str, Any] = {
        "RAMQ_S3_ENDPOINT_URL": stage.proxy.url,
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
        "RAMQ_SHARD_SIZE": "128",
        "RAMQ_BATCH_SIZE": str(BATCH_SIZE),
        "NULL_MODEL_SECONDS": str(MODEL_SECONDS),
        "NULL_MODEL_COUNT": str(counted),
    }
    chance = random.Random(seed)
    with client_services(settings) as services, running_fleet(settings, settings.data_dir, **environment) as fleet:
        settings.data_dir.mkdir(exist_ok=True)
        fleet.start(workers)
        job = services.jobs.create(f"s3://{stage.bucket}")
        fault_injector = None
        if seed is not None:
            fault_injector = FaultInjector(fleet, stage.running, stage.proxy, chance, sleep_seconds=2 * LEASE_SECONDS)
        while services.jobs.get(job.id).done == 0:
            time.sleep(0.05)  # the workers' start is not what is measured
        began = time.monotonic()
        follow(services, job.id, fleet, fault_injector, most_faults, lambda: seconds_between * chance.uniform(0.5, 1.5))
        seconds = time.monotonic() - began
        if fault_injector is not None:
            fault_injector.rest()
        check_job(services, job.id, stage.files)
        report = services.jobs.report(job.id)
    images, inferred = len(stage.files), counted.stat().st_size
    return {
        "images": images,
        "workers": workers,
        "seed": seed,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1),
        "inferred": inferred,
        "repeated_percent": round(100 * (inferred - images) / images, 2),
        "faults": dict(fault_injector.faults) if fault_injector else {},
        "outcomes_sha256": report.sha256,
    }


def compare(images: int, workers: int, faults: int, seed: int) -> dict[str, Any]:
    """Run in peace, then under ``faults`` faults. Return both runs' figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramq-chaos-")))
        running = stack.enter_context(breakable_services(folder / "services"))
        server = stack.enter_context(s3_server(folder))
        os.environ.update(server.environment)
        files, bucket = pictures(images), server.make_bucket()
        server.put(bucket, files)
        proxy = stack.enter_context(fault_proxy(server.endpoint_url))
        stage = Stage(folder, running, proxy, bucket, files)
        calm = run(stage, workers, None)
        print("calm: ", calm, flush=True)
        rough = run(stage, workers, seed, faults, seconds_between=float(calm["seconds"]) / faults)
        print("chaos:", rough, flush=True)
    assert rough["outcomes_sha256"] == calm["outcomes_sha256"]
    struck = sum(rough["faults"].values())
    ratio = float(rough["seconds"]) / float(calm["seconds"])
    print(
        f"nothing lost, nothing twice, the same outcomes; {struck} faults; {rough['repeated_percent']} % recognised "
        f"again; {ratio:.2f} times the calm run's time"
    )
    return {"calm": calm, "chaos": rough, "faults": struck, "time_ratio": round(ratio, 3)}


def main() -> None:
    """Run the comparison or the soak, print it and write a file."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--faults", type=int, default=40, help="spread over the time of the calm run")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--soak", action="store_true", help="one long run on an archive that lies nowhere")
    parser.add_argument("--minutes", type=float, default=10.0, help="of a soak, at most")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    report = begin()
    if chosen.soak:
        figures = soak(chosen.images, chosen.workers, chosen.minutes, chosen.seed)
        print(json.dumps(figures, indent=1))
        write(chosen, "soak", report | figures)
    else:
        figures = compare(chosen.images, chosen.workers, chosen.faults, chosen.seed)
        write(chosen, f"chaos-{chosen.faults}-faults", report | figures)


if __name__ == "__main__":
    main()

"""How throughput grows with workers, what they use, what they wait for, and what share of the time is not the model's.

    python -m benchmarks.bench_throughput --against ../older-checkout

Three parts, each of which may be left out:

* ``ledger``: 1, 2, 4 and 8 processes only write results through the ledger (``benchmarks.ledger_rate``).
* ``null``: 1, 2, 4 and 8 workers with a model that answers at once share a job on a folder of small pictures.
* ``lite``: one worker with ``lite`` archives real photographs. Of the time that the job runs, how much does the model
  not work?

The services share the cores with the workers. Therefore the processor seconds of each kind of process are counted, and
with them what the cores could do at most (``bound_images_per_second``): a rate below it is waiting, the rest is work.
With ``--against``, another checkout takes turns with this one.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.copies import another
from benchmarks.ledger_rate import figures, fill, servers, write_alone
from benchmarks.processor import measured
from benchmarks.report import begin, options, save, write
from ramq.demo_photos import installed_photographs
from ramq.embedded.process import spawn
from ramq.settings import Settings
from storage.migrate import upgrade
from tests.services.breakable import BreakableServices, breakable_services
from tests.services.checker import fill as fill_folder
from tests.services.fleet import Fleet, check_counters, client_services, running_fleet, wait_for
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from tests.services.fleet import Process

WORKERS = (1, 2, 4, 8)
HERE = Path(__file__).parents[1]
COPIES = 40
"""Of each photograph, so that a job with lite is long enough."""
LIMIT_SECONDS = 3_600.0


class CheckoutFleet(Fleet):
    """Null workers with the code of a checkout, each a new Python."""

    checkout = HERE

    def _start(self, environment: dict[str, str]) -> Process:
        return spawn(
            [sys.executable, "-m", "tests.services.null_worker"],
            cwd=self.checkout,
            log=self.folder / "worker.log",
            stop_signal=signal.SIGKILL,
            env={**environment, "PYTHONPATH": str(self.checkout)},
        )


@contextmanager
def fleet_of(checkout: Path, settings: Settings) -> Iterator[Fleet]:
    """Give a fleet of null workers with the code of a checkout."""
    sizes: dict[str, Any] = {"RAMQ_SHARD_SIZE": "256", "RAMQ_BATCH_SIZE": "32"}
    with running_fleet(settings, settings.data_dir, **sizes) as plain:
        fleet = CheckoutFleet(plain.folder, plain.environment, is_null=True)
        fleet.checkout = checkout
        try:
            yield fleet
        finally:
            fleet.end()


def warm_up(services: Services, fleet: Fleet, workers: int, source: Path) -> None:
    """Start workers and let them do a job."""
    fleet.start(workers)
    first = services.jobs.create(str(source))
    wait_for(services, first.id, fleet, lambda view: view.is_over, timeout=LIMIT_SECONDS)
    while sum(one.is_alive for one in services.jobs.workers()) < workers:
        time.sleep(0.1)


def run_job(services: Services, fleet: Fleet, source: Path) -> tuple[JobView, float]:
    """Return the finished job on ``source`` and its seconds."""
    began = time.monotonic()
    job = services.jobs.create(str(source))
    view = wait_for(services, job.id, fleet, lambda view: view.is_over, timeout=LIMIT_SECONDS)
    return view, time.monotonic() - began


def settings_of(running: BreakableServices, folder: Path, name: str) -> Settings:
    """Give a measurement a database and a data folder of its own."""
    (folder / name).mkdir()
    url = PostgresServer(running.database_url).create_database(name)
    return Settings(data_dir=folder / name, database_url=url, broker_url=running.broker_url)


def null_workers(
    running: BreakableServices, folder: Path, images: int, checkouts: dict[str, Path]
) -> list[dict[str, Any]]:
    """Measure workers with the null model; the checkouts take turns."""
    found: list[dict[str, Any]] = []
    fill_folder(folder / "photos", images)
    fill_folder(folder / "warm", 64)
    for workers in WORKERS:
        for name, checkout in checkouts.items():
            settings = settings_of(running, folder, f"null_{name}_{workers}")
            assert settings.database_url
            with client_services(settings) as services, fleet_of(checkout, settings) as fleet:
                upgrade(services.engine)
                warm_up(services, fleet, workers, folder / "warm")
                with measured(settings.database_url, *servers(running)) as usage:
                    view, _ = run_job(services, fleet, folder / "photos")
                assert (view.done, view.failed) == (images, 0)
                check_counters(services, view.id)
            seconds = {stage.stage: round(stage.seconds, 2) for stage in view.stages}
            active = round(images / view.active_seconds, 1)
            found.append(
                {
                    "code": name,
                    "workers": workers,
                    **figures(usage, images),
                    "images_per_active_second": active,
                    "stage_seconds": seconds,
                }
            )
            print(found[-1], flush=True)
    return found


def ledger_alone(running: BreakableServices, images: int, checkouts: dict[str, Path]) -> list[dict[str, Any]]:
    """Measure writers without anything else; the checkouts take turns."""
    found: list[dict[str, Any]] = []
    server = PostgresServer(running.database_url)
    for writers in WORKERS:
        for name, checkout in checkouts.items():
            url = server.create_database(f"ledger_{name}_{writers}")
            fill(url, images)
            found.append({"code": name, **write_alone(running, url, images, writers, 32, checkout)})
            print(found[-1], flush=True)
    return found


def lite_worker(running: BreakableServices, folder: Path) -> dict[str, Any]:
    """Measure one worker with ``lite`` on installed photographs, and the share of its time that is not the model's."""
    photographs = [path for path in installed_photographs() if path.suffix != ".npy"]
    for name, count in (("lite_warm", 1), ("lite_photos", COPIES)):
        (folder / name).mkdir()
        for number in range(count):
            for path in photographs:
                copy = folder / name / f"{number}-{path.name}"
                copy.write_bytes(another(path.read_bytes(), number if count > 1 else COPIES))
    settings = settings_of(running, folder, "lite")
    with (
        client_services(settings) as services,
        running_fleet(settings, settings.data_dir, is_null=False, OMP_NUM_THREADS=str(os.cpu_count())) as fleet,
    ):
        upgrade(services.engine)
        warm_up(services, fleet, 1, folder / "lite_warm")
        view, seconds = run_job(services, fleet, folder / "lite_photos")
        check_counters(services, view.id)
    model_seconds = next(stage.seconds for stage in view.stages if stage.stage == "infer")
    return {
        "images": view.done,
        "images_per_second": round(view.done / seconds, 2),
        "seconds": round(seconds, 2),
        "model_seconds": round(model_seconds, 2),
        "share_not_model_percent": round(100 * (1 - model_seconds / seconds), 1),
    }


def main() -> None:
    """Measure, print, write a file."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--parts", nargs="+", choices=("ledger", "null", "lite"), default=("ledger", "null", "lite"))
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version to measure in the same run")
    chosen = parser.parse_args()
    checkouts = {} if chosen.against is None else {"before": chosen.against.absolute()}
    checkouts["after"] = HERE
    report = begin()
    report["images"] = chosen.images
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramq-throughput-")))
        running = stack.enter_context(breakable_services(folder / "services"))
        if "ledger" in chosen.parts:
            report["ledger_alone"] = ledger_alone(running, chosen.images, checkouts)
            save(chosen, "throughput", report)
        if "null" in chosen.parts:
            report["null_model"] = null_workers(running, folder, chosen.images, checkouts)
            save(chosen, "throughput", report)
        if "lite" in chosen.parts:
            report["lite"] = lite_worker(running, folder)
            print(report["lite"])
    write(chosen, "throughput", report)


if __name__ == "__main__":
    main()

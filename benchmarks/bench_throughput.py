"""How throughput grows with workers, and what share of the time is not the model's.

    python -m benchmarks.bench_throughput --images 12000

One, two and three worker processes with a model that answers at once share a job on a folder of small pictures: the
workers alone, with its services on the same cores. Then one worker with ``lite`` archives real photographs: of the
time that the job runs, how much does the model not work?
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import begin, options, write
from ramq.demo_photos import installed_photographs
from ramq.settings import Settings
from storage.migrate import upgrade
from tests.services.breakable import BreakableServices, breakable_services
from tests.services.checker import fill
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from tests.services.fleet import Fleet

MOST_WORKERS = 3
COPIES = 40
"""Of each photograph, so that a job with lite is long enough."""
LIMIT_SECONDS = 3_600.0


def measure(services: Services, fleet: Fleet, workers: int, warm: Path, source: Path) -> tuple[JobView, float]:
    """Return the finished job on ``source`` and its seconds, with workers that have done ``warm`` before."""
    fleet.start(workers)
    first = services.jobs.create(str(warm))
    wait_for(services, first.id, fleet, lambda view: view.is_over, timeout=LIMIT_SECONDS)
    while sum(one.is_alive for one in services.jobs.workers()) < workers:
        time.sleep(0.1)
    began = time.monotonic()
    job = services.jobs.create(str(source))
    view = wait_for(services, job.id, fleet, lambda view: view.is_over, timeout=LIMIT_SECONDS)
    return view, time.monotonic() - began


def stages(running: BreakableServices, folder: Path, names: list[str]) -> Iterator[tuple[str, Settings]]:
    """Give each measurement a database and a data folder of its own."""
    server = PostgresServer(running.database_url)
    for name in names:
        (folder / name).mkdir()
        url = server.create_database(name)
        yield name, Settings(data_dir=folder / name, database_url=url, broker_url=running.broker_url)


def null_workers(running: BreakableServices, folder: Path, images: int) -> list[dict[str, Any]]:
    """Measure 1 to 3 workers with the null model."""
    found: list[dict[str, Any]] = []
    files, _ = fill(folder / "photos", images), fill(folder / "warm", 64)
    for _, settings in stages(running, folder, [f"null_{n + 1}" for n in range(MOST_WORKERS)]):
        workers = len(found) + 1
        with (
            client_services(settings) as services,
            running_fleet(settings, settings.data_dir, RAMQ_SHARD_SIZE="256", RAMQ_BATCH_SIZE="32") as fleet,
        ):
            upgrade(services.engine)
            view, seconds = measure(services, fleet, workers, folder / "warm", folder / "photos")
            assert (view.done, view.failed) == (len(files), 0)
            check_counters(services, view.id)
        rate = images / seconds
        speedup = rate / found[0]["images_per_second"] if found else 1.0
        found.append({"workers": workers, "images_per_second": round(rate, 1), "speedup": round(speedup, 2)})
        print(found[-1], flush=True)
    return found


def lite_worker(running: BreakableServices, folder: Path) -> dict[str, Any]:
    """Measure one worker with ``lite`` on installed photographs, and the share of its time that is not the model's."""
    photographs = [path for path in installed_photographs() if path.suffix != ".npy"]
    for name, count in (("lite_warm", 1), ("lite_photos", COPIES)):
        (folder / name).mkdir()
        for number in range(count):
            for path in photographs:
                shutil.copy(path, folder / name / f"{number}-{path.name}")
    [(_, settings)] = stages(running, folder, ["lite"])
    with (
        client_services(settings) as services,
        running_fleet(settings, settings.data_dir, is_null=False, OMP_NUM_THREADS=str(os.cpu_count())) as fleet,
    ):
        upgrade(services.engine)
        view, seconds = measure(services, fleet, 1, folder / "lite_warm", folder / "lite_photos")
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
    parser.add_argument("--without-lite", action="store_true")
    chosen = parser.parse_args()
    report = begin()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ramq-throughput-")))
        running = stack.enter_context(breakable_services(folder / "services"))
        report |= {"images": chosen.images, "null_model": null_workers(running, folder, chosen.images)}
        if not chosen.without_lite:
            report["lite"] = lite_worker(running, folder)
            print(report["lite"])
    write(chosen, "throughput", report)


if __name__ == "__main__":
    main()

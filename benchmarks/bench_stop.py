"""How long after SIGTERM has a worker given its shards back?

    python -m benchmarks.bench_stop --stops 5

One worker at a time, a real process, works on pictures of two megapixels in a folder: ``lite``, and ``ram_plus`` with
made-up weights in its tiny size. In the middle of the job it is sent SIGTERM, at a random time in a batch. Measured for
each batch size, with all settings else as they are by default:

* ``given_back``: seconds until no row of ``shard`` is leased any more;
* ``ended``: seconds until the process has ended;
* ``images_per_second``: what the job made before.
"""

from __future__ import annotations

import io
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import text

from benchmarks.report import begin, options, write
from ram_core.modeling.tiny import write_tiny_models
from ramq.embedded import embedded
from ramq.settings import Settings
from ramq.wiring import Services
from storage import migrate
from storage.database import make_engine, unit_of_work

BATCH_SIZES = {"lite": (8, 32), "ram_plus": (8, 32)}
PICTURES = 1_500
LIMIT_SECONDS = 300.0


def fill(folder: Path, count: int) -> None:
    """Write JPEGs of 1,632 x 1,224 pixels that are turned in several ways."""
    folder.mkdir()
    chance = np.random.default_rng(1)
    smooth = Image.fromarray(chance.integers(0, 256, (51, 68, 3), dtype=np.uint8)).resize((1_632, 1_224))
    bodies = []
    for turn in Image.Transpose:
        body = io.BytesIO()
        smooth.transpose(turn).resize((1_632, 1_224)).save(body, "JPEG", quality=80)
        bodies.append(body.getvalue())
    for number in range(count):
        # Bytes after the end of the picture: no two files are the same.
        (folder / f"{number:05}.jpg").write_bytes(bodies[number % len(bodies)] + number.to_bytes(4, "big"))


def scalar(services: Services, statement: str) -> Any:
    """Return the one value that a statement gives."""
    with unit_of_work(services.engine) as session:
        return session.scalar(text(statement))


def wait_until(condition: Any, worker: subprocess.Popen[bytes] | None = None) -> float:
    """Wait for a condition. Return how long it took."""
    began = time.perf_counter()
    while not condition():
        if worker is not None and worker.poll() is not None:
            raise RuntimeError(f"the worker ended with {worker.returncode}")
        if time.perf_counter() - began > LIMIT_SECONDS:
            raise TimeoutError
        time.sleep(0.01)
    return time.perf_counter() - began


def stop_once(services: Services, model: str, folder: Path, environment: dict[str, str], chance: random.Random) -> Any:
    """Start a job and a worker, stop it in the middle, and cancel the job."""
    job = services.jobs.create(str(folder), model=model)
    worker = subprocess.Popen(
        [sys.executable, "-m", "ramq.cli.main", "worker"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: services.jobs.get(job.id).done > 0, worker)
        before, began = services.jobs.get(job.id).done, time.perf_counter()
        time.sleep(chance.uniform(2, 4))
        rate = (services.jobs.get(job.id).done - before) / (time.perf_counter() - began)
        if services.jobs.get(job.id).is_over:
            raise RuntimeError("the job was over before the worker was stopped: write more pictures")
        worker.send_signal(signal.SIGTERM)
        signalled = time.perf_counter()
        wait_until(lambda: not scalar(services, "SELECT count(*) FROM shard WHERE state = 'leased'"))
        given_back = time.perf_counter() - signalled
        worker.wait(LIMIT_SECONDS)
        return given_back, time.perf_counter() - signalled, rate
    finally:
        worker.kill()
        worker.wait()
        services.jobs.cancel(job.id)
        with unit_of_work(services.engine) as session:  # the next job begins at nothing
            session.execute(text("DELETE FROM record; DELETE FROM content"))


def main() -> None:
    """Measure, and write the report."""
    parser = options(__doc__)
    parser.add_argument("--stops", type=int, default=5)
    arguments = parser.parse_args()
    report, chance, found = begin(), random.Random(1), []
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "services") as running:
        photos, models = Path(folder) / "photos", Path(folder) / "models"
        fill(photos, PICTURES)
        write_tiny_models("ram_plus", models)
        settings = Settings(
            data_dir=Path(folder) / "data", models_dir=models,
            database_url=running.database_url, broker_url=running.broker_url,
        )  # fmt: skip
        assert settings.database_url is not None
        engine = make_engine(settings.database_url)
        migrate.upgrade(engine)
        services = Services(settings, engine, settings.broker_url, is_reachable=False)
        for model, sizes in BATCH_SIZES.items():
            for size in sizes:
                environment = {
                    **os.environ,
                    "RAMQ_DATA_DIR": str(settings.data_dir), "RAMQ_MODELS_DIR": str(models),
                    "RAMQ_DATABASE_URL": running.database_url, "RAMQ_BROKER_URL": running.broker_url,
                    "RAMQ_BATCH_SIZE": str(size), "RAMQ_DEVICE": "cpu", "RAMQ_GRACE_SECONDS": "300",
                }  # fmt: skip
                stops = [stop_once(services, model, photos, environment, chance) for _ in range(arguments.stops)]
                given_back, ended, rates = zip(*stops, strict=True)
                row = {
                    "model": model if model == "lite" else f"{model}, tiny, made-up weights",
                    "batch_size": size,
                    "given_back_seconds": {"median": statistics.median(given_back), "most": max(given_back)},
                    "ended_seconds": {"median": statistics.median(ended), "most": max(ended)},
                    "images_per_second": statistics.median(rates),
                }
                found.append(row)
                write(arguments, "stop", report | {"stops": found})
        engine.dispose()


if __name__ == "__main__":
    main()

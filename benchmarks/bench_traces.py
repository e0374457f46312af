"""What do traces cost a worker? Images per second with a model that costs nothing, so that all else shows.

    python -m benchmarks.bench_traces --pictures 3000 --rounds 3

Each run is a worker process of its own on the same small pictures, as a new generation. The ways take turns:

* ``absent``: traces are off, and the SDK of OpenTelemetry cannot be imported;
* ``off``: traces are off, which is the default;
* ``1 %`` and ``100 %``: so many shards are traced and sent to a collector, which is another process;
* ``away``: all are traced, and nobody listens at the collector's address.

Of each run: images per second of the time in which shards were worked on, and seconds of CPU that the worker's process
took for a thousand images, without its decoders. On a machine with neighbours the second says more.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.report import begin, options, write
from ramq.embedded import embedded
from ramq.settings import Settings
from tests.services.checker import fill
from tests.services.fleet import client_services
from tests.services.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services

WARM_PICTURES = 200
_ABSENT = "import sys; sys.modules['opentelemetry.sdk'] = None; from tests.services.null_worker import main; main()"
_PRESENT = "from tests.services.null_worker import main; main()"
_COLLECTOR = """
import time
from tests.services.collector import collecting
with collecting() as collector:
    print(collector.url, flush=True)
    while True:
        time.sleep(1)
        print(len(collector.spans), flush=True)
"""


@contextmanager
def collector_process() -> Iterator[str]:
    """Give the address of a collector in another process."""
    process = subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def ways(collector: str) -> dict[str, dict[str, str]]:
    """Return the variables of each way."""
    on = {"RAMQ_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    return {
        "absent": {},
        "off": {},
        "1 %": {**on, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
        "100 %": on,
        "away": {**on, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    }


def run(services: Services, folder: Path, way: str, environment: dict[str, str], number: int) -> dict[str, float]:
    """Recognise the pictures with a new worker. Return its rate, and its CPU time for a thousand of them."""
    settings = services.settings
    code = _ABSENT if way == "absent" else _PRESENT
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "RAMQ_DATA_DIR": str(settings.data_dir),
            "RAMQ_DATABASE_URL": str(settings.database_url),
            "RAMQ_BROKER_URL": str(settings.broker_url),
            "RAMQ_DECODE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "NULL_MODEL_WEIGHTS": f"{number:064x}",
            **environment,
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        finish(services, folder / "warm")
        process = psutil.Process(worker.pid)
        before = sum(process.cpu_times()[:2])
        view = finish(services, folder / "photos")
        cpu = sum(process.cpu_times()[:2]) - before
    finally:
        worker.terminate()
        worker.wait(60)
    return {"images_per_second": view.done / view.active_seconds, "cpu_seconds_per_1000": cpu / view.done * 1000}


def finish(services: Services, folder: Path) -> Any:
    """Return the job once it has ended."""
    job = services.jobs.create(str(folder))
    while not (view := services.jobs.get(job.id)).is_over:
        time.sleep(0.2)
    assert view.done == view.listed, view
    return view


def main() -> None:
    """Measure, and write the result."""
    parser = options(__doc__)
    parser.add_argument("--pictures", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    report = begin()
    runs: dict[str, list[dict[str, float]]] = {}
    number = 0
    with (
        tempfile.TemporaryDirectory() as place,
        embedded(Path(place, "services")) as servers,
        collector_process() as at,
    ):
        url = PostgresServer(servers.database_url).create_migrated_database()
        settings = Settings(data_dir=Path(place, "data"), database_url=url, broker_url=servers.broker_url)
        fill(Path(place, "warm"), WARM_PICTURES)
        fill(Path(place, "photos"), chosen.pictures)
        with client_services(settings) as services:
            for _ in range(chosen.rounds):
                for way, environment in ways(at).items():
                    number += 1
                    runs.setdefault(way, []).append(run(services, Path(place), way, environment, number))
                    print(way, runs[way][-1], flush=True)
    middle = {
        way: {name: statistics.median(each[name] for each in found) for name in found[0]} for way, found in runs.items()
    }
    report |= {
        "pictures": chosen.pictures,
        "runs": runs,
        "median": middle,
        "of_off": {way: {name: each[name] / middle["off"][name] for name in each} for way, each in middle.items()},
    }
    print(json.dumps(report["of_off"], indent=1))
    write(chosen, "traces", report)


if __name__ == "__main__":
    main()

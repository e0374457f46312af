"""One worker of a checkout archives folders on real services: images/s, and who used the cores meanwhile."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ramq.embedded.process import spawn
from tests.services.fleet import check_counters, wait_for

if TYPE_CHECKING:
    from ramq.wiring import Services
    from tests.services.fleet import Fleet

ROOT = Path(__file__).parent.parent
LIMIT_SECONDS = 600.0


def run_worker(services: Services, fleet: Fleet, checkout: Path, sources: tuple[Path, Path]) -> dict[str, float]:
    """Let one worker of a checkout archive a folder, after a warm-up; return rates, and who used the cores."""
    process = spawn(
        [sys.executable, "-m", "ramq.cli.main", "worker"],
        cwd=checkout,
        log=fleet.folder / "worker.log",
        stop_signal=signal.SIGKILL,
        env={**fleet.environment, "PYTHONPATH": str(checkout)},
    )
    fleet.processes.append(process)
    started = time.monotonic()
    first = services.jobs.create(str(sources[0]))
    wait_for(services, first.id, fleet, lambda view: view.is_over, timeout=LIMIT_SECONDS)
    ready = time.monotonic() - started
    worker = psutil.Process(process.pid)
    before, idle, began = _on_cores(worker), psutil.cpu_times(), time.monotonic()
    job = services.jobs.create(str(sources[1]))
    view = wait_for(services, job.id, fleet, lambda view: view.is_over, timeout=LIMIT_SECONDS)
    seconds = time.monotonic() - began
    after, later = _on_cores(worker), psutil.cpu_times()
    assert not view.failed
    check_counters(services, view.id)
    fleet.kill(process)
    everything = sum(later[:3]) - sum(idle[:3])
    milliseconds = {
        name: round(1000 * spent / view.done, 2)
        for name, spent in (
            ("worker", after[0] - before[0]),
            ("decoders", after[1] - before[1]),
            ("services", everything - sum(after) + sum(before)),
        )
    }
    stages = {stage.stage: round(stage.seconds, 2) for stage in view.stages}
    return {
        "images": view.done,
        "seconds": round(seconds, 2),
        "images_per_second": round(view.done / seconds, 2),
        "first_images_after_seconds": round(ready, 1),
        **{f"core_milliseconds_an_image_{name}": spent for name, spent in milliseconds.items()},
        **{f"seconds_{name}": spent for name, spent in stages.items()},
    }


def _on_cores(worker: psutil.Process) -> tuple[float, float]:
    """Return the seconds that a worker and its decoders have used."""
    own = worker.cpu_times()
    children = [child.cpu_times() for child in worker.children(recursive=True)]
    return own.user + own.system, sum(each.user + each.system for each in children)

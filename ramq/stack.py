"""Worker processes that this process starts, watches, restarts and stops."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.embedded.process import spawn, stop
from storage.errors import FatalError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from ramq.settings import Settings

log = logging.getLogger(__name__)

STOP_SECONDS = 90.0
"""The time that a worker has to finish its batch. After that it is killed, and its lease expires."""

_QUICK_SECONDS = 10.0
_LEAST_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 30.0
_QUICK_DEATHS = 3
# It finished its batch, or it was told to end before it handled signals: by a person, or with the whole machine.
_ASKED_TO_END = (0, -signal.SIGTERM, -signal.SIGINT)


class Workers:
    """Worker processes on the given database and broker. They log to ``data_dir/logs/worker-N.log``."""

    def __init__(self, settings: Settings, database_url: str, broker_url: str, count: int) -> None:
        self._settings = settings
        self._environment = {
            **os.environ,
            "RAMQ_DATA_DIR": str(settings.data_dir.absolute()),
            "RAMQ_DATABASE_URL": database_url,
            "RAMQ_BROKER_URL": broker_url,
            "RAMQ_INDEX_URL": settings.index_location,
        }
        self._count = count
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        # For each worker, how often in a row it ended soon after its start. Each thread writes only its own entry.
        self._quick_deaths = dict.fromkeys(range(count), 0)

    def require_alive(self) -> None:
        """Raise ``FatalError`` if a worker repeatedly ends soon after its start."""
        for number in [number for number, deaths in self._quick_deaths.items() if deaths >= _QUICK_DEATHS]:
            log = self._log_path(number)
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            raise FatalError(f"the worker does not start: {lines[-1] if lines else 'its log is empty'} (see {log})")

    def start(self) -> None:
        """Start the processes, and for each a thread that restarts it when it ends."""
        for number in range(self._count):
            thread = threading.Thread(target=self._watch, args=(number,), name=f"watch-worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Tell every worker to finish its batch, and wait until all have ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, number: int) -> None:
        # The kernel ends the child together with the thread that started it, so this thread must run as long.
        pause = _LEAST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            process = self._spawn(number)
            while process.poll() is None and not self._stopping.wait(0.2):
                pass
            if self._stopping.is_set():
                stop(process, signal.SIGTERM, timeout_seconds=STOP_SECONDS)
                return
            if time.monotonic() - began > _QUICK_SECONDS:
                self._quick_deaths[number], pause = 0, _LEAST_PAUSE_SECONDS
            else:
                self._quick_deaths[number] += 1
                pause = min(2 * pause, _MOST_PAUSE_SECONDS)
            about = {"log": str(self._log_path(number)), "restart_in_seconds": pause}
            if process.returncode in _ASKED_TO_END:
                log.info("a worker ended because it was told to: another one takes its place", extra=about)
            else:
                log.error("a worker ended", extra={"exit_code": process.returncode, **about})
            self._stopping.wait(pause)

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        return spawn(
            [sys.executable, "-m", "ramq.cli.main", "worker"],
            cwd=self._settings.data_dir,
            log=self._log_path(number),
            stop_signal=signal.SIGTERM,
            env={**self._environment, **self._device_of(number)},
        )

    def _device_of(self, number: int) -> dict[str, str]:
        """Return the environment that assigns a GPU to a worker, if there are several and none was chosen."""
        gpus = _gpu_count()
        if self._settings.device != "auto" or gpus < 2:
            return {}
        return {"RAMQ_DEVICE": f"cuda:{number % gpus}"}

    def _log_path(self, number: int) -> Path:
        folder = self._settings.data_dir / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"worker-{number}.log"


def _gpu_count() -> int:
    """Return the number of GPUs that CUDA would show, without importing torch, which takes seconds."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([each for each in chosen.split(",") if each.strip()])
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@contextmanager
def workers(settings: Settings, database_url: str, broker_url: str, count: int) -> Iterator[Workers]:
    """Run worker processes during the block."""
    fleet = Workers(settings, database_url, broker_url, count)
    fleet.start()
    try:
        yield fleet
    finally:
        fleet.stop()

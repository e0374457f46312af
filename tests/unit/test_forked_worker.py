"""The workers of tests that are forked behave like those that a command starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.services.forked_worker import Forks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no worker is forked")


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """A broker that accepts connections and never answers: who asks it waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_a_forked_worker_has_its_own_environment_and_log_and_ends_like_any_process(
    forks: Forks, tmp_path: Path, silent_broker: str
) -> None:
    log = tmp_path / "worker.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAMQ_")}
    settings = {"RAMQ_DATA_DIR": str(tmp_path), "RAMQ_DATABASE_URL": "postgresql+psycopg://127.0.0.1:1/none"}

    refused = forks.start(log, {**kept, **settings, "RAMQ_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert refused.wait(30) == refused.poll() == refused.returncode == 3  # as `ramq worker` without a service
    assert "the broker cannot be reached" in log.read_text()

    waiting = forks.start(log, {**kept, **settings, "RAMQ_BROKER_URL": silent_broker})
    waiting.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.01)
    assert waiting.poll() is None
    assert os.getsid(waiting.pid) != os.getsid(0)
    waiting.kill()
    assert waiting.wait(30) == -signal.SIGKILL

    left = [forks.start(log, {**kept, **settings, "RAMQ_BROKER_URL": silent_broker}) for _ in range(2)]
    processes = [psutil.Process(worker.pid) for worker in left]
    forks.close()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []

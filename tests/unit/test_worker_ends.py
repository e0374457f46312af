"""Workers that end beside the process that started them: each is replaced, and only trouble is logged as an error."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ramq import stack
from ramq.settings import Settings
from ramq.stack import Workers

if TYPE_CHECKING:
    from pathlib import Path

STAYS = "import time; time.sleep(600)"


@pytest.mark.parametrize(
    ("program", "level", "says"),
    [
        ("pass", "INFO", "a worker ended because it was told to: another one takes its place"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "INFO", "because it was told to"),
        ("import sys; sys.exit(1)", "ERROR", "a worker ended"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ERROR", "a worker ended"),
    ],
)
def test_a_worker_that_ends_is_replaced_and_only_trouble_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    program: str,
    level: str,
    says: str,
) -> None:
    monkeypatch.setattr(stack, "_LEAST_PAUSE_SECONDS", 0.001)
    fleet = Workers(Settings(data_dir=tmp_path), "", "", 1)
    started: list[subprocess.Popen[bytes]] = []

    def spawn(_number: int) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", STAYS if started else program]))
        if len(started) > 1:
            fleet._stopping.set()
        return started[-1]

    monkeypatch.setattr(fleet, "_spawn", spawn)
    with caplog.at_level(logging.INFO, "ramq.stack"):
        fleet._watch(0)
    assert [process.returncode for process in started[1:]] == [-signal.SIGTERM]
    [record] = caplog.records
    assert record.levelname == level
    assert says in record.message
    assert record.__dict__["log"] == str(tmp_path / "logs" / "worker-0.log")
    assert record.__dict__.get("exit_code") == (started[0].returncode if level == "ERROR" else None)

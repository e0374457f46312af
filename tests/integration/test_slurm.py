"""The script for Slurm, run by a shell as Slurm would: with real workers, and a ``scontrol`` that takes notes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.checker import fill
from tests.services.fleet import wait_for
from tests.services.watch import scalar, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

pytestmark = [pytest.mark.services, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "slurm" / "ramq-workers.sbatch"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with ``ramq``, whose worker has a null model, and ``scontrol``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ramq, scontrol = folder / "ramq", folder / "scontrol"
    ramq.write_text(
        f'#!/bin/sh\nif [ "$1" = worker ]; then exec {sys.executable} -m tests.services.null_worker; fi\n'
        f'exec {sys.executable} -m ramq.cli.main "$@"\n'
    )
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.txt\n')
    for each in (ramq, scontrol):
        each.chmod(0o755)
    return folder


@pytest.fixture
def task(fleet: Fleet, programs: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script as one task of an array."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    in_file = ("RAMQ_DATABASE_URL", "RAMQ_BROKER_URL", "RAMQ_DATA_DIR")
    settings = {name: fleet.environment[name] for name in in_file} | {"RAMQ_LEASE_SECONDS": "600"}
    (tmp_path / "ramq.env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    environment = {
        **{name: value for name, value in fleet.environment.items() if name not in settings},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAMQ_CONFIG": str(tmp_path / "ramq.env"),
        "RAMQ_SLURM_MODEL": "lite",
        "RAMQ_SLURM_DEVICE": "cpu",
        "RAMQ_SLURM_PAUSE": "1",
        "NULL_MODEL_SECONDS": "0.3",
        "SLURM_JOB_ID": "17",
        "SLURM_ARRAY_JOB_ID": "12",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen([bash, str(SCRIPT)], env=environment, stdout=log, stderr=log, start_new_session=True)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_task_whose_time_is_over_gives_its_shards_back_and_is_queued_again(
    services: Services, fleet: Fleet, task: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 800)
    job = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, job.id, fleet, lambda view: view.done > 0)
    task.send_signal(signal.SIGTERM)  # to the shell alone, as --signal=B: does
    assert task.wait(60) == 0
    assert scalar(services, "SELECT count(*) FROM shard WHERE state = 'leased'") == 0
    assert scalar(services, "SELECT count(*) FROM shard WHERE state = 'ready'") != 0
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 12_3\n"


def test_a_task_ends_when_nothing_waits_and_is_not_queued_again(
    services: Services, fleet: Fleet, task: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 40)
    job = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    until(lambda: task.poll() is not None, fleet)
    assert task.returncode == 0
    assert not (tmp_path / "scontrol.txt").exists()

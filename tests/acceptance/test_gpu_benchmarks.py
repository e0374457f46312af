"""The steps of `benchmarks/gpu/run.sh` run on a CPU, on small networks, and write their files.

Parity is left out: it takes minutes, and tests/unit/test_ram.py and test_tag2text.py check the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.sh"
FILES = {
    "ram_plus": "models-ram_plus-*-here.json",
    "pipeline": "pipeline-*-here.json",
    "lite": "lite-gpu-*-here.json",
    "decode": "decode-gpu-*-here.json",
    "locate": "locate-tiny-*-here.json",
    "training": "training-ram_plus-tiny-*-here.json",
    "thread": "thread-*-here.json",
    "eight_bits": "eight-bits-*-here.json",
}


def test_every_step_writes_its_file(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "RAMQ_BENCH_DEVICE": "cpu",
        "RAMQ_BENCH_TINY": "1",
        "RAMQ_BENCH_STEPS": " ".join(FILES),
        "RAMQ_BENCH_OWN_PACKAGES": "1",
        "RAMQ_BENCH_SECONDS": "600",
        "RAMQ_BENCH_PATIENCE": "10",
    }
    done = subprocess.run(
        ["sh", SCRIPT, tmp_path, "here"], env=environment, check=False, capture_output=True, text=True
    )
    told = (tmp_path / "steps.txt").read_text()
    assert "FAILED" not in told, told + done.stdout[-2000:] + done.stderr[-4000:]
    for step, pattern in FILES.items():
        found = list(tmp_path.glob(pattern))
        assert len(found) == 1, (step, told)
        assert json.loads(found[0].read_text())
    pipeline = json.loads(next(tmp_path.glob(FILES["pipeline"])).read_text())
    assert (pipeline["pipeline"]["images"], pipeline["pipeline"]["failed"]) == (24, 0)

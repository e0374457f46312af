"""Steps of `benchmarks/gpu/run.sh` as it calls them for a try on a CPU: they run there, and write their files.

The steps are functions here, since each new Python would load torch again. Those that measure a model alone, locating
and training are left out: the modules that they run have tests of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.sh"
FILES = {
    "pipeline": "pipeline-*-here.json",
    "eight_bits": "eight-bits-*-here.json",
    "decode": "decode-gpu-*-here.json",
    "lite": "lite-gpu-*-here.json",
}


def _asked(step: str, out: Path, scratch: Path) -> list[str]:
    """Return the words with which the script would call Python."""
    python = scratch / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{scratch}/asked\n")
    python.chmod(0o755)
    own = {
        "PYTHON": str(python),
        "RAMQ_BENCH_DEVICE": "cpu",
        "RAMQ_BENCH_TINY": "1",
        "RAMQ_BENCH_STEPS": step,
        "RAMQ_BENCH_OWN_PACKAGES": "1",
    }
    subprocess.run(["sh", SCRIPT, out, "here"], env={**os.environ, **own}, check=True, capture_output=True)
    return (scratch / "asked").read_text().splitlines()


@pytest.mark.parametrize("step", FILES)
def test_a_step_writes_its_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    [_, module, *words] = _asked(step, out, tmp_path)
    monkeypatch.setattr("sys.argv", [module, *words])
    import_module(module).main()
    [found] = out.glob(FILES[step])
    report = json.loads(found.read_text())
    if step == "pipeline":
        assert [(one["batch"], one["images"], one["settings"]) for one in report["pipelines"]] == [
            (4, 24, {}),
            (4, 24, {"RAMQ_RECORDED": "true"}),
        ]
    else:
        assert report.get("cases") or report["products"]

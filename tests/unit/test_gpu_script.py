"""`benchmarks/gpu/run.sh`: its steps, in order, and what a step that fails or is cut off does to the others.

The interpreter is a stand-in that says what it was asked to run. ``tests/acceptance/test_gpu_benchmarks.py`` runs the
real one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.sh"
STEPS = ["parity", "ram_plus", "pipeline", "compiled", "ram", "tag2text", "lite", "decode", "locate", "training"]
STEPS += ["eight_bits", "thread"]
OTHERS = [step for step in STEPS if step != "training"]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Write a stand-in for Python: it fails at locating, and never ends at training."""
    path = tmp_path / "python"
    path.write_text(
        f'#!/bin/sh\necho "$@" >>"{tmp_path}/asked"\ncase "$2" in *locate) exit 3 ;; *training) exec sleep 60 ;; esac\n'
    )
    path.chmod(0o755)
    return path


def _run(python: Path, out: Path, **environment: str) -> list[str]:
    own = {"PYTHON": str(python), "RAMQ_BENCH_DEVICE": "cpu", "RAMQ_BENCH_TINY": "1", "RAMQ_BENCH_OWN_PACKAGES": "1"}
    kept = {**os.environ, "RAMQ_SHARED_DIR": "nowhere"}
    subprocess.run(["sh", SCRIPT, out, "here"], env={**kept, **own, **environment}, check=True, capture_output=True)
    return [line.split(" ", 1)[1] for line in (out / "steps.txt").read_text().splitlines()]


def _names(lines: list[str]) -> list[str]:
    return [line.split()[1].strip(":") for line in lines if " " in line]


def test_a_step_that_fails_does_not_stop_the_others(python: Path, tmp_path: Path) -> None:
    told = _run(python, tmp_path / "out", RAMQ_BENCH_STEPS=" ".join(OTHERS))
    assert _names(told) == OTHERS
    assert [line.split(" after")[0] for line in told if line.startswith("FAILED")] == ["FAILED locate (3)"]
    assert told[-1] == "end"


@pytest.mark.slow
def test_a_step_has_only_the_time_that_is_left(python: Path, tmp_path: Path) -> None:
    told = _run(python, tmp_path / "out", RAMQ_BENCH_STEPS="training eight_bits", RAMQ_BENCH_SECONDS="11")
    assert told[0].startswith("FAILED training (124) after 1")
    assert told[1:] == ["skipped eight_bits: the time is over", "end"]


def test_every_module_that_is_asked_for_exists(python: Path, tmp_path: Path) -> None:
    _run(python, tmp_path / "out", RAMQ_BENCH_STEPS=" ".join(OTHERS))
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    modules = {words[1] for words in asked}
    assert len(modules) == 8
    assert all((SCRIPT.parents[2] / f"{module.replace('.', '/')}.py").is_file() for module in modules)
    assert all(words[words.index("--output") + 1] == str(tmp_path / "out") for words in asked)

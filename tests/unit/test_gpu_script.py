"""`benchmarks/gpu/run.sh`: its steps, in order, and what a step that fails or is cut off does to the others.

The interpreter is a stand-in that says what it was asked to run. ``tests/acceptance/test_gpu_benchmarks.py`` runs the
real one.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.sh"
LIMITS = re.findall(r"^    (?:step|models) (\w+) (\d+) ", SCRIPT.read_text(), re.MULTILINE)
STEPS = [name for name, _ in LIMITS]
BUDGET = 480


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Write a stand-in for Python, which fails at decoding, and one for ``timeout``, which cuts training off."""
    path = _program(tmp_path / "python", f'echo "$@" >>"{tmp_path}/asked"; case "$2" in *decode) exit 3 ;; esac')
    _program(
        tmp_path / "timeout",
        f'echo "$@" >>"{tmp_path}/limits"; case "$6" in *training) exit 124 ;; esac; shift 3; exec "$@"',
    )
    return path


def _program(path: Path, lines: str) -> Path:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def _run(python: Path, out: Path, **environment: str) -> list[str]:
    own = {"PYTHON": str(python), "RAMQ_BENCH_DEVICE": "cpu", "RAMQ_BENCH_TINY": "1", "RAMQ_BENCH_OWN_PACKAGES": "1"}
    kept = {**os.environ, "RAMQ_SHARED_DIR": "nowhere", "PATH": f"{python.parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", SCRIPT, out, "here"], env={**kept, **own, **environment}, check=True, capture_output=True)
    return [line.split(" ", 1)[1] for line in (out / "steps.txt").read_text().splitlines()]


def _names(lines: list[str]) -> list[str]:
    return [line.split()[1].strip(":") for line in lines if " " in line]


def test_a_step_that_fails_or_is_cut_off_does_not_stop_the_others(python: Path, tmp_path: Path) -> None:
    told = _run(python, tmp_path / "out", RAMQ_BENCH_SECONDS="1000000")
    assert _names(told) == STEPS
    failed = [line.split(" after")[0] for line in told if line.startswith("FAILED")]
    assert sorted(failed) == ["FAILED decode (3)", "FAILED training (124)"]
    assert told[-1] == "end"


def test_the_limits_of_all_steps_together_are_the_time_that_there_is(python: Path, tmp_path: Path) -> None:
    assert f"RAMQ_BENCH_SECONDS:-{BUDGET}" in SCRIPT.read_text()
    assert sum(int(seconds) for _, seconds in LIMITS) <= BUDGET
    _run(python, tmp_path / "out", RAMQ_BENCH_SECONDS="1000000")
    given = [line.split()[2] for line in (tmp_path / "limits").read_text().splitlines()]
    assert given == [seconds for _, seconds in LIMITS]


def test_a_step_has_only_the_time_that_is_left(python: Path, tmp_path: Path) -> None:
    _run(python, tmp_path / "out", RAMQ_BENCH_STEPS="training", RAMQ_BENCH_SECONDS="5000", RAMQ_BENCH_PATIENCE="1000")
    [limit] = [int(line.split()[2]) for line in (tmp_path / "limits").read_text().splitlines()]
    assert 10 <= limit <= 5000


def test_a_step_for_which_no_time_is_left_is_skipped(python: Path, tmp_path: Path) -> None:
    told = _run(python, tmp_path / "out", RAMQ_BENCH_STEPS="training eight_bits", RAMQ_BENCH_SECONDS="0")
    assert sorted(told) == ["end"] + [f"skipped {name}: the time is over" for name in ("eight_bits", "training")]
    assert not (tmp_path / "asked").exists()


def test_every_module_that_is_asked_for_exists(python: Path, tmp_path: Path) -> None:
    _run(python, tmp_path / "out", RAMQ_BENCH_SECONDS="1000000")
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert len(asked) == len(STEPS) - 1  # but for the one that was cut off
    modules = {words[1] for words in asked}
    assert all((SCRIPT.parents[2] / f"{module.replace('.', '/')}.py").is_file() for module in modules)
    assert all(words[words.index("--output") + 1] == str(tmp_path / "out") for words in asked)

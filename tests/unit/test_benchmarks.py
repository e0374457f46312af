"""Benchmarks and drills are run by hand, months apart: they at least load, and say what they can be told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if path.name != "pack.py")
# Loads every module, and asks commands with options for their help. In one process, since most need torch.
LOADING = """
import importlib, io, runpy, sys, traceback
from contextlib import redirect_stdout
for name in sys.stdin.read().split():
    try:
        with redirect_stdout(io.StringIO()) as said:
            source = importlib.import_module(name).__loader__.get_source(name)
            if "__main__" in source and ("ArgumentParser" in source or "options(__doc__" in source):
                sys.argv = [name, "--help"]
                try:
                    runpy.run_module(name, run_name="__main__")
                except SystemExit as ended:
                    assert not ended.code, ended.code
                assert said.getvalue().startswith("usage: "), said.getvalue()[:200]
                print("helped", name, file=sys.stderr)
    except BaseException:
        print(name, traceback.format_exc(), sep="\\n")
"""


@pytest.mark.slow
def test_every_script_loads_and_tells_its_options() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SCRIPTS]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADING],
        input="\n".join(names),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("helped benchmarks.") > 50

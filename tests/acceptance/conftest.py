"""The command line, in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.services.command_line import COMMAND, run_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def clean(tmp_path: Path) -> dict[str, str]:
    """An environment with only the settings that every command gets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAMQ_")}
    return {**kept, "RAMQ_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200"}


@pytest.fixture
def run(clean: dict[str, str]) -> Run:
    """Runs the command line, with only the given settings in its environment."""
    return lambda *words, **environment: run_here(words, {**clean, **environment})


@pytest.fixture
def run_process(clean: dict[str, str]) -> Run:
    """The same as a process of its own."""

    def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            env={**clean, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return start

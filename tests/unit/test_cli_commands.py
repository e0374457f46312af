"""Which commands there are, and what is loaded for one of them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.main import get_command

from ramq.cli.main import COMMANDS, command_line


@pytest.mark.parametrize("file", COMMANDS)
def test_the_table_of_commands_names_what_each_file_registers(file: str) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    import_module(f"ramq.cli.{file}").register(app)
    assert set(get_command(app).commands) == set(COMMANDS[file])  # type: ignore[attr-defined]  # a group


def test_a_command_that_is_typed_loads_its_own_file_alone() -> None:
    code = (
        "import sys; from ramq.cli.main import command_line; command_line('jobs');"
        "print(*(name for name in sys.modules if name.startswith('ramq.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        f"ramq.cli.{name}" for name in ("main", "output", "context", "jobs", "job_options", "following")
    }


@pytest.mark.parametrize("typed", ["", "--help", "serch"])
def test_without_a_known_command_there_are_all_of_them(typed: str) -> None:
    listed = {name for names in COMMANDS.values() for name in names}
    assert set(get_command(command_line(typed)).commands) == listed  # type: ignore[attr-defined]  # a group

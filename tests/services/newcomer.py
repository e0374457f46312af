"""Somebody who types what the documents say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from tests.documents import Typed, commands_of
from tests.services.command_line import run_here

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_TYPED = {
    "duckdb": "it need not be installed",
    "export": "each line has a shell of its own here",
    "make": "it makes the environment that the tests run in",
    "rm": "a slip in this test must not delete a person's data",
}


class Newcomer:
    """Somebody with an empty home but for some pictures, at a shell. Leaves nothing running."""

    def __init__(self, home: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAMQ_", "XDG_", "AWS_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self._environment = kept | dict(environment) | {"HOME": str(home), "PATH": path, "COLUMNS": "200"}
        self._home = home
        self._up: subprocess.Popen[str] | None = None
        self._url = ""

    def type(self, one: Typed, *, here: bool = False) -> str:
        """Type a line and hold it to its success, or to the answer that the page shows. Return what it said.

        Args:
            here: a line that is a command of ramq runs in this process, with the words that a shell makes of it.
        """
        [program, *words] = commands_of(one.line)[0]
        if program in NOT_TYPED:
            return ""
        if [program, *words] == ["ramq", "up"]:
            self._start()
            return ""
        if here and program == "ramq" and not set(one.line) & set("|>;&"):
            said = run_here(self._words(one.line), self._environment, self._home)
            said.stdout = said.stderr + said.stdout
        else:
            said = self._shell(one.line.replace("http://127.0.0.1:8765/", self._url))
        if one.answer is None:
            assert said.returncode == 0, f"$ {one.line}\n{said.stdout}"
        else:
            assert said.stdout == one.answer, one.line
        return said.stdout

    def _words(self, line: str) -> list[str]:
        """What a shell makes of what is behind ``ramq``: quotes, ``~`` and patterns are its business."""
        return self._shell("ramq() { printf '%s\\0' \"$@\"; }; " + line).stdout.split("\0")[:-1]

    def _shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )

    def _start(self) -> None:
        self._up = subprocess.Popen(
            ["ramq", "up", "--port", "0"],
            cwd=self._home,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._up.stderr is not None
        lines: list[str] = []
        for line in self._up.stderr:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                self._url = found[0]
                return
        pytest.fail("".join(lines))

    def leave(self) -> None:
        """Press Ctrl-C."""
        if self._up is not None:
            self._up.send_signal(signal.SIGINT)
            self._up.communicate(timeout=120)

"""The quick start and the page about searching, line by line, as a newcomer would type them into a shell."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ramq.demo_photos import installed_photographs
from tests.documents import DOCS, Typed, commands_of, typed
from tests.services.command_line import run_here
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.s3 import S3Server

# Of the quick start, each line is a process of its own, as in a shell.
pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]

BUCKET = "holiday"
IN_FOLDER, IN_BUCKET = 6, 8
NOT_TYPED = {
    "export": "each line has a shell of its own here",
    "make": "it makes the environment that the tests run in",
    "rm": "a slip in this test must not delete a person's data",
}

NEED_WEIGHTS = ("like-region", "crops", "siglip", "dino")
"""Regions need a detector and some spaces a tower, whose weights nobody has here."""


class Newcomer:
    """Somebody with an empty home but for some pictures, at a shell. Leaves nothing running."""

    def __init__(self, home: Path, s3: S3Server) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAMQ_", "XDG_", "AWS_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self._environment = kept | s3.environment | {"HOME": str(home), "PATH": path, "COLUMNS": "200"}
        self._home = home
        self._up: subprocess.Popen[str] | None = None
        self._url = ""

    def type(self, one: Typed, *, here: bool = False) -> None:
        """Type a line and hold it to its success, or to the answer that the page shows.

        Args:
            here: a line that is a command of ramq runs in this process, with the words that a shell makes of it.
        """
        [program, *words] = commands_of(one.line)[0]
        if program in NOT_TYPED:
            return
        if [program, *words] == ["ramq", "up"]:
            self._start()
            return
        if here and program == "ramq" and not set(one.line) & set("|>;&"):
            said = run_here(self._words(one.line), self._environment, self._home)
            said.stdout = said.stderr + said.stdout
        else:
            said = self._shell(one.line.replace("http://127.0.0.1:8765/", self._url))
        if one.answer is None:
            assert said.returncode == 0, f"$ {one.line}\n{said.stdout}"
        else:
            assert said.stdout == one.answer, one.line

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


@pytest.fixture
def newcomer(tmp_path: Path, s3_server: S3Server) -> Iterator[Newcomer]:
    if shutil.which("curl") is None:
        missing("no curl is installed: apt-get install curl")
    pictures = [path for path in installed_photographs() if path.suffix in {".jpg", ".png"}]
    assert len(pictures) >= IN_FOLDER + IN_BUCKET
    (tmp_path / "Pictures").mkdir()
    for path in pictures[:IN_FOLDER]:
        shutil.copy(path, tmp_path / "Pictures")
    shutil.copy(next(path for path in pictures if path.suffix == ".jpg"), tmp_path / "photo.jpg")
    s3_server.make_bucket(BUCKET)
    client = s3_server.client()
    for path in pictures[-IN_BUCKET:]:
        client.put_object(Bucket=BUCKET, Key=f"2024/{path.name}", Body=path.read_bytes())
    client.close()
    person = Newcomer(tmp_path, s3_server)
    yield person
    person.leave()
    s3_server.delete_bucket(BUCKET)


def lines_of(page: str) -> list[Typed]:
    return typed((DOCS / page).read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform == "darwin", reason="the data folder is another one there")
def test_the_quick_start_does_what_it_says_and_every_search_of_the_page_about_searching_is_answered(
    newcomer: Newcomer,
) -> None:
    """A person who has come so far turns to the search page, and back to what the quick start says of deleting."""
    lines = lines_of("quickstart.md")
    [deleting] = [number for number, one in enumerate(lines) if one.line.startswith("ramq delete")]
    assert deleting > 14
    for one in lines[:deleting]:
        newcomer.type(one)
    newcomer.type(Typed(f"ramq enqueue s3://{BUCKET} --wait"), here=True)
    searches = [one for one in lines_of("search.md") if not any(word in one.line for word in NEED_WEIGHTS)]
    assert len(searches) > 10
    for one in searches:
        newcomer.type(one, here=True)
    for one in lines[deleting:]:
        newcomer.type(one)

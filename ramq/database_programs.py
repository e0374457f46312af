"""Programs of PostgreSQL, such as ``pg_dump`` and ``psql``, run on the database of the settings."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from ramq.addresses import addresses
from ramq.embedded import EmbeddedError
from ramq.embedded.postgres import installed_programs
from storage.database import connection_variables
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType

    from ramq.settings import Settings


def run_program(settings: Settings, words: Sequence[str]) -> int:
    """Run a program with the address of the database in its environment, and return its exit status.

    The embedded services run meanwhile. Then the programs that belong to that server come first: older ones refuse it.

    Args:
        settings: the database.
        words: the program and its arguments.

    Raises:
        UsageError: there is no such program.
    """
    with addresses(settings) as (database_url, _):
        environment = os.environ | connection_variables(database_url)
        environment["PATH"] = _path(is_embedded=settings.is_embedded)
        program = shutil.which(words[0], path=environment["PATH"])
        if program is None:
            raise UsageError(f"there is no program {words[0]}; install PostgreSQL's client programs, or check its name")
        before = signal.signal(signal.SIGINT, _left_to_the_program)
        try:
            return subprocess.run([program, *words[1:]], env=environment, check=False).returncode  # noqa: S603  (asked)
        finally:
            signal.signal(signal.SIGINT, before)


def _path(*, is_embedded: bool) -> str:
    path = os.environ.get("PATH", os.defpath)
    try:
        programs: Path = installed_programs()
    except EmbeddedError:  # no such package here, as where the database is on another machine
        return path
    return os.pathsep.join((str(programs), path) if is_embedded else (path, str(programs)))


def _left_to_the_program(_signal: int, _frame: FrameType | None) -> None:
    """Ctrl-C reaches the program too, which ends, or stops a statement. A handler of Python is not inherited."""

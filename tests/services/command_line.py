"""The command line in this process: what a process of its own would answer, without the time that one takes to start.

What only a real process shows (Ctrl-C, pipes, what is loaded, the interpreter's last words) is tested with real ones.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from typing import TYPE_CHECKING
from unittest.mock import patch

from ramq.cli import output
from ramq.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ramq.wiring import Services


COMMAND = (sys.executable, "-m", "ramq.cli.main")
"""The same as a process of its own."""


def run_here(words: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> CompletedProcess[str]:
    """Run ``ramq`` with ``words``. Nothing but ``environment`` is in its environment; its output goes into files."""
    stdout, stderr = _stream("strict"), _stream("backslashreplace")
    with ExitStack() as undone:
        undone.enter_context(patch.dict(os.environ, environment, clear=True))
        undone.enter_context(patch.object(sys, "argv", ["ramq", *words]))
        undone.enter_context(patch.object(sys, "stdin", io.StringIO()))
        undone.enter_context(_own_logs())
        undone.enter_context(redirect_stdout(stdout))
        undone.enter_context(redirect_stderr(stderr))
        if folder is not None:
            undone.enter_context(chdir(folder))
        _forget_streams()
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            _forget_streams()
    assert code is None or isinstance(code, int)
    return CompletedProcess(list(words), code or 0, _said(stdout), _said(stderr))


def run_on(services: Services, *words: str, **more: str) -> CompletedProcess[str]:
    """Run ``ramq`` with ``words`` on the database and the data folder of services. ``more``: its other environment."""
    settings = services.settings
    environment = {"RAMQ_DATABASE_URL": str(settings.database_url), "RAMQ_DATA_DIR": str(settings.data_dir)}
    return run_here(words, environment | more)


def said_on(services: Services, *words: str) -> str:
    """Return what ``ramq`` prints, run as by :func:`run_on`. It must not fail."""
    done = run_on(services, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, newline="")


@contextmanager
def _own_logs() -> Iterator[None]:
    """Keep the handlers and levels of the tests from the command, which sets up logging of its own."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("ramq", "storage")]
    handlers, levels = root.handlers[:], [logger.level for logger in (root, *ours)]
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in zip((root, *ours), levels, strict=True):
            logger.setLevel(level)


def _forget_streams() -> None:
    """Consoles remember the stream that they were made on."""
    output.out.cache_clear()
    output.err.cache_clear()


def _said(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()

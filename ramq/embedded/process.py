"""Child processes that end with their parent, and the removal of those that were left behind."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Owner:
    """The operating-system user of a child, and its group."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    stop_signal: signal.Signals,
    owner: Owner | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child whose output is appended to ``log``.

    On Linux, the kernel sends ``stop_signal`` to the child when the *thread* that called this ends, however it ends.
    Call it from a thread that runs as long as the child. On other systems, :func:`end_leftovers` ends such children at
    the next start.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_parent() -> None:
        # This runs in the child after the change of user, because that change clears the setting.
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
            if os.getppid() != parent:
                os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - commands are ours
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it makes only system calls
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals, *, timeout_seconds: float = 30.0) -> None:
    """Tell a child to end, and kill it if it does not end in time. Return when it has ended."""
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_leftovers(program: str, cwd: Path, *, timeout_seconds: float = 15.0) -> None:
    """End the processes called ``program`` in ``cwd`` that a killed parent left behind.

    Wait first, because they may be shutting down normally. Then kill those that are left.
    """
    leftovers = [process for process in psutil.process_iter() if _works_in(process, program, cwd)]
    _, alive = psutil.wait_procs(leftovers, timeout=timeout_seconds if sys.platform == "linux" else 0.0)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=timeout_seconds)


def _works_in(process: psutil.Process, program: str, cwd: Path) -> bool:
    try:
        return process.name() == program and process.cwd() == str(cwd)
    except psutil.Error:
        return False  # it has ended in the meantime, or belongs to another user


def last_words(log: Path, offset: int) -> str:
    """Return the line after byte ``offset`` of a log that best explains why a process ended, or an empty text."""
    with log.open("rb") as file:
        file.seek(offset)
        return telling_line(file.read().decode(errors="replace"))


def telling_line(output: str) -> str:
    """Return the line of a program's output that best explains its failure, without the time, or an empty text."""
    lines = [re.sub(r"^\d{4}-\d\d-\d\d .*?\[\d+\] ", "", line).strip() for line in output.splitlines()]
    telling = [line for line in lines if re.search(r"FATAL|PANIC|[Ee]rror", line)]
    return telling[0] if telling else next((line for line in reversed(lines) if line), "")

"""Child processes that never outlive their parent, and the end of those that did."""

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
    """The operating-system user that a child runs as, and its group."""

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
    """Starts a child whose output is appended to ``log``.

    On Linux the kernel sends it ``stop_signal`` when the *thread* that called this ends, however it ends, so call it
    from the main thread. Elsewhere :func:`end_leftovers` catches up at the next start.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_parent() -> None:
        # Runs in the child after the change of user, which would have cleared the setting.
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
            preexec_fn=die_with_parent,  # noqa: PLW1509 - only system calls, and the callers have one thread
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals, *, timeout_seconds: float = 30.0) -> None:
    """Asks a child to end, and kills it when it does not within the time. Returns when it is gone."""
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_leftovers(program: str, cwd: Path, *, timeout_seconds: float = 15.0) -> None:
    """Ends processes called ``program`` that work in ``cwd``, which a killed parent left behind.

    They are given the time to finish by themselves, for they may be shutting down in good order.
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
        return False  # ended meanwhile, or another user's


def last_words(log: Path, offset: int) -> str:
    """The line after byte ``offset`` of a log that best says why a process ended; empty when there is none."""
    with log.open("rb") as file:
        file.seek(offset)
        return telling_line(file.read().decode(errors="replace"))


def telling_line(output: str) -> str:
    """The line of a program's output that best says why it failed, without the time; empty when there is none."""
    lines = [re.sub(r"^\d{4}-\d\d-\d\d .*?\[\d+\] ", "", line).strip() for line in output.splitlines()]
    telling = [line for line in lines if re.search(r"FATAL|PANIC|[Ee]rror", line)]
    return telling[0] if telling else next((line for line in reversed(lines) if line), "")

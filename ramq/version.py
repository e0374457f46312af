"""The version of ramq, and the commit that it was built from or runs from."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path


def release() -> str:
    """Return the version number."""
    return version("ramq")


def commit() -> str | None:
    """Return the commit in the form of ``of_checkout``, or None if neither the build nor git knows it."""
    built = files("ramq") / "commit.txt"
    if built.is_file():
        return built.read_text().strip()
    return of_checkout(Path(__file__).resolve().parents[1])


def of_checkout(root: Path) -> str | None:
    """Return the commit of a checkout, or None if ``root`` is not one. Add ``-dirty`` if files differ from it."""
    if not (root / ".git").exists():
        return None
    describe = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True, timeout=5)  # noqa: S603 - constants
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def described() -> str:
    """Return version and commit, as ``ramq --version`` prints them."""
    known = commit()
    return f"{release()} ({known})" if known else f"{release()} (commit unknown)"

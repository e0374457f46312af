"""Puts the commit that a wheel or source archive was built from into it, so that ``ramq --version`` can name it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HELD_AT = "ramq/commit.txt"


class CommitHook(BuildHookInterface[Any]):
    """Adds ``ramq/commit.txt``. A source archive has it already; an editable installation asks git when it runs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        root = Path(self.root)
        if version == "editable" or (root / HELD_AT).exists():
            return
        commit = os.environ.get("RAMQ_BUILD_COMMIT") or _head(root)
        if commit:
            self._folder = tempfile.TemporaryDirectory()
            path = Path(self._folder.name) / "commit.txt"
            path.write_text(f"{commit}\n")
            build_data["force_include"][str(path)] = HELD_AT


def _head(root: Path) -> str | None:
    """Return the commit of a checkout, with a mark if files differ from it; None where this is not one."""
    if not (root / ".git").exists():
        return None
    describe = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603 - constants
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

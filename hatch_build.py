"""Puts the commit that a wheel or source archive was built from into it, so that ``ramq --version`` can name it."""

from __future__ import annotations

import os
import runpy
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
        of_checkout = runpy.run_path(str(root / "ramq/version.py"))["of_checkout"]  # ramq itself is not installed yet
        commit = os.environ.get("RAMQ_BUILD_COMMIT") or of_checkout(root)
        if commit:
            self._folder = tempfile.TemporaryDirectory()
            path = Path(self._folder.name) / "commit.txt"
            path.write_text(f"{commit}\n")
            build_data["force_include"][str(path)] = HELD_AT

"""The steps and their phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.datasets.phase import Phase

PHASES: Mapping[str, Mapping[str, Phase]] = {}
"""The phases of each step by their names, in order. The last one returns ``sha256`` as a result of its only task."""

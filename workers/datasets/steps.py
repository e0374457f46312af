"""The steps and their phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.datasets import clean, generate
from workers.datasets.correct import Correct
from workers.datasets.gather import Gather
from workers.datasets.label import LabelImages
from workers.datasets.seal import Seal
from workers.datasets.split import Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.datasets.phase import Phase

PHASES: Mapping[str, Mapping[str, Phase]] = {
    "build": {"gather": Gather(), "label": LabelImages(), "split": Split(), "seal": Seal()},
    "import": {"gather": Gather(), "split": Split(), "seal": Seal()},
    "generate": {**generate.PHASES, "seal": Seal()},
    "clean": {**clean.PHASES, "seal": Seal()},
    "correct": {"correct": Correct(), "seal": Seal()},
}
"""The phases of each step by their names, in order. The last one returns ``sha256`` as a result of its only task."""

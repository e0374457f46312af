"""The memory in which a data set is built does not depend on how many pictures it has."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from ramq.services.dataset_views import BuildRequest
from ramq.wiring import Services
from tests.datasets import MadeUp, work
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = [pytest.mark.services, pytest.mark.slow]

COUNTS = {"few": 6_000, "many": 18_000}
"""Pictures in each folder: both come in several blocks and tasks."""
MOST_BYTES_EACH = 1_000
"""That a further picture may take: its id, its hash and its place are held while copies are looked for."""


def test_memory_does_not_grow_with_the_pictures(engine: Engine, tmp_path: Path) -> None:
    made_up = MadeUp(engine, [f"tag {n}" for n in range(50)], size=64)
    for folder, count in COUNTS.items():
        for start in range(0, count, 3_000):
            numbers = range(start, start + 3_000)
            tags = [sorted({n % 50, n % 7, n % 13}) for n in numbers]
            made_up.add([f"{folder}/{n:06}.jpg" for n in numbers], tags)
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)

    def most_bytes(name: str, folder: str) -> int:
        tracemalloc.start()
        request = BuildRequest(sources=(f"file:///made-up/{folder}",))
        version = work(services, services.datasets.build(name, request))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (version.state, version.counts["images"]) == ("done", COUNTS[folder])
        return most

    most_bytes("first", "few")  # what is loaded once counts for neither
    few, many = most_bytes("few", "few"), most_bytes("many", "many")
    each = (many - few) / (COUNTS["many"] - COUNTS["few"])
    assert each < MOST_BYTES_EACH, f"{few / 1e6:.1f} MB, then {many / 1e6:.1f} MB: {each:.0f} bytes for each picture"

"""A data set of twenty thousand pictures is built in little memory."""

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

COUNT = 20_000
MOST_BYTES = 60_000_000


def test_memory_does_not_grow_with_the_pictures(engine: Engine, tmp_path: Path) -> None:
    made_up = MadeUp(engine, [f"tag {n}" for n in range(50)], size=64)
    for start in range(0, COUNT, 5_000):
        numbers = range(start, start + 5_000)
        made_up.add([f"{n:06}.jpg" for n in numbers], [sorted({n % 50, n % 7, n % 13}) for n in numbers])
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    services.datasets.list()
    tracemalloc.start()
    version = work(services, services.datasets.build("large", BuildRequest(sources=("file:///made-up",))))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (version.state, version.counts["images"]) == ("done", COUNT)
    assert most < MOST_BYTES, f"{most / 1e6:.0f} MB"

"""What ``--watch`` tells of a job that nobody seems to work on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramq.cli.jobs import _has_worker
from storage.views import WorkerView


@pytest.mark.parametrize(
    ("model", "is_alive", "is_listing", "expected"),
    [
        ("lite", True, False, True),
        (None, True, False, True),  # it has just begun, and loads what is asked for
        ("ram", True, False, False),
        ("ram", True, True, True),  # listing takes no model
        ("lite", False, False, False),
        ("lite", False, True, False),
    ],
)
def test_a_job_is_alone_where_no_worker_could_take_it(
    model: str | None, is_alive: bool, is_listing: bool, expected: bool
) -> None:
    worker = WorkerView("one", "host", 1, "cpu", model, None, 0.0, 0.0, is_alive)
    ramq: Any = SimpleNamespace(jobs=SimpleNamespace(workers=lambda: [worker]))
    job: Any = SimpleNamespace(model="lite", is_listing=is_listing)

    assert _has_worker(ramq, job) is expected

"""What ``--watch`` tells of a job that nobody seems to work on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramq.cli.jobs import _has_worker, _rate
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


@pytest.mark.parametrize(
    ("rate", "eta", "is_listing", "expected"),
    [
        (0.0, None, True, "listing"),
        (0.0, None, False, ""),
        (12.5, None, True, "12.5 images/s, listing"),
        (12.5, 90.0, False, "12.5 images/s, 1 min 30 s left"),
        (12.5, None, False, "12.5 images/s"),
    ],
)
def test_how_fast_a_job_goes_is_told_with_what_is_left(
    rate: float, eta: float | None, is_listing: bool, expected: str
) -> None:
    job: Any = SimpleNamespace(images_per_second=rate, eta_seconds=eta, is_listing=is_listing)

    assert _rate(job) == expected

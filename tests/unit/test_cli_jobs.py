"""What ``--watch`` tells of a job."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ramq.cli.jobs import _rate


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

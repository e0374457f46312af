"""The long run of ``benchmarks.chaos --soak``, made short: wrong clocks and faults; nothing grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.soak import soak

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.slow
def test_a_long_run_under_faults_loses_nothing_and_grows_nowhere(amount: Callable[[int, int], int]) -> None:
    """No process keeps 50 MB more than at first, Redis stays under 20 MB; the counters balance."""
    figures = soak(images=amount(6_000, 1_000_000), workers=2, minutes=amount(1, 10), seed=17)
    assert figures["done"] > 0
    assert figures["redis_most_mb"] < 20
    assert figures["most_kept_by_a_worker_mb"] < 50

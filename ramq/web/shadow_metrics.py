"""The metrics of comparisons with the shadow of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from ramq.services.shadow_tally import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from ramq.services.shadow_tally import Tally


class ShadowMetrics(Collector):
    """Shows what this process has compared.

    Args:
        tally: counts it.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """Yield how many searches had which outcome, and agreement and times of those that both indexes answered."""
        tally = self._tally
        searches = CounterMetricFamily(
            "ramq_shadow_searches", "Searches that were to be compared with the shadow.", labels=["outcome"]
        )
        for outcome in OUTCOMES:
            searches.add_metric([outcome], tally.outcomes[outcome])
        yield searches
        yield SummaryMetricFamily(
            "ramq_shadow_agreement",
            "Share of the first ten hits that index and shadow both found.",
            count_value=tally.compared,
            sum_value=tally.sums["agreement"],
        )
        seconds = SummaryMetricFamily(
            "ramq_shadow_seconds", "Duration of a compared search, without its encoding.", labels=["index"]
        )
        for name in ("index", "shadow"):
            seconds.add_metric([name], tally.compared, tally.sums[f"{name}_seconds"])
        yield seconds

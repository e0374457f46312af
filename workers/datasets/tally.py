"""A phase that sums up what the tasks of another one did, for the report of the version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage.datasets import tasks, versions
from workers.datasets.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.versions import VersionView

    Summary = Callable[[Session, VersionView, Sequence[Mapping[str, Any]]], Mapping[str, Any]]


class TallyPhase(Phase):
    """Adds to the counts of a version what ``summary`` makes of the results of a phase. It has no tasks.

    Args:
        phase: whose results.
        summary: from a session, the version and the results to counts.
    """

    def __init__(self, phase: str, summary: Summary) -> None:
        self._phase = phase
        self._summary = summary

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """Write the counts. Return no tasks."""
        results = tasks.results(session, version.id, self._phase)
        versions.add_counts(session, version.id, self._summary(session, version, results))
        return []


def added(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up results: numbers, and numbers within mappings, by name. Anything else within a mapping becomes 0."""
    total: dict[str, Any] = {}
    for result in results:
        for name, value in result.items():
            if isinstance(value, dict):
                inner = total.setdefault(name, {})
                for key, number in value.items():
                    inner[key] = inner.get(key, 0) + (number if isinstance(number, int) else 0)
            else:
                total[name] = total.get(name, 0) + value
    return total

"""Choose the segments to merge. Few segments make searches fast; few merges keep the number of rewrites low."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from storage.index.manifest import SegmentEntry

FANOUT = 4
"""Number of neighbours of one size class that are merged into one. A row is written about log4(N) times."""

DEAD_SHARE = 0.2
"""A segment with a larger share of dead rows is written again by itself."""


def plan(
    segments: Sequence[SegmentEntry], *, max_rows: int, damaged: Collection[str] = (), purge: bool = False
) -> list[range]:
    """Return the runs of neighbouring segments that should each become one, in order and without overlap.

    Only neighbours are merged: the rows of the new segment then form one range of transactions again.

    Args:
        segments: oldest first.
        max_rows: maximum number of rows of a merged segment.
        damaged: names of segments that must be written again.
        purge: write every segment with dead rows again, however few they are.
    """
    runs = _merges(segments, max_rows)
    merged = {position for run in runs for position in run}
    for position, entry in enumerate(segments):
        is_dying = entry.dead_rows > (0 if purge else DEAD_SHARE * entry.rows)
        if position not in merged and (is_dying or entry.name in damaged):
            runs.append(range(position, position + 1))
    return sorted(runs, key=lambda run: run.start)


def _merges(segments: Sequence[SegmentEntry], max_rows: int) -> list[range]:
    """Return the merges of the smallest size class that has any."""
    classes = [_size_class(entry) for entry in segments]
    for size_class in sorted(set(classes)):
        runs: list[range] = []
        start = 0
        total = 0
        for position, entry in enumerate(segments):
            live = entry.rows - entry.dead_rows
            if classes[position] > size_class or total + live > max_rows:
                runs.append(range(start, position))
                is_in = classes[position] <= size_class
                start, total = (position, live) if is_in else (position + 1, 0)
            else:
                total += live
        runs.append(range(start, len(segments)))
        # Smaller segments in between are merged too. But a large one is not rewritten for the sake of a few small ones.
        worthy = [run for run in runs if sum(classes[position] == size_class for position in run) >= FANOUT]
        if worthy:
            return worthy
    return []


def _size_class(entry: SegmentEntry) -> int:
    return int(log(max(entry.rows - entry.dead_rows, 1), FANOUT))

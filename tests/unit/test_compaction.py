from __future__ import annotations

from itertools import pairwise

from storage.index.compaction import plan
from storage.index.manifest import SegmentEntry


def entries(*sizes: int, dead: int = 0) -> list[SegmentEntry]:
    return [SegmentEntry(f"s{n}", n, n + 1, size, size, dead_rows=dead) for n, size in enumerate(sizes)]


def test_four_neighbours_of_a_size_are_merged_and_three_are_not() -> None:
    assert plan(entries(20, 20, 20), max_rows=1000) == []
    assert plan(entries(20, 20, 20, 20), max_rows=1000) == [range(4)]


def test_small_neighbours_are_merged_across_smaller_ones_but_not_across_a_large_one() -> None:
    assert plan(entries(20, 1, 20, 20, 20), max_rows=1000) == [range(5)]
    assert plan(entries(20, 20, 500, 20, 20), max_rows=10_000) == []
    assert plan(entries(500, 20, 20, 20, 20), max_rows=10_000) == [range(1, 5)]


def test_no_merge_is_larger_than_allowed() -> None:
    runs = plan(entries(*[20] * 12), max_rows=100)
    assert runs == [range(5), range(5, 10)]


def test_a_segment_that_is_largely_dead_or_damaged_is_written_again_alone() -> None:
    assert plan(entries(100, dead=21), max_rows=1000) == [range(1)]
    assert plan(entries(100, dead=20), max_rows=1000) == []
    assert plan(entries(100, dead=1), max_rows=1000, purge=True) == [range(1)]
    assert plan(entries(100, 5000), max_rows=1000, damaged={"s1"}) == [range(1, 2)]


def test_the_number_of_segments_grows_with_the_logarithm_of_the_publications() -> None:
    live: list[SegmentEntry] = []
    for n in range(600):
        live.append(SegmentEntry(f"s{n}", n, n + 1, 10, 10))
        for run in reversed(plan(live, max_rows=10**9)):
            merged = live[run.start : run.stop]
            rows = sum(entry.rows for entry in merged)
            live[run.start : run.stop] = [SegmentEntry(f"m{n}", merged[0].lo, merged[-1].hi, rows, rows)]
        assert all(left.hi == right.lo for left, right in pairwise(live))
    assert sum(entry.rows for entry in live) == 6000
    assert len(live) <= 16

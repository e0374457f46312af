"""Columns say of each row what plain Python says, in memory and mapped from a file, alone and merged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.index import columns as columns_module
from storage.index import delta
from storage.index.bitmaps import bitmap_of, rows_in
from storage.index.column_file import map_columns, write_columns
from storage.index.columns import columns, differing, joined, raw_rows
from storage.index.part import Part, build_part, merge
from tests.plain_rows import PlainRow, plain, raw

if TYPE_CHECKING:
    from pathlib import Path

    from storage.index.rows import Rows

SIZE = 4
TAGS = 6
UNITS = np.array([500, 0, 300, 9999, 500, 500], dtype=np.int32)

KEYS = st.one_of(
    st.binary(max_size=6),
    st.lists(st.sampled_from([b"a", b"b", b"\xff", b"\x00", b"/"]), max_size=5).map(b"".join),
    st.text(max_size=4).map(lambda text: text.encode("utf-8", "replace")),
)
ROWS = st.lists(
    st.builds(
        PlainRow,
        id=st.integers(1, 2**62),
        key=KEYS,
        tags=st.dictionaries(st.integers(0, TAGS - 1), st.integers(0, 10_000), max_size=TAGS),
        archive=st.integers(1, 3),
        job=st.integers(0, 2**40),
        modified=st.integers(-(2**63), 2**50),
        size=st.integers(0, 2**50),
    ),
    max_size=40,
    unique_by=lambda row: row.id,
).map(lambda rows: sorted(rows, key=lambda row: row.id))


def check(rows: Rows, expected: list[PlainRow]) -> None:
    assert plain(raw_rows(rows)) == expected
    for tag_id in range(TAGS + 1):
        having = [(n, row.tags[tag_id]) for n, row in enumerate(expected) if tag_id in row.tags]
        found_rows, found_scores = rows.tags.postings(tag_id)
        assert list(zip(found_rows.tolist(), found_scores.tolist(), strict=True)) == having
        own = int(UNITS[tag_id]) if tag_id < TAGS else 0
        for units in {own, 0, 250, 9_999}:
            assert list(rows.tags.above(tag_id, units)) == [n for n, score in having if score > units]
    counts = [sum(row.tags.get(tag_id, -1) > UNITS[tag_id] for row in expected) for tag_id in range(TAGS)]
    assert rows.tags.assigned_counts.tolist() == counts
    assert rows.tags.assigned_units.tolist() == UNITS.tolist()


@given(ROWS)
def test_columns_hold_what_the_rows_hold_both_ways_round(rows: list[PlainRow]) -> None:
    check(columns(raw(rows), UNITS), rows)


@settings(max_examples=40)
@given(ROWS)
def test_columns_are_the_same_after_they_were_written_and_mapped(
    tmp_path_factory: pytest.TempPathFactory, rows: list[PlainRow]
) -> None:
    path = tmp_path_factory.mktemp("columns") / "columns.bin"
    with path.open("wb") as stream:
        layout = write_columns(columns(raw(rows), UNITS), stream.write)
    mapped = map_columns(path, layout)
    check(mapped, rows)
    for row in rows:
        assert expected_below(rows, row.key[:2]) == sorted(mapped.keys.below(row.key[:2]).tolist())


def expected_below(rows: list[PlainRow], prefix: bytes) -> list[int]:
    return [n for n, row in enumerate(rows) if row.key.startswith(prefix)]


@given(ROWS, KEYS)
def test_keys_are_found_by_any_prefix_even_of_the_highest_bytes(rows: list[PlainRow], prefix: bytes) -> None:
    keys = columns(raw(rows), UNITS).keys
    for wanted in (prefix, b"", b"\xff", b"\xff\xff", prefix[:1]):
        assert sorted(keys.below(wanted).tolist()) == expected_below(rows, wanted)


def test_a_file_that_is_shorter_than_its_description_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "columns.bin"
    with path.open("wb") as stream:
        layout = write_columns(columns(raw([PlainRow(1, b"k", {1: 5})]), UNITS), stream.write)
    with pytest.raises(ValueError, match=r"no column rows\.ids"):
        map_columns(path, {name: facts for name, facts in layout.items() if name != "rows.ids"})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="ends before column"):
        map_columns(path, layout)


def test_rows_out_of_order_are_refused() -> None:
    for ids in ([2, 1], [1, 1]):
        with pytest.raises(ValueError, match="ascending"):
            columns(raw([PlainRow(number) for number in ids]), UNITS)


def test_a_tag_that_the_vocabulary_has_not_is_kept_and_never_assigned_of_itself() -> None:
    found = columns(raw([PlainRow(1, tags={TAGS + 3: 10_000})]), UNITS).tags
    assert found.postings(TAGS + 3)[0].tolist() == [0]
    assert found.assigned_counts.tolist() == [0] * (TAGS + 4)
    assert list(found.above(TAGS + 3, 9000)) == [0]
    assert list(found.above(TAGS + 30, 0)) == list(found.above(-1, 0)) == []


def test_only_so_many_bitmaps_are_kept_and_the_answers_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "KEPT_BITMAPS", 3)
    tags = columns(raw([PlainRow(n, tags={0: n}) for n in range(1, 50)]), UNITS).tags
    for units in (10, 20, 30, 40, 10, 500, 40):
        assert len(tags.above(0, units)) == max(0, 49 - units)
        assert tags.above(0, units) is tags.above(0, units)
    assert len(tags._kept._bitmaps) == 3


def test_bitmaps_and_row_numbers_turn_into_each_other() -> None:
    for rows in ([], [0], [5, 3, 70_000, 2**31]):
        assert rows_in(bitmap_of(np.array(rows, dtype=np.uint32))).tolist() == sorted(rows)


@given(ROWS, st.data())
def test_rows_that_differ_in_anything_are_told(rows: list[PlainRow], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.sampled_from(rows or [PlainRow(1)]), min_size=len(rows), max_size=len(rows)))
    changed = [data.draw(st.sampled_from([row, other, replace(row, tags=other.tags), replace(row, key=other.key)]))
               for row, other in zip(rows, others, strict=True)]  # fmt: skip
    expected = [row != other for row, other in zip(rows, changed, strict=True)]
    assert differing(raw(rows), raw(changed)).tolist() == expected


# Parts and the delta


def vector(image_id: int, version: int) -> np.ndarray:
    found = np.random.default_rng([image_id, version]).standard_normal(SIZE)
    return (found / np.linalg.norm(found)).astype(np.float16)


def a_part(rows: list[PlainRow]) -> Part:
    codes = np.array([vector(row.id, row.job) for row in rows], dtype=np.float16).reshape(-1, SIZE)
    return build_part([(raw(rows), codes)], SIZE, UNITS)


def live(parts: tuple[Part, ...]) -> dict[int, PlainRow]:
    """The live rows of all parts, each with the vector that belongs to it."""
    found: dict[int, PlainRow] = {}
    for part in parts:
        for n, row in enumerate(plain(raw_rows(part.rows))):
            if part.live is None or n in part.live:
                assert row.id not in found
                np.testing.assert_array_equal(part.vector(n), vector(row.id, row.job).astype(np.float32))
                found[row.id] = row
    return found


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sets(st.integers(1, 30), max_size=9), st.sets(st.integers(1, 30), max_size=3)), max_size=25)
)
def test_the_delta_holds_the_newest_row_of_each_image_in_few_parts(steps: list[tuple[set[int], set[int]]]) -> None:
    parts: tuple[Part, ...] = ()
    held: dict[int, PlainRow] = {}
    for version, (written, erased) in enumerate(steps):
        before, expected_before = parts, dict(held)
        rows = [PlainRow(n, f"{n}-{version}".encode(), {n % TAGS: version}, job=version) for n in sorted(written)]
        gone = np.array(sorted(erased), dtype=np.int64)
        newest = a_part(rows)
        parts = delta.without(parts, np.union1d(newest.rows.ids, gone))
        parts = delta.appended(parts, newest.without(gone))
        held |= {row.id: row for row in rows}
        for image_id in erased:
            held.pop(image_id, None)
        assert live(parts) == held
        assert live(before) == expected_before  # an older view stays as it was
        assert len(parts) <= delta.MOST_PARTS
        assert all(part.live_count for part in parts)


def test_merged_parts_are_one_part_in_order() -> None:
    left = a_part([PlainRow(n, b"left", {1: n}) for n in (1, 4, 9)]).without(np.array([4]))
    right = a_part([PlainRow(n, b"right", {2: n}) for n in (2, 4)])
    merged = merge([left, right])
    assert merged.live is None
    check(merged.rows, [row for _, row in sorted(live((left, right)).items())])
    assert merged.rows.ids.tolist() == [1, 2, 4, 9]


def test_nothing_joined_is_no_rows() -> None:
    assert len(joined([])) == 0
    assert plain(joined([raw([PlainRow(1, b"a", {1: 2})]), raw([]), raw([PlainRow(2)])])) == [
        PlainRow(1, b"a", {1: 2}),
        PlainRow(2),
    ]

"""Long lists of nearest images are kept, and are what a search would find."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap

from storage.index import ann, kept_lists
from storage.index.part import Part, build_part
from storage.index.selection import Selection
from tests.unit.test_orders import raw_rows

COUNT, SIZE = 3_000, 16


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    vectors = np.random.default_rng(3).normal(size=(COUNT + 50, SIZE)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def published(codes: np.ndarray) -> Part:
    """A part with lists, as a large segment has them."""
    part = part_of(codes, 0, COUNT)
    return Part(part.rows, ann.with_lists(part.vectors, flat_rows=10))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each search asked for."""
    kept_lists.kept.cache_clear()
    asked: list[int] = []
    plain = Selection.nearest

    def nearest(selection: Selection, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(k)
        return plain(selection, query, k)

    monkeypatch.setattr(Selection, "nearest", nearest)
    return asked


def part_of(codes: np.ndarray, start: int, stop: int) -> Part:
    ids = np.arange(start + 1, stop + 1, dtype=np.int64)
    return build_part([(raw_rows(ids), codes[start:stop])], SIZE, np.zeros(1, dtype=np.int32))


def test_a_long_list_is_searched_for_once(published: Part, codes: np.ndarray, searches: list[int]) -> None:
    query = codes[0].astype(np.float32)
    found = Selection(((published, None),), is_narrowed=False)
    ids, cosines = kept_lists.nearest(found, query, 1_000)
    again = kept_lists.nearest(Selection(((published, None),), is_narrowed=False), query, 600)
    assert searches == [1_000]
    assert again[0].tolist() == ids[:600].tolist()
    assert again[1].tolist() == cosines[:600].tolist()
    kept_lists.nearest(found, query, 1_200)
    kept_lists.nearest(found, codes[1].astype(np.float32), 600)
    kept_lists.nearest(found, query, 10)
    assert searches == [1_000, 1_200, 600, 10], "deeper, another query, and short lists"


def test_another_selection_is_searched_again(published: Part, codes: np.ndarray, searches: list[int]) -> None:
    query = codes[0].astype(np.float32)
    some = BitMap(range(0, COUNT, 2))
    for rows in (some, BitMap(some), BitMap(range(1, COUNT, 2))):
        ids, _ = kept_lists.nearest(Selection(((published, rows),), is_narrowed=True), query, 700)
        assert set(ids.tolist()) <= {row + 1 for row in rows}
    assert searches == [700, 700]
    dead = Part(published.rows, published.vectors, BitMap(range(1, COUNT)))
    ids, _ = kept_lists.nearest(Selection(((dead, dead.live),), is_narrowed=False), query, 700)
    assert 1 not in ids.tolist()


def test_newer_rows_are_found_beside_a_kept_list(published: Part, codes: np.ndarray, searches: list[int]) -> None:
    query = codes[COUNT + 5].astype(np.float32)
    kept_lists.nearest(Selection(((published, None),), is_narrowed=False), query, 800)
    newer = part_of(codes, COUNT, COUNT + 50)
    both = Selection(((published, None), (newer, None)), is_narrowed=False)
    ids, cosines = kept_lists.nearest(both, query, 800)
    assert ids[0] == COUNT + 6
    assert len(ids) == len(set(ids.tolist())) == 800
    assert (np.diff(cosines) <= 0).all()
    assert searches == [800, 800], "of the newer rows only"
    assert set(range(COUNT + 1, COUNT + 51)) & set(ids.tolist())

"""The order of regions like a region, and the rows of the images that a search chose. Without a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.index.condition import All, Not, OneOf
from storage.index.evaluate import matching
from storage.index.part import Part, build_part
from storage.index.selection import Selection
from storage.search.like_region import ByLikeness
from storage.search.orders import ByVector
from tests.unit.test_orders import raw_rows

if TYPE_CHECKING:
    from storage.index.rows import Rows

SIZE, ALIKE, EACH = 16, 12, 512


def part_of(ids: np.ndarray, codes: np.ndarray) -> Part:
    return build_part([(raw_rows(ids), codes)], SIZE, np.zeros(1, dtype=np.int32))


@pytest.fixture(scope="module")
def found() -> Selection:
    """Rows in two parts. A dozen each have the same vector."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(20, SIZE)).astype(np.float32)
    codes = np.repeat((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), ALIKE, axis=0)
    ids = random.permutation(np.arange(1, len(codes) + 1, dtype=np.int64))
    order = np.argsort(ids)
    ids, codes = ids[order], codes[order]
    parts = [part_of(ids[chosen], codes[chosen]) for chosen in (ids % 3 == 0, ids % 3 != 0)]
    return Selection(tuple((part, None) for part in parts), is_narrowed=False)


def vector_of(found: Selection, row_id: int) -> np.ndarray:
    part, _ = found.parts[0 if row_id % 3 == 0 else 1]
    return part.vectors.codes(part.rows_of(np.array([row_id]))).astype(np.float32)[0]


def paged(order: ByVector | ByLikeness, size: int) -> list[int]:
    taken, after = [], None
    while images := order.take(after, size).images:
        taken += [image.image_id for image in images]
        after = images[-1].after
    return taken


@pytest.mark.parametrize("size", [1, 5, 7, 12, 100])
def test_pages_that_end_among_equal_neighbours_do_not_overlap(found: Selection, size: int) -> None:
    vector = vector_of(found, 1)
    whole, _ = found.nearest(vector, len(found))
    assert paged(ByVector(found, vector, None), size) == whole.tolist()


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("own", [1, 90, 240])
def test_a_region_comes_before_all_that_are_equally_like_it(found: Selection, own: int, size: int) -> None:
    vector = vector_of(found, own)
    others = [row_id for row_id in found.nearest(vector, len(found))[0].tolist() if row_id != own]
    order = ByLikeness(found, vector, own, 1)
    assert paged(order, size) == [own, *others]
    assert order.take(None, size).total == len(found)
    after = order.take(None, 3).images[-1].after
    assert order.take(after, size).total == len(found)
    assert [image.after[0] for image in order.take(after, 2).images] == [4, 5]


def test_a_region_that_the_rest_of_the_search_excludes_is_not_there(found: Selection) -> None:
    left = found.among(np.arange(100, 200, dtype=np.int64))
    order = ByLikeness(left, vector_of(found, 1), 1, 1)
    assert sorted(paged(order, 7)) == list(range(100, 200))
    assert order.take(None, 3).total == 100


@pytest.mark.parametrize("count", [0, 1, 3, 40, 99])
def test_the_rows_of_images_are_all_those_of_each(count: int) -> None:
    random = np.random.default_rng(count)
    images = np.arange(1, 100)
    ids = np.concatenate([image * EACH + np.arange(1, 1 + random.integers(0, 9)) for image in images]).astype(np.int64)
    codes = np.tile(np.eye(1, SIZE, dtype=np.float16), (len(ids), 1))
    part = part_of(ids, codes)
    rows: Rows = part.rows
    wanted = np.sort(random.choice(images, count, replace=False)).astype(np.int64)
    expected = [row for row, row_id in enumerate(ids.tolist()) if row_id // EACH in wanted]
    condition = OneOf(wanted, EACH)
    assert list(matching(rows, condition)) == expected
    assert list(matching(rows, All((condition, Not(condition))))) == []
    assert len(matching(rows, Not(condition))) == len(ids) - len(expected)
    assert part.rows_of_images(wanted, EACH).tolist() == expected

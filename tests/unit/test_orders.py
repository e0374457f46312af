"""The order of a search by text, over several parts, against the same in plain Python."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from pyroaring import BitMap

from storage.index.columns import RawRows
from storage.index.part import Part, build_part
from storage.index.selection import Selection
from storage.orders import ByText, ByVector
from storage.ranking import FUSION_DEPTH

COUNT = 700
SIZE = 16


def raw_rows(ids: np.ndarray) -> RawRows:
    """Rows of which only the ids matter."""
    count = len(ids)
    return RawRows(
        ids=ids,
        archives=np.ones(count, dtype=np.int32),
        jobs=np.ones(count, dtype=np.int64),
        modified=np.zeros(count, dtype=np.int64),
        sizes=np.ones(count, dtype=np.int64),
        key_offsets=np.arange(count + 1, dtype=np.int64),
        key_bytes=np.full(count, ord("k"), dtype=np.uint8),
        tag_offsets=np.zeros(count + 1, dtype=np.int64),
        tags=np.empty(0, dtype=np.int16),
        scores=np.empty(0, dtype=np.int16),
    )


@dataclass(frozen=True)
class Archive:
    """Images in two parts, one in seven of them dead, and a text's vector."""

    found: Selection
    query: np.ndarray
    cosines: dict[int, float]

    @property
    def nearest(self) -> list[int]:
        return sorted(self.cosines, key=lambda image_id: (-self.cosines[image_id], image_id))

    def floor(self, kept: int) -> float:
        """A floor that so many images are above."""
        upper, lower = (self.cosines[self.nearest[place]] for place in (kept - 1, kept))
        return (upper + lower) / 2


@pytest.fixture(scope="module")
def archive() -> Archive:
    random = np.random.default_rng(11)
    vectors = random.normal(size=(COUNT, SIZE)).astype(np.float32)
    codes = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    query = codes[0].astype(np.float32)
    ids = np.arange(1, COUNT + 1, dtype=np.int64)
    units = np.zeros(1, dtype=np.int32)
    parts = []
    for chosen in (ids % 3 == 0, ids % 3 != 0):
        part = build_part([(raw_rows(ids[chosen]), codes[chosen])], SIZE, units)
        live = BitMap(np.flatnonzero(ids[chosen] % 7 != 0).astype(np.uint32))
        parts.append((Part(part.rows, part.vectors, live), live))
    pairs = zip(ids.tolist(), (codes.astype(np.float32) @ query).tolist(), strict=True)
    cosines = {image_id: cosine for image_id, cosine in pairs if image_id % 7}
    return Archive(Selection(tuple(parts), is_narrowed=False), query, cosines)


def some(archive: Archive, count: int) -> np.ndarray:
    """Images that a text's tags brought, in an order of their own."""
    return np.random.default_rng(count).permutation(np.array(list(archive.cosines)))[:count]


def expected(archive: Archive, floor: float, named: np.ndarray, *, is_whole: bool) -> list[int]:
    """The same order, from its description."""
    near = [image_id for image_id in archive.nearest if archive.cosines[image_id] >= floor]
    scores = {image_id: 1 / (60 + rank) for rank, image_id in enumerate(near[:FUSION_DEPTH], start=1)}
    tags = named.tolist()[:FUSION_DEPTH]
    if not is_whole:
        tags = [image_id for image_id in tags if image_id in scores]
    for rank, image_id in enumerate(tags, start=1):
        scores[image_id] = scores.get(image_id, 0) + 0.25 / (60 + rank)
    order = near
    if tags:
        first = sorted(scores, key=lambda image_id: (-scores[image_id], image_id))
        order = first + [image_id for image_id in near if image_id not in scores]
    return order + [image_id for image_id in named.tolist() if is_whole and image_id not in order]


def paged(order: ByText, size: int) -> list[int]:
    """All images of an order, taken by pages."""
    taken, after = [], None
    while images := order.take(after, size).images:
        taken += images
        after = images[-1].after
    return [image.image_id for image in taken]


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("tagged", [0, 1, 40, 350])
@pytest.mark.parametrize("kept", [1, 25, 199, 200, 201, 430, None])
def test_a_text_orders_as_described_whatever_the_size_of_its_pages(
    archive: Archive, kept: int | None, tagged: int, *, is_whole: bool
) -> None:
    floor = -np.inf if kept is None else archive.floor(kept)
    named = some(archive, tagged)
    order = ByText(archive.found, archive.query, floor, named, is_whole)
    wanted = expected(archive, floor, named, is_whole=is_whole)
    assert paged(order, len(archive.cosines)) == wanted
    assert paged(order, 19) == wanted
    assert order.take(None, len(archive.cosines)).total == len(wanted)


def test_the_score_of_a_hit_is_its_cosine_also_where_a_tag_brought_it(archive: Archive) -> None:
    far = archive.nearest[-1]
    order = ByText(archive.found, archive.query, archive.floor(3), np.array([far]), is_whole=True)
    images = order.take(None, 10).images
    assert far in {image.image_id for image in images}
    for image in images:
        assert image.score == pytest.approx(archive.cosines[image.image_id], abs=1e-5)


def test_what_is_below_the_floor_is_not_taken_and_the_total_says_so(archive: Archive) -> None:
    order = ByText(archive.found, archive.query, 1.5, np.empty(0, dtype=np.int64), is_whole=False)
    taken = order.take(None, 10)
    assert (taken.images, taken.total) == ([], 0)


def test_the_total_is_unknown_until_the_end_was_seen(archive: Archive) -> None:
    nothing = np.empty(0, dtype=np.int64)
    order = ByText(archive.found, archive.query, archive.floor(50), nothing, is_whole=False)
    assert order.take(None, 50).total is None
    assert order.take(None, 51).total == 50
    everything = ByText(archive.found, archive.query, -np.inf, nothing, is_whole=False)
    assert everything.take(None, 5).total == len(archive.cosines)


def test_a_text_that_names_no_tag_orders_as_its_vector_does(archive: Archive) -> None:
    by_text = ByText(archive.found, archive.query, -np.inf, np.empty(0, dtype=np.int64), is_whole=False)
    by_vector = ByVector(archive.found, archive.query, None)
    assert [image.image_id for image in by_text.take(None, 30).images] == [
        image.image_id for image in by_vector.take(None, 30).images
    ]
    assert by_text.take((12,), 7) == by_vector.take((12,), 7)

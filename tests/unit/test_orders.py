"""The order of a search by text, over several parts, against the same in plain Python."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from pyroaring import BitMap

from storage.index.part import Part, build_part
from storage.index.selection import Selection
from storage.results.projection import RawRows
from storage.search import orders
from storage.search import query as queries
from storage.search.orders import ByText, ByVector
from storage.search.ranking import TAG_WEIGHT

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


def shares(named: np.ndarray) -> np.ndarray:
    """Mean scores of the tags that a text names, of the images that have them all."""
    return np.linspace(0.9, 0.3, len(named))


def by_text(archive: Archive, floor: float, named: np.ndarray, *, is_whole: bool = False) -> ByText:
    return ByText(archive.found, archive.query, floor, named, shares(named), is_whole)


def expected(archive: Archive, floor: float, named: np.ndarray, *, is_whole: bool) -> list[int]:
    """The same order, from its description."""
    scores = dict(archive.cosines)
    for image_id, share in zip(named.tolist(), shares(named).tolist(), strict=True):
        scores[image_id] += TAG_WEIGHT * share
    hits = {image_id for image_id, cosine in archive.cosines.items() if cosine >= floor}
    if is_whole:
        hits |= set(named.tolist())
    return sorted(hits, key=lambda image_id: (-scores[image_id], image_id))


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
    order = by_text(archive, floor, named, is_whole=is_whole)
    wanted = expected(archive, floor, named, is_whole=is_whole)
    assert paged(order, len(archive.cosines)) == wanted
    assert paged(order, 19) == wanted
    assert order.take(None, len(archive.cosines)).total == len(wanted)


@pytest.mark.parametrize("is_whole", [False, True])
def test_scores_are_the_numbers_that_rank(archive: Archive, *, is_whole: bool) -> None:
    named = some(archive, 40)
    order = by_text(archive, archive.floor(60), named, is_whole=is_whole)
    images = order.take(None, 100).images
    scores = [image.score for image in images]
    assert scores == sorted(scores, reverse=True)
    added = dict(zip(named.tolist(), shares(named).tolist(), strict=True))
    for image in images:
        wanted = archive.cosines[image.image_id] + TAG_WEIGHT * added.get(image.image_id, 0)
        assert image.score == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kept", [1, 60, 430])
def test_the_hits_of_a_text_are_those_of_all_its_pages(archive: Archive, kept: int) -> None:
    order = by_text(archive, archive.floor(kept), some(archive, 40), is_whole=True)
    hits = order.hits()
    assert hits is not None
    assert hits.tolist() == paged(order, 50)
    chosen = archive.found.among(hits)
    assert len(chosen) == len(hits)
    assert all(image_id in chosen for image_id in hits.tolist())
    assert by_text(archive, -np.inf, some(archive, 40)).hits() is None


def test_what_is_below_the_floor_is_not_taken_and_the_total_says_so(archive: Archive) -> None:
    order = by_text(archive, 1.5, np.empty(0, dtype=np.int64))
    taken = order.take(None, 10)
    assert (taken.images, taken.total) == ([], 0)


def test_the_total_of_many_images_is_unknown_until_the_end_was_seen(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.empty(0, dtype=np.int64)
    order = by_text(archive, archive.floor(50), nothing)
    assert (order.take(None, 5).total, order.take(None, 5).below) == (50, 550)
    monkeypatch.setattr(orders, "COUNTED", 599)
    assert order.take(None, 50).total is None
    assert order.take(None, 51).total == 50
    everything = by_text(archive, -np.inf, nothing)
    assert everything.take(None, 5).total == len(archive.cosines)


def test_a_text_that_names_no_tag_orders_as_its_vector_does(archive: Archive) -> None:
    text = by_text(archive, -np.inf, np.empty(0, dtype=np.int64))
    by_vector = ByVector(archive.found, archive.query, None)
    assert [image.image_id for image in text.take(None, 30).images] == [
        image.image_id for image in by_vector.take(None, 30).images
    ]
    after = text.take(None, 12).images[-1].after
    ours, its = text.take(after, 7).images, by_vector.take(after, 7).images
    assert [(image.image_id, image.score) for image in ours] == [(image.image_id, image.score) for image in its]
    assert all(image.similarity == image.score for image in ours)


def test_where_nothing_has_a_vector_nothing_is_found(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    monkeypatch.setattr(Selection, "nearest", lambda *_, **__: nothing)
    for order in (by_text(archive, 0.1, nothing[0]), ByVector(archive.found, archive.query, None, 0.1)):
        listed = order.listed(10)
        assert listed.is_complete
        assert not len(listed.ids)


def test_the_last_page_of_a_ranking_looks_no_further_than_its_end(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_FIRST_LOOK", 250)
    monkeypatch.setattr(queries, "MAX_OFFSET", 300)
    order = ByVector(archive.found, archive.query, None)
    after = order.take(None, 290).images[-1].after
    looked: list[int] = []
    listed = ByVector.listed
    monkeypatch.setattr(ByVector, "listed", lambda order, count: looked.append(count) or listed(order, count))
    assert len(order.take(after, 11).images) == 10
    assert looked == [300]

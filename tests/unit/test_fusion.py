"""Several orders as one, and orders by a vector with a floor, against the same in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.index.part import Part, build_part
from storage.index.selection import Selection
from storage.search.fusion import Fused, InSpace, chosen_by
from storage.search.orders import ByText, ByVector
from storage.search.ranking import Background
from tests.unit.test_orders import raw_rows

if TYPE_CHECKING:
    from pyroaring import BitMap

    from storage.search.orders import Order

COUNT, SIZE, OWN = 400, 16, 12
NOTHING = np.empty(0, dtype=np.int64)


class Space:
    """The vectors of some images, in two parts, and a query."""

    def __init__(self, seed: int, ids: np.ndarray) -> None:
        random = np.random.default_rng(seed)
        vectors = random.normal(size=(len(ids), SIZE)).astype(np.float32)
        codes = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        self.query = codes[-1].astype(np.float32)
        parts: list[tuple[Part, BitMap | None]] = []
        for chosen in (ids % 2 == 0, ids % 2 == 1):
            part = build_part([(raw_rows(ids[chosen]), codes[chosen])], SIZE, np.zeros(1, dtype=np.int32))
            parts.append((part, None))
        self.found = Selection(tuple(parts), is_narrowed=False)
        found = self.found.nearest(self.query, len(ids))
        self.cosines = dict(zip(*(each.tolist() for each in found), strict=True))

    def floor(self, kept: int | None) -> float:
        if kept is None:
            return -np.inf
        cosines = [2.0, *self.cosines.values()]
        return (cosines[kept] + cosines[kept + 1]) / 2

    def nearest(self, kept: int | None, without: int | None) -> list[int]:
        return [image_id for image_id in list(self.cosines)[:kept] if image_id != without]


ALL = np.arange(1, COUNT + 1, dtype=np.int64)


@pytest.fixture(scope="module")
def text() -> Space:
    return Space(1, ALL)


@pytest.fixture(scope="module")
def look() -> Space:
    """Only three in four images have a vector there."""
    return Space(2, ALL[ALL % 4 > 0])


def in_text(text: Space, kept: int | None) -> InSpace:
    order = ByText(text.found, text.query, text.floor(kept), NOTHING, np.empty(0), is_whole=False)
    return InSpace(text.found, order, "text", "text", 1)


def in_look(text: Space, look: Space, kept: int | None, own: int | None = OWN + 1) -> InSpace:
    return InSpace(text.found, ByVector(look.found, look.query, own, look.floor(kept)), "look", "image", 2)


def expected(lists: list[list[int]]) -> list[tuple[int, float]]:
    """Reciprocal rank fusion, from its description."""
    scores: dict[int, float] = {}
    for ids in lists:
        for rank, image_id in enumerate(ids, 1):
            scores[image_id] = scores.get(image_id, 0) + 1 / (60 + rank)
    return sorted(scores.items(), key=lambda pair: (-round(pair[1], 12), pair[0]))


def paged(order: Order, size: int) -> list[tuple[int, float]]:
    taken, after = [], None
    while images := order.take(after, size).images:
        taken += [(image.image_id, image.score) for image in images]
        after = images[-1].after
    return taken


@pytest.mark.parametrize("size", [1, 7, 50, COUNT])
@pytest.mark.parametrize("kept", [(None, None), (30, None), (30, 40), (1, 1)])
def test_ranks_are_fused_as_described_whatever_the_size_of_pages(
    text: Space, look: Space, kept: tuple[int | None, int | None], size: int
) -> None:
    own = OWN + 1
    order = Fused.of(text.found, [in_text(text, kept[0]), in_look(text, look, kept[1])], own)
    wanted = expected([text.nearest(kept[0], own), look.nearest(kept[1], own)])
    found = paged(order, size)
    assert [image_id for image_id, _ in found] == [image_id for image_id, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score * 61 / 2 for _, score in wanted])


def test_each_image_says_where_each_space_ranks_it(text: Space, look: Space) -> None:
    own = OWN + 1
    order = Fused.of(text.found, [in_text(text, 30), in_look(text, look, 40)], own)
    by_text, by_look = text.nearest(30, own), look.nearest(40, own)
    after = order.take(None, 3).images[-1].after
    for image in order.take(after, 40).images:
        wanted = [
            (name, of, ids.index(image.image_id) + 1, pytest.approx(cosines[image.image_id], abs=1e-4))
            for name, of, ids, cosines in (
                ("text", "text", by_text, text.cosines),
                ("look", "image", by_look, look.cosines),
            )
            if image.image_id in ids
        ]
        assert [(one.space, one.of, one.rank, one.similarity) for one in image.spaces] == wanted
    [first] = in_look(text, look, None).take(None, 1).images
    assert [(one.space, one.of, one.rank) for one in first.spaces] == [("look", "image", 1)]
    assert first.spaces[0].similarity == first.score


def test_totals_are_those_of_all_orders_together(text: Space, look: Space) -> None:
    own = OWN + 1
    both = set(text.nearest(30, own)) | set(look.nearest(40, own))
    cut = Fused.of(text.found, [in_text(text, 30), in_look(text, look, 40)], own)
    assert (cut.take(None, 5).total, cut.take(None, 5).below) == (len(both), COUNT - 1 - len(both))
    hits = chosen_by(cut)
    assert hits is not None
    assert set(hits.tolist()) == both
    whole = Fused.of(text.found, [in_text(text, None), in_look(text, look, 40)], own)
    assert (whole.take(None, 5).total, whole.take(None, 5).below) == (COUNT - 1, 0)
    assert chosen_by(whole) is None
    assert [each.unranked for each in whole.orders] == [0, COUNT // 4]
    partly = Fused.of(text.found, [in_look(text, look, 40, None), in_look(text, look, 9, None)], None)
    assert (partly.take(None, 5).total, partly.take(None, 5).below) == (40, len(look.cosines) - 40)
    # Two spaces with vectors of some images each: what is in neither is not below.
    other = Space(3, ALL[ALL % 4 < 2])
    some = Fused.of(text.found, [in_look(text, look, 40, None), in_look(text, other, 9, None)], None)
    assert (some.take(None, 5).total, some.take(None, 5).below) == (len(some.ids), COUNT - len(some.ids))
    none = Fused.of(text.found, [in_look(text, look, 0, None), in_look(text, look, 0, None)], None)
    assert (none.take(None, 5).total, none.take(None, 5).below) == (0, len(look.cosines))


def test_what_an_order_has_beyond_its_depth_gets_nothing_for_it(text: Space, look: Space) -> None:
    order = Fused.of(text.found, [in_text(text, 60), in_look(text, look, None, None)], None, 25)
    wanted = expected([text.nearest(25, None), look.nearest(25, None)])
    assert [image_id for image_id, _ in paged(order, 4)] == [image_id for image_id, _ in wanted]
    assert (order.take(None, 4).total, order.take(None, 4).below) == (len(wanted), None)
    hits = chosen_by(order)
    assert hits is not None
    assert hits.tolist() == [image_id for image_id, _ in wanted]


@pytest.mark.parametrize("kept", [1, 40, 150])
@pytest.mark.parametrize("size", [3, 39, 40, 41, COUNT])
def test_an_order_by_a_vector_ends_at_its_floor(look: Space, kept: int, size: int) -> None:
    own = look.nearest(5, None)[0]
    order = ByVector(look.found, look.query, own, look.floor(kept))
    assert [image_id for image_id, _ in paged(order, size)] == look.nearest(kept, own)
    ranked = order.take(None, COUNT).images
    last = order.take(ranked[-1].after if ranked else None, size)
    assert (last.images, last.total, last.below) == ([], kept - 1, len(look.cosines) - kept)
    hits = order.hits()
    assert hits is not None
    assert hits.tolist() == look.nearest(kept, own)


def test_the_background_of_images_is_that_of_their_pairs() -> None:
    random = np.random.default_rng(7)
    vectors = random.normal(size=(60, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.array([float(vectors[i] @ vectors[j]) for i in range(60) for j in range(i)])
    background = Background.of_pairs(vectors)
    for relevance in (0.5, 0.9, 0.99):
        below = float(np.mean(pairs < background.floor(relevance)))
        assert below == pytest.approx(relevance, abs=0.01)
    assert background.floor(0) == -np.inf

"""Where the page after a position begins, whatever came or went since."""

from __future__ import annotations

import numpy as np
import pytest

from storage.search import positions

COUNT = 40


def ordered(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in an order, several of them equally near."""
    scores = np.sort(random.integers(-9, 9, count).astype(np.float32) / 10)[::-1]
    ids = random.permutation(np.arange(1, count + 1))
    best = np.lexsort((ids, -scores))
    return ids[best].astype(np.int64), scores[best]


@pytest.mark.parametrize("seed", range(20))
def test_a_page_begins_behind_the_last_one_whatever_came_or_went(seed: int) -> None:
    random = np.random.default_rng(seed)
    ids, scores = ordered(random, COUNT)
    last = int(random.integers(COUNT))
    after = positions.position(last + 1, float(scores[last]), float(scores[last]), int(ids[last]))
    seen = set(ids[: last + 1].tolist())

    gone = random.random(COUNT) < 0.3
    come = np.arange(COUNT + 1, COUNT + 9), random.integers(-9, 9, 8).astype(np.float32) / 10
    now = np.concatenate([ids[~gone], come[0]]), np.concatenate([scores[~gone], come[1]])
    order = np.lexsort((now[0], -now[1]))
    ids_now, scores_now = now[0][order], now[1][order]

    begin = positions.begin(after, ids_now, scores_now, scores_now)
    following = ids_now[begin:].tolist()
    assert not seen & set(following)
    assert set(ids[last + 1 :][~gone[last + 1 :]].tolist()) <= set(following)


def test_an_image_that_changed_does_not_carry_the_page_with_it() -> None:
    ids, cosines = np.array([4, 1, 2, 3]), np.array([0.9, 0.8, 0.7, 0.1], dtype=np.float32)
    after = positions.position(2, 0.75, 0.75, 3)  # image 3 was behind 4 and 1 then
    assert positions.begin(after, ids, cosines, cosines) == 2


def after_the_third(scores: np.ndarray, cosines: np.ndarray) -> tuple[int, ...]:
    """The position behind image 3, the third of images 1, 2, …"""
    return positions.position(3, float(scores[2]), float(cosines[2]), 3)


def test_the_page_does_not_follow_its_last_image_when_that_gains_a_tag() -> None:
    cosines = np.linspace(0.5, 0.4, 6, dtype=np.float32)
    after = after_the_third(cosines, cosines)
    ids, tagged = np.array([3, 1, 2, 4, 5, 6]), cosines[[2, 0, 1, 3, 4, 5]]
    scores = tagged + np.array([0.5, 0, 0, 0, 0, 0], dtype=np.float32)
    assert ids[positions.begin(after, ids, scores, tagged) :].tolist() == [4, 5, 6]


def test_the_page_does_not_follow_its_last_image_when_that_loses_a_tag() -> None:
    cosines = np.array([0.3, 0.29, 0.1, 0.28, 0.27, 0.26], dtype=np.float32)
    scores = cosines + np.array([0.5, 0.5, 0.5, 0, 0, 0], dtype=np.float32)
    after = after_the_third(scores, cosines)
    ids, order = np.array([1, 2, 4, 5, 6, 3]), [0, 1, 3, 4, 5, 2]
    scores[2] -= 0.5
    assert ids[positions.begin(after, ids, scores[order], cosines[order]) :].tolist() == [4, 5, 6, 3]


def test_the_page_goes_on_behind_its_last_image_when_the_scores_around_it_change_together() -> None:
    cosines = np.array([0.3, 0.29, 0.1, 0.28, 0.27, 0.26], dtype=np.float32)
    scores = np.linspace(0.9, 0.8, 6, dtype=np.float32)
    after, ids = after_the_third(scores, cosines), np.arange(1, 7)
    for change in (-0.5, 0.5):
        assert positions.begin(after, ids, scores + np.float32(change), cosines) == 3


def test_where_scores_depend_on_other_images_the_last_image_counts_alone() -> None:
    ids, scores = np.array([4, 1, 2, 3]), np.array([0.9, 0.8, 0.7, 0.1])
    after = positions.position(1, 0.75, 0, 1)
    assert positions.begin(after, ids, scores, None) == 2
    gone = positions.position(1, 0.75, 0, 77)
    assert positions.begin(gone, ids, scores, None) == 2


def test_a_cursor_that_nobody_gave_is_a_position_too() -> None:
    ids, scores = np.array([1, 2]), np.array([0.9, 0.8], dtype=np.float32)
    for bits in (0, 2**31, 2**32 - 1, 2**62):
        assert 0 <= positions.begin((2**62, bits, bits, 2**62), ids, scores, scores) <= 2

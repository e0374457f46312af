"""Ranking by text: which tags a text names, how two orders become one, and what counts as background."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.results.tag_names import TagNames, spread
from storage.search.ranking import DEFAULT_RELEVANCE, NOT_THIS, Background, away

NAMES = ("dog", "hot dog", "pony", "crane", "crane", "glass", "bus", "coffee cup", "Egyptian cat", "box", "cup")
NAMES_ZH = ("狗", "热狗", "小马", "鹤", "起重机", "玻璃", "巴士", None, "埃及猫", "盒子", None)
VOCABULARY = TagNames(NAMES, NAMES_ZH)


@pytest.mark.parametrize(
    ("text", "terms", "is_whole"),
    [
        ("a dog", ((0,),), True),
        ("Dogs and ponies", ((0,), (2,)), True),
        ("a hot dog", ((1,),), True),  # the longest name is meant, not the dog in it
        ("hotdog", (), False),
        ("a crane", ((3, 4),), True),  # a name that two tags share means both
        ("a photo of two coffee cups", ((7,),), False),  # "two" says something beside the tags
        ("cup of coffee", ((10,),), False),
        ("the dog, the dog!", ((0,),), True),
        ("egyptian cats in a box", ((8,), (9,)), True),
        ("glasses", ((5,),), True),
        ("buses", (), False),  # a plural that the simple rules do not know: not found, not confused
        ("热狗", ((1,),), True),
        ("狗和小马", ((0,), (2,)), False),
        ("狗 dog", ((0,),), True),
        ("of the", (), False),
        ("", (), False),
        ("?!", (), False),
    ],
)
def test_a_text_names_tags(text: str, terms: tuple[tuple[int, ...], ...], *, is_whole: bool) -> None:
    mention = VOCABULARY.mentioned(text)
    assert (mention.terms, mention.is_whole) == (terms, is_whole)


def test_every_name_of_a_vocabulary_names_its_own_tag() -> None:
    for tag_id, pair in enumerate(zip(NAMES, NAMES_ZH, strict=True)):
        for name in pair:
            if name is not None:
                (term,) = VOCABULARY.mentioned(name).terms
                assert tag_id in term


def test_an_empty_vocabulary_names_nothing() -> None:
    assert TagNames((), ()).mentioned("a dog").terms == ()


@given(st.text(max_size=60))
def test_any_text_can_be_asked(text: str) -> None:
    assert all(0 <= tag_id < len(NAMES) for term in VOCABULARY.mentioned(text).terms for tag_id in term)


def test_the_floor_lets_through_the_share_of_the_background_that_it_says() -> None:
    random = np.random.default_rng(7)
    vectors, names = (random.normal(size=(count, 16)).astype(np.float32) for count in (200, 100))
    pairs = vectors @ names.T
    background = Background.of(vectors, names)
    for relevance in (0.5, 0.9, DEFAULT_RELEVANCE, 0.99):
        assert (pairs >= background.floor(relevance)).mean() == pytest.approx(1 - relevance, abs=0.001)
    assert background.floor(0) == -np.inf
    assert background.floor(1) == pytest.approx(pairs.max())
    floors = [background.floor(relevance) for relevance in np.linspace(0, 1, 57)]
    assert floors == sorted(floors)


def test_the_floor_follows_the_scale_of_a_model() -> None:
    """CLIP's cosines of pictures with texts lie in a narrow range far below those of texts with each other."""
    random = np.random.default_rng(7)
    vectors, names = (random.normal(size=(count, 16)).astype(np.float32) for count in (50, 60))
    wide, narrow = Background.of(vectors, names), Background.of(vectors * 0.1, names)
    assert narrow.floor(0.9) == pytest.approx(0.1 * wide.floor(0.9), rel=1e-3)


@given(st.integers(0, 3000), st.integers(1, 300))
def test_a_sample_is_spread_over_everything(count: int, at_most: int) -> None:
    sample = spread(count, at_most)
    assert len(sample) == min(count, at_most)
    if len(sample) > 1:
        assert (sample[0], sample[-1]) == (0, count - 1)
        assert np.diff(sample).max() - np.diff(sample).min() <= 1


def test_a_vector_is_turned_away_from_the_mean_of_others() -> None:
    vector, near, far = np.eye(3, dtype=np.float32)
    turned = away(vector, np.stack([near, far]))
    assert turned.dtype == np.float32
    assert np.linalg.norm(turned) == pytest.approx(1)
    assert turned[1] == turned[2] < 0
    assert turned @ vector == pytest.approx(1 / np.sqrt(1 + 2 * (NOT_THIS / 2) ** 2), abs=1e-6)
    # Others that are the vector itself leave its direction.
    assert away(vector, np.stack([vector])) == pytest.approx(vector)

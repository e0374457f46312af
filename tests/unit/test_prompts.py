"""From tags to prompts: no tag is lost, and each knows its tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ram_core.errors import VocabularyError
from ram_core.localization.prompts import Packer, Prompt, phrase, span_scores

UNKNOWN = 100


def tokenize(words: str) -> list[int]:
    """One token for each word of a made-up language: w7 is token 1007."""
    return [1000 + int(word[1:]) if word.startswith("w") else UNKNOWN for word in words.split()]


def packer(most: int = 20) -> Packer:
    return Packer(tokenize, UNKNOWN, most)


def text_of(prompt: Prompt) -> list[int]:
    """The tokens as the model gets them: 1 starts, 2 ends, 0 is a full stop."""
    return [1, *(token for words in prompt.phrases for token in (*words, 0)), 2]


def test_each_tag_knows_its_tokens() -> None:
    [prompt] = packer().pack(["w5", "w1 w2", "w3 w4 w5"])
    assert prompt.phrases == ((1003, 1004, 1005), (1001, 1002), (1005,))
    assert prompt.spans == {"w3 w4 w5": range(1, 4), "w1 w2": range(5, 7), "w5": range(8, 9)}
    assert prompt.length == len(text_of(prompt)) == 11


def test_tags_that_do_not_fit_go_into_a_further_prompt() -> None:
    # Room for 8 tokens beside start and end; each tag takes one more for its full stop.
    prompts = packer(10).pack(["w1 w2 w3 w4", "w5 w6 w7", "w8 w9", "w10"])
    assert [[len(words) for words in prompt.phrases] for prompt in prompts] == [[4, 2], [3, 1]]


def test_tags_that_read_the_same_share_their_tokens() -> None:
    [prompt] = packer().pack(["w1 w2", "W1  w2", "w1. w2?"])
    assert prompt.phrases == ((1001, 1002),)
    assert set(prompt.spans.values()) == {range(1, 3)}
    assert len(prompt.spans) == 3


def test_words_that_two_tags_share_are_not_confused() -> None:
    [prompt] = packer().pack(["w1 w2", "w2 w3"])
    scores = np.zeros((2, 9), dtype=np.float32)
    scores[0, prompt.spans["w1 w2"].start + 1] = 0.9  # the w2 of "w1 w2"
    scores[1, prompt.spans["w2 w3"].start] = 0.8
    table = span_scores(scores, [prompt.spans["w1 w2"], prompt.spans["w2 w3"]])
    np.testing.assert_allclose(table, [[0.9, 0], [0, 0.8]])


def test_a_score_is_the_maximum_over_the_tag_and_neither_its_full_stop_nor_its_neighbours() -> None:
    scores = np.array([[0.9, 0.1, 0.4, 0.99, 0.3, 0.98, 0.97]], dtype=np.float32)
    np.testing.assert_allclose(span_scores(scores, [range(1, 3), range(4, 5)]), [[0.4, 0.3]])
    assert span_scores(scores, []).shape == (1, 0)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        (" ".join(f"w{i}" for i in range(9)), "has 9 tokens, but a prompt takes 7"),
        ("", "has no words"),
        ("...", "has no words"),
        ("xyz abc", "has no word that the detector knows"),
    ],
)
def test_what_no_prompt_can_hold_is_refused_by_name(tag: str, reason: str) -> None:
    assert packer(10).refused(["w1", tag]) == {tag: reason}
    with pytest.raises(VocabularyError, match="tag '") as caught:
        packer(10).pack(["w1", tag])
    assert repr(tag) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_longest_tag_that_fits_is_taken() -> None:
    [prompt] = packer(10).pack([" ".join(f"w{i}" for i in range(7))])
    assert prompt.length == 10


@pytest.mark.parametrize(
    ("tag", "read"),
    [("St. Bernard", "st bernard"), ("  Remote\tControl ", "remote control"), ("who?", "who"), ("T-shirt", "t-shirt")],
)
def test_a_tag_is_read_in_small_letters_and_without_ends_of_phrases(tag: str, read: str) -> None:
    assert phrase(tag) == read


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), max_size=60).map(
        lambda tags: [" ".join(f"w{word}" for word in tag) for tag in tags]
    ),
    st.integers(9, 40),
    st.randoms(use_true_random=False),
)
def test_every_tag_is_in_one_prompt_in_any_order_and_no_prompt_too_many(
    tags: list[str], most: int, random: object
) -> None:
    prompts = packer(most).pack(tags)
    placed = [tag for prompt in prompts for tag in prompt.spans]
    assert sorted(placed) == sorted(set(tags))
    for prompt in prompts:
        assert prompt.length <= most
        text = text_of(prompt)
        assert len(text) == prompt.length
        for tag, span in prompt.spans.items():
            assert text[span.start : span.stop] == tokenize(phrase(tag))
            assert text[span.stop] == 0
    sizes = [prompt.length - 2 for prompt in prompts]
    assert all(one + other > most - 2 for i, one in enumerate(sizes) for other in sizes[i + 1 :])
    assert len(prompts) <= math.ceil(11 / 9 * math.ceil(sum(sizes) / (most - 2)) + 6 / 9) or len(prompts) <= 1
    random.shuffle(tags)  # type: ignore[attr-defined]
    assert [prompt.phrases for prompt in packer(most).pack(tags)] == [prompt.phrases for prompt in prompts]

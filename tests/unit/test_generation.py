"""Beam search, against every sentence there is."""

from __future__ import annotations

import itertools

import pytest
import torch

from ram_core.modeling.beam_search import SearchOptions, search

WORDS, END = 5, 4
PROMPT = [0]


class Chain:
    """A language in which the next word depends on the last one only."""

    def __init__(self, seed: int, images: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = 2 * torch.randn(images, WORDS, WORDS, generator=generator)  # (images, last, next)
        self.beams = 1

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        images = self.logits.repeat_interleave(len(ids) // len(self.logits), dim=0)
        return images[torch.arange(len(ids)), ids[:, -1]]

    def reorder(self, rows: torch.Tensor) -> None:
        """The last word is all there is to remember, and it comes with every call."""


def best_of_all(chain: Chain, longest: int, shortest: int, penalty: float) -> list[int]:
    """Score every sentence as the released captions were."""
    table = chain.logits[0].log_softmax(-1)
    found = []
    for count in range(longest):
        for words in itertools.product(range(END), repeat=count):
            ids = [*PROMPT, *words]
            ends = len(ids) < longest
            if len(ids) > longest or (ends and len(ids) < shortest):
                continue
            whole = [*ids, END] if ends else ids
            total = float(sum(table[a, b] for a, b in itertools.pairwise(whole)))
            found.append((total / len(ids) ** penalty, whole))
    return max(found)[1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("shortest", "penalty"), [(1, 1.0), (4, 1.0), (1, 2.0)])
def test_a_wide_beam_finds_the_best_sentence_of_all(seed: int, shortest: int, penalty: float) -> None:
    chain = Chain(seed)
    options = SearchOptions(num_beams=300, max_length=5, min_length=shortest, length_penalty=penalty)
    # Too few words for so many beams: give the search room by repeating the impossible.
    wide = Widened(chain, options.num_beams)
    found = search(wide, PROMPT, 1, END, options, torch.device("cpu"))[0]
    assert found == best_of_all(chain, 5, shortest, penalty)


class Widened:
    """A chain among words that never come, so that there are enough candidates for every beam."""

    def __init__(self, chain: Chain, beams: int) -> None:
        self.chain = chain
        self.unlikely = torch.full((1, 2 * beams), -1e4)

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        known = self.chain.read(ids.clamp(max=END - 1))
        return torch.cat([known, self.unlikely.expand(len(ids), -1)], dim=1)

    def reorder(self, rows: torch.Tensor) -> None:
        """As the chain's."""


def test_greedy_takes_the_likeliest_word_each_time() -> None:
    chain = Chain(3)
    found = search(chain, PROMPT, 1, END, SearchOptions(num_beams=1, max_length=8, min_length=1), torch.device("cpu"))
    word, expected = PROMPT[0], list(PROMPT)
    while word != END and len(expected) < 8:
        word = int(chain.logits[0, word].argmax())
        expected.append(word)
    assert found == [expected]


@pytest.mark.parametrize("beams", [1, 2])
def test_images_of_a_batch_do_not_touch_each_other(beams: int) -> None:
    batch = Chain(5, images=4)
    options = SearchOptions(num_beams=beams, max_length=9, min_length=3)
    together = search(batch, PROMPT, 4, END, options, torch.device("cpu"))
    for image in range(4):
        alone = Chain(5)
        alone.logits = batch.logits[image, None]
        assert search(alone, PROMPT, 1, END, options, torch.device("cpu")) == [together[image]]


@pytest.mark.parametrize("beams", [1, 2])
def test_no_caption_is_shorter_or_longer_than_allowed(beams: int) -> None:
    for seed in range(10):
        options = SearchOptions(num_beams=beams, max_length=7, min_length=5)
        ids = search(Chain(seed), PROMPT, 1, END, options, torch.device("cpu"))[0]
        assert len(ids) <= 7
        assert END not in ids[:5]


def test_a_repetition_penalty_makes_words_rarer() -> None:
    chain = Chain(0)
    chain.logits = torch.tensor([[[0.0, 3.0, 2.5, 1.0, -9.0]] * WORDS])
    plain = search(chain, PROMPT, 1, END, SearchOptions(num_beams=1, max_length=6), torch.device("cpu"))[0]
    varied = search(
        chain, PROMPT, 1, END, SearchOptions(num_beams=1, max_length=6, repetition_penalty=2.0), torch.device("cpu")
    )[0]
    assert plain == [0, 1, 1, 1, 1, 1]
    assert len(set(varied)) > len(set(plain))

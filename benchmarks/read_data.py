"""Made-up text in made-up images: lines of words as uneven as those of a language, some of them misread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.results.reading_views import FoundLine, ReadingRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.results.reading_views import Polygon

WORDS = 50_000
LINES, WORDS_EACH = 5, 5
SLIPS = 0.03
"""Share of the words with a wrong letter."""

CODES = 0.1
"""Share of the images with a number such as ``KX-48213``."""

_SYLLABLES = [first + vowel + last for first in "bcdfghlmnprstvw" for vowel in "aeiou" for last in ("", "n", "r", "s")]
_LOOK_ALIKE = {"i": "l", "l": "i", "o": "0", "s": "5", "t": "i", "b": "8", "m": "rn", "d": "cl"}


class TextMaker:
    """Makes the text of images, the same for the same numbers."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        made: dict[str, None] = {}
        while len(made) < WORDS:
            made["".join(rng.choice(_SYLLABLES, rng.integers(1, 5)))] = None
        # Frequent words are short, as in languages.
        self.words = sorted(made, key=len)
        share = 1 / np.arange(1, WORDS + 1)
        self._share = share / share.sum()

    def rows(self, first: int, count: int) -> list[ReadingRow]:
        """Return what a reader would read in the images from number ``first`` on."""
        rng = np.random.default_rng([4, first])
        picked = rng.choice(WORDS, (count, LINES, WORDS_EACH), p=self._share)
        slips = rng.random(picked.shape) < SLIPS
        codes = rng.random(count) < CODES
        found = []
        for n in range(count):
            lines = [self._line(rng, words, is_wrong) for words, is_wrong in zip(picked[n], slips[n], strict=True)]
            if codes[n]:
                lines[0] += f" KX-{rng.integers(100_000)}"
            placed = [FoundLine(line.upper(), 0.93, _box(number)) for number, line in enumerate(lines)]
            found.append(ReadingRow(first + n, "1", placed, is_cut=False))
        return found

    def _line(self, rng: np.random.Generator, picked: NDArray[np.int64], slips: NDArray[np.bool_]) -> str:
        words = [self.words[word] for word in picked]
        return " ".join(_misread(word, rng) if slip else word for word, slip in zip(words, slips, strict=True))


def _box(number: int) -> Polygon:
    top = 0.1 + 0.15 * number
    return ((0.1, top), (0.9, top), (0.9, top + 0.1), (0.1, top + 0.1))


def _misread(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(len(word)))
    wrong = _LOOK_ALIKE.get(word[at]) or "aeiourn"[int(rng.integers(7))]
    return word[:at] + wrong + word[at + 1 :]

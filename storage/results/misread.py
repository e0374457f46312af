"""Which words may be one word that a reader misread. Pure functions.

Readers take some letters for others, again and again: I, l, 1, j and t, O and 0, rn and m. A word with these made one
is its *shape*. Words of one shape are near each other, and so are long words whose shapes differ in one letter more,
or in a letter too many or too few.

Near words are found by *keys*: hashes of the shape, and of the shape without each of its letters. Near words have a key
in common. Looking keys up takes as long in a dictionary of a million words as in a small one, which comparing trigrams
does not.
"""

from __future__ import annotations

from itertools import takewhile
from zlib import crc32

SHORTEST_WITH_A_SLIP = 6
"""Letters of a shape. Shorter words are too much alike for one more letter to differ."""

_KEYS = 2**20
"""So many different keys: few words share one by chance, and the index of keys stays small."""

_LOOK_ALIKES = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_LOOK_ALIKE = str.maketrans("1ljt05826", "iiiiosbzb")


def shape(word: str) -> str:
    """Return a word with the letters that readers take for each other made one: ``hospital`` is ``hospiiai``."""
    for pair, one in _LOOK_ALIKES:
        word = word.replace(pair, one)
    return word.translate(_LOOK_ALIKE)


def keys(word: str) -> list[int]:
    """Return the keys of a word, each from 0 to ``2**20 - 1``. Words that are near each other have one in common."""
    whole = shape(word)
    texts = [whole]
    if len(whole) >= SHORTEST_WITH_A_SLIP:
        texts += [whole[:at] + whole[at + 1 :] for at in range(len(whole))]
    return sorted({crc32(text.encode()) % _KEYS for text in texts})


def distance(one: str, other: str) -> int | None:
    """Return 0 for words of one shape, 1 for long words whose shapes differ in one letter; None: they are not near."""
    one, other = sorted((shape(one), shape(other)), key=len)
    if one == other:
        return 0
    if len(one) < SHORTEST_WITH_A_SLIP or len(other) - len(one) > 1:
        return None
    begin = _common(one, other)
    end = min(_common(one[::-1], other[::-1]), len(one) - begin)
    return 1 if len(other) - begin - end == 1 else None


def _common(one: str, other: str) -> int:
    """Return how many letters two words have in common from their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))

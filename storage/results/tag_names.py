"""Find the names of a vocabulary in a text that somebody typed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from storage.results.naming import OtherNames, alternatives

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[\u3400-\u9fff]+")
_HAN = re.compile(r"[\u3400-\u9fff]")
# Words that a text may have besides tags without saying anything more.
_FILLING = frozenset(
    {
        *(
            "a",
            "an",
            "the",
            "some",
            "any",
            "this",
            "that",
            "these",
            "those",
            "my",
            "of",
            "in",
            "on",
            "at",
            "by",
            "with",
        ),
        *("and", "or", "to", "from", "for", "is", "are", "photo", "photograph", "picture", "image"),
    }
)


@dataclass(frozen=True, slots=True)
class Mention:
    """The tags that a text names.

    Attributes:
        terms: the tags of each name in the text, in its order; several if tags share the name.
        is_whole: whether the text consists only of tags: "a dog and a cat", not "a dog that reads".
    """

    terms: tuple[tuple[int, ...], ...]
    is_whole: bool


class TagNames:
    """Finds the names of a vocabulary in texts. Immutable and thread-safe.

    Args:
        names: English names, by tag id.
        names_zh: Chinese names, by tag id.
        synonyms: further names, by tag id; empty for a vocabulary without any.
    """

    def __init__(
        self, names: Sequence[str], names_zh: Sequence[str | None], synonyms: Sequence[Sequence[str]] = ()
    ) -> None:
        self._ids: dict[tuple[str, ...], list[int]] = {}
        for tag_id, pair in enumerate(zip(names, names_zh, strict=True)):
            for units in {_units(name) for name in pair if name and not alternatives(name)}:
                if units:
                    self._ids.setdefault(units, []).append(tag_id)
        others, more = OtherNames(names, names_zh, synonyms), dict[tuple[str, ...], list[int]]()
        for tag_id in range(len(names)):
            for units in {_units(name) for name in others.of(tag_id)}:
                # A tag of its own name is meant before one that has it as an alternative or a synonym.
                if units not in self._ids and not _FILLING.issuperset(units):
                    more.setdefault(units, []).append(tag_id)
        self._ids |= more
        self._longest = max(map(len, self._ids), default=0)

    def mentioned(self, text: str) -> Mention:
        """Find tags in a text from left to right, longest name first: "hot dog" is not a dog.

        English words match in singular and plural ("dogs", "dog") and in any case. Chinese matches by characters, since
        it has no spaces.
        """
        units = _units(text)
        terms: dict[tuple[int, ...], None] = {}
        is_whole, start = True, 0
        while start < len(units):
            length = self._length_at(units, start)
            if length:
                terms[tuple(self._ids[units[start : start + length]])] = None
            else:
                is_whole = is_whole and units[start] in _FILLING
            start += max(1, length)
        return Mention(tuple(terms), is_whole and bool(terms))

    def _length_at(self, units: tuple[str, ...], start: int) -> int:
        longest = min(self._longest, len(units) - start)
        return next((n for n in range(longest, 0, -1) if units[start : start + n] in self._ids), 0)


def _units(text: str) -> tuple[str, ...]:
    """Return words in the singular, and single Chinese characters."""
    return tuple(_split(text.lower().replace("\u2019", "'")))


def _split(text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        if _HAN.match(word):
            yield from word
        else:
            yield _singular(word)


def _singular(word: str) -> str:
    """Cut off the plural ending by its commonest rules. Names and texts are both cut, so a mistake does no harm."""
    if len(word) > 4 and word.endswith("ies"):  # ponies, but not ties
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):  # cats, but not gas
        return word[:-1]
    return word


def spread(count: int, at_most: int) -> NDArray[np.int64]:
    """Return up to ``at_most`` of the numbers below ``count``, evenly spaced, always the same ones."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, at_most)).astype(np.int64)) if count else np.empty(0, np.int64)
    )

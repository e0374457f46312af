"""Candidates for tags: what many captions name. People choose among them.

Captions are counted in one pass in bounded memory (lossy counting; Manku and Motwani, 2002): when too many distinct
names are held, the rarest are dropped. From then on, a count may be too low, and says by how much at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ram_core.labels.english import ACTIONS, NOUNS_TOO, STOP_WORDS
from ram_core.labels.lemmas import base_form, forms
from ram_core.labels.name_trie import TOKEN, normal, variants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOST_WORDS = 3
_MOST_HELD = 1_000_000
_MOST_EXAMPLES = 3
_MOST_CACHED = 500_000
_EXAMPLE_CHARACTERS = 100
_NESTED_SHARE = 0.9
"""A name that is part of one longer name in so many of its captions is no name of its own: polar, of polar bear."""

_LY_NOUNS = frozenset(
    {"family", "butterfly", "fly", "lily", "jelly", "belly", "ally", "italy", "assembly", "holly", "doily"}
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A name that captions use.

    Attributes:
        name: the name: words in lower case, the last one in singular; an action as its verb.
        count: the number of captions with it.
        missed: how many more they may be at most.
        examples: up to three of these captions.
    """

    name: str
    count: int
    missed: int
    examples: tuple[str, ...]

    def described(self) -> tuple[str, ...]:
        """Return comments for a file of labels."""
        most = self.count + self.missed
        count = f"{self.count:,}" if not self.missed else f"{self.count:,} to {most:,}"
        return (f"# {count} {'caption' if most == 1 else 'captions'}, such as: {' · '.join(self.examples)}",)


class _Held:
    __slots__ = ("count", "examples", "missed")

    def __init__(self, missed: int) -> None:
        self.count = 0
        self.missed = missed
        self.examples: list[str] = []


class CandidateCounter:
    """Counts the names in captions.

    Args:
        most_held: distinct names that are held at a time, which bounds the memory: some 400 bytes each.
    """

    def __init__(self, most_held: int = _MOST_HELD) -> None:
        self.captions = 0
        self._most_held = most_held
        self._floor = 0
        self._held: dict[tuple[str, ...], _Held] = {}
        self._words: dict[str, tuple[str, str, str] | None] = {}

    def add(self, caption: str) -> None:
        """Count the names in a caption, each once."""
        self.captions += 1
        example = ""
        for name in set(self._names(caption)):
            held = self._held.get(name)
            if held is None:
                held = self._held[name] = _Held(self._floor)
            held.count += 1
            if len(held.examples) < _MOST_EXAMPLES:
                example = example or _shortened(caption)
                if example not in held.examples:
                    held.examples.append(example)
        if len(self._held) > self._most_held:
            self._drop_the_rarest()

    def candidates(self, min_count: int = 1, top: int | None = None) -> list[Candidate]:
        """Return the names that at least ``min_count`` captions have, most frequent first; at most ``top``.

        A word that is nearly always part of the same longer name is left out.
        """
        frequent = {name: held for name, held in self._held.items() if held.count >= min_count}
        inside: dict[tuple[str, ...], int] = {}
        for name, held in frequent.items():
            for part in _parts(name):
                inside[part] = max(inside.get(part, 0), held.count)
                # A verb at the start stands there as it is written: flying fox has the action fly.
                if len(part) == 1 and (known := self._word(part[0])) is not None and known[0] != part[0]:
                    inside[(known[0],)] = max(inside.get((known[0],), 0), held.count)
        found = [
            Candidate(" ".join(name), held.count, held.missed, tuple(held.examples))
            for name, held in frequent.items()
            if inside.get(name, 0) < _NESTED_SHARE * held.count
        ]
        found.sort(key=lambda each: (-each.count, each.name))
        return found[:top]

    def _names(self, caption: str) -> Iterator[tuple[str, ...]]:
        """Return the sequences of up to three words that end in a noun, action or attribute."""
        phrase: list[tuple[str, str, str]] = []
        end = -1
        for found in TOKEN.finditer(caption):
            word = self._word(found[0])
            if phrase and caption[end : found.start()] not in {" ", "-"}:
                phrase.clear()
            end = found.end()
            if word is None:
                phrase.clear()
                continue
            phrase.append(word)
            if len(phrase) > _MOST_WORDS:
                del phrase[0]
            alone, as_last, _ = word
            if alone:
                yield (alone,)
            if as_last:
                yield from ((*(each[2] for each in phrase[at:-1]), as_last) for at in range(len(phrase) - 1))

    def _word(self, raw: str) -> tuple[str, str, str] | None:
        """Return a word alone, as the last of a name, and as another word in it; None if it ends names."""
        if raw in self._words:
            return self._words[raw]
        if len(self._words) >= _MOST_CACHED:
            self._words.clear()
        word = variants(normal(raw))[-1]
        known = None
        if word not in STOP_WORDS and len(word) > 1 and not word.isdigit() and word.isascii():
            base = base_form(word)
            action = next((form.base for form in forms(word) if form.is_verb and form.base in ACTIONS), None)
            is_adverb = word.endswith("ly") and base not in _LY_NOUNS
            is_noun = not (is_adverb or action or base in ACTIONS - NOUNS_TOO)
            known = (action or ("" if is_adverb else base), base if is_noun else "", word)
        self._words[raw] = known
        return known

    def _drop_the_rarest(self) -> None:
        while len(self._held) > self._most_held:
            self._floor += 1
            self._held = {name: held for name, held in self._held.items() if held.count + held.missed > self._floor}


def count(captions: Iterable[str], most_held: int = _MOST_HELD) -> CandidateCounter:
    """Count the names in captions."""
    counter = CandidateCounter(most_held)
    for caption in captions:
        counter.add(caption)
    return counter


def _parts(name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Return the shorter names in a name, with the last word of each in singular, as they are counted."""
    for size in range(1, len(name)):
        for at in range(len(name) - size + 1):
            part = name[at : at + size]
            yield (*part[:-1], base_form(part[-1]))


def _shortened(caption: str) -> str:
    plain = " ".join(caption.split())
    return plain if len(plain) <= _EXAMPLE_CHARACTERS else f"{plain[: _EXAMPLE_CHARACTERS - 1]}…"

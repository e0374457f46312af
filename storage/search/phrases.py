"""What ``read:`` asks for: words one behind the other. As a query to PostgreSQL, and where it stands in some lines.

A phrase may run over the end of a line, in reading order. What is joined by a hyphen and the like is found joined and
apart, as it stands in pictures in both ways.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.words import can_be_misread, groups, quoted, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from storage.words import Group, Token

MAX_WORDS = 64
"""Words of a phrase."""

MAX_TO_NAME = 12
"""Words of a text that are looked for in keywords, titles and descriptions. In a longer text they are not all there."""

SHORTEST_PREFIX = 2
"""Letters before a ``*``: with one, a large part of all words would match."""

MAX_LINES = 5
"""Lines of an image that a hit shows."""

_STARS = "*\uff0a"

_STOP_WORDS = frozenset(
    "a an and are as at be but by for from has have he her his i in is it its my no not of on or our she so that the "  # noqa: SIM905
    "their them they this to was we were will with you your".split()
)

Spans = tuple[tuple[int, int], ...]
"""Characters of a line: begin and end of each stretch, ascending."""


@dataclass(frozen=True, slots=True)
class Step:
    """One word of a phrase.

    Attributes:
        words: any of these.
        gap: how many places it is behind the step before.
        is_prefix: a longer word that begins so will do.
        can_be_misread: whether it is a word that a reader can misread as another word.
    """

    words: tuple[str, ...]
    gap: int = 1
    is_prefix: bool = False
    can_be_misread: bool = False

    def accepts(self, word: str) -> bool:
        """Return whether a word is one of these."""
        return word.startswith(self.words) if self.is_prefix else word in self.words

    @property
    def query(self) -> str:
        """The step as a ``tsquery``."""
        any_of = " | ".join(quoted(word) + (":*" if self.is_prefix else "") for word in self.words)
        return any_of if len(self.words) == 1 else f"({any_of})"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand one behind the other, in at least one of some ways."""

    ways: tuple[tuple[Step, ...], ...]

    @property
    def plain_ways(self) -> tuple[tuple[str, ...], ...]:
        """The words of each way, in any order: without misread words and beginnings."""
        return tuple(tuple(dict.fromkeys(word for step in way for word in step.words)) for way in self.ways)

    @property
    def query(self) -> str:
        """The phrase as a ``tsquery`` in PostgreSQL's text form."""
        ways = [first.query + "".join(f" <{step.gap}> {step.query}" for step in rest) for first, *rest in self.ways]
        return ways[0] if len(ways) == 1 else " | ".join(f"({way})" for way in ways)

    @property
    def words(self) -> frozenset[str]:
        """The words that a reader can misread."""
        return frozenset(chain(*(step.words for way in self.ways for step in way if step.can_be_misread)))

    @property
    def is_word(self) -> bool:
        """Whether it is a single word, in whichever way it is written."""
        return all(len(way) == 1 for way in self.ways)

    def without(self, other: Phrase) -> Phrase | None:
        """Return this word without what another word accepts; None if nothing is left. Both are single words."""
        known = {word for way in other.ways for word in way[0].words}
        left = tuple(dict.fromkeys(word for way in self.ways for word in way[0].words if word not in known))
        return Phrase(((Step(left),),)) if left else None

    def or_misread(self, near: Callable[[str], Iterable[str]]) -> Phrase:
        """Return the phrase that also accepts what readers made of its words, given by ``near``."""
        return Phrase(tuple(tuple(_or_misread(step, near) for step in way) for way in self.ways))


def _or_misread(step: Step, near: Callable[[str], Iterable[str]]) -> Step:
    if not step.can_be_misread:
        return step
    return replace(step, words=tuple(dict.fromkeys((*step.words, *chain(*map(near, step.words))))))


def phrase_of(text: str) -> Phrase:
    """Return what a person asks for: a word, words one behind the other, or, with ``*`` at the end, a beginning.

    Raises:
        UsageError: there is no word in it, it is too long, or too little stands before the ``*``.
    """
    bare = text.strip()
    is_prefix = bare.endswith(tuple(_STARS))
    found = list(groups(bare))
    if not found:
        raise UsageError("read: needs a word with letters or digits, such as read:hospital")
    if sum(len(group.pieces) for group in found) > MAX_WORDS:
        raise UsageError(f"read: takes at most {MAX_WORDS} words one behind the other")
    is_prefix = is_prefix and not found[-1].is_unspaced
    if is_prefix and len(found) == 1 and len(found[0].pieces[-1].word) < SHORTEST_PREFIX:
        raise UsageError(f"read: needs at least {SHORTEST_PREFIX} letters before the *, such as read:invoice*")
    return _phrase(found, is_prefix=is_prefix)


def words_of_text(text: str) -> tuple[Phrase, ...]:
    """Return the words that stand in a picture which is meant by a text, each of them, in any order.

    Words of one letter are left out. Nothing is returned if only words remain that are in every text, or too many.
    """
    found = [group for group in groups(text) if group.is_unspaced or len(group.joined or group.pieces[0].word) > 1]
    is_common = all(not group.is_unspaced and group.pieces[0].word in _STOP_WORDS for group in found)
    if is_common or len(found) > MAX_WORDS:
        return ()
    return tuple(dict.fromkeys(_phrase([group], is_prefix=False) for group in found))


def words_to_name(text: str) -> tuple[Phrase, ...]:
    """Return the words of a text by which a person may have named a picture, each of them, in any order.

    Words that are in every text are left out. Nothing is returned if there are too many.
    """
    found = [phrase for phrase in words_of_text(text) if not _is_common(phrase)]
    return tuple(found) if len(found) <= MAX_TO_NAME else ()


def _is_common(phrase: Phrase) -> bool:
    return phrase.is_word and all(word in _STOP_WORDS for way in phrase.ways for word in way[0].words)


def all_of(phrases: Iterable[Phrase]) -> str:
    """Return the ``tsquery`` for all of these phrases, in any order."""
    return " & ".join(f"({phrase.query})" for phrase in phrases)


def _phrase(found: Sequence[Group], *, is_prefix: bool) -> Phrase:
    apart, joined = _steps(found, joins=False), _steps(found, joins=True)
    ways = [apart] if apart == joined else [apart, joined]
    if is_prefix:
        ways = [[*way[:-1], replace(way[-1], is_prefix=True, can_be_misread=False)] for way in ways]
    return Phrase(tuple(map(tuple, ways)))


def _steps(found: Sequence[Group], *, joins: bool) -> list[Step]:
    """Return a step for each part (with ``joins``: for each joined word) and for each pair of unspaced characters."""
    steps: list[Step] = []
    gap = 1
    for group in found:
        words = [piece.word for piece in group.pieces]
        after = 1
        if group.is_unspaced and len(words) > 1:
            words = [left + right for left, right in pairwise(words)]
            after = 2  # the last pair takes two places
        elif joins and group.joined:
            words = [group.joined]
        for word in words:
            steps.append(Step((word,), gap, can_be_misread=not group.is_unspaced and can_be_misread(word)))
            gap = 1
        gap = after
    return steps


def spans_in(phrases: Sequence[Phrase], lines: Sequence[str]) -> dict[int, Spans]:
    """Return where any of these phrases stands: for each line that has one, by its number from 0, its characters.

    At most ``MAX_LINES`` lines, the first ones.
    """
    places: dict[int, list[Token]] = defaultdict(list)
    for token in tokens(lines):
        places[token.place].append(token)
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for token in _standing(phrases, places):
        found[token.line].append((token.begin, token.end))
    return {line: _merged(found[line]) for line in sorted(found)[:MAX_LINES]}


def _standing(phrases: Sequence[Phrase], places: dict[int, list[Token]]) -> Iterator[Token]:
    for way in chain(*(phrase.ways for phrase in phrases)):
        for start in places:
            place, taken = start, []
            for number, step in enumerate(way):
                place += step.gap if number else 0
                taken.append(next((token for token in places.get(place, ()) if step.accepts(token.word)), None))
                if taken[-1] is None:
                    break
            else:
                yield from (token for token in taken if token is not None)


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)

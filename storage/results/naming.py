"""The names by which people know a tag: its own, the alternatives within them, and synonyms."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Lists write alternatives as "cat/kitty" and "猫/猫咪". ``ram_core.vocabulary`` splits them in the same way.
_SEPARATOR = re.compile(r"[/|;、\uff0f\uff5c\uff1b]")


class Kinds(Protocol):
    """Which tags of a vocabulary are kinds of which."""

    def below(self, tag_id: int) -> tuple[int, ...]:
        """Return the ids of the tags that are kinds of a tag, however many steps away."""

    def named(self, text: str) -> tuple[int, ...]:
        """Return the ids of the tags that are what ``text`` names, or kinds of it."""


class Hierarchy(Protocol):
    """What is a kind of what. ``ram_core.hierarchy`` has one, which this package may not import."""

    def over(self, names: Sequence[Sequence[str]]) -> Kinds:
        """Return which tags of a vocabulary are kinds of which, given the names of each tag, by id."""


class Beginning(NamedTuple):
    """A tag that what somebody types may become. ``by`` is the other name that begins so; None: its own name does."""

    tag_id: int
    by: str | None


def alternatives(name: str) -> tuple[str, ...]:
    """Return the names that a name consists of: "cat/kitty" is "cat" or "kitty". None for a name of one part.

    Parts without a letter are no names, so "24/7" is one name.
    """
    parts = tuple(part.strip() for part in _SEPARATOR.split(name))
    return parts if len(parts) > 1 and all(any(map(str.isalpha, part)) for part in parts) else ()


class OtherNames:
    """Alternatives and synonyms of the tags of a vocabulary. Immutable and thread-safe.

    Args:
        names: English names, by tag id.
        names_zh: Chinese names, by tag id.
        synonyms: further names, by tag id; empty for a vocabulary without any.
    """

    def __init__(
        self, names: Sequence[str], names_zh: Sequence[str | None], synonyms: Sequence[Sequence[str]] = ()
    ) -> None:
        self._names, self._names_zh, self._synonyms = names, names_zh, synonyms

    def of(self, tag_id: int) -> Iterator[str]:
        """Yield the other names of a tag, those in English and Chinese before the synonyms."""
        own = (self._names[tag_id], self._names_zh[tag_id] or "")
        given = self._synonyms[tag_id] if self._synonyms else ()
        for name in own:
            yield from alternatives(name)
        for name in given:
            yield name
            yield from alternatives(name)

    @cached_property
    def by_folded(self) -> dict[str, list[tuple[int, str]]]:
        """Ids and spellings of the tags by their other names, as ``fold`` writes them."""
        found: dict[str, list[tuple[int, str]]] = {}
        for tag_id in range(len(self._names)):
            for name in self.of(tag_id):
                known = found.setdefault(fold(name), [])
                if all(other_id != tag_id for other_id, _ in known):
                    known.append((tag_id, name))
        return found

    def beginning(self, typed: str, limit: int) -> list[Beginning]:
        """Return up to ``limit`` tags of which a name, or a word of one, begins with ``typed``, each once.

        Names that begin so come before names with such a word, short ones first, and a tag's own names before others.
        """
        wanted = fold(typed)
        if not wanted:
            return []
        best: dict[int, tuple[tuple[int, int, int, str, int], str | None]] = {}
        for at in range(bisect_left(self._words, (wanted,)), len(self._words)):
            folded, is_within, tag_id, by = self._words[at]
            if not folded.startswith(wanted):
                break
            shown = self._names[tag_id] if by is None else by
            rank = (is_within, int(by is not None), len(shown), shown, tag_id)
            if tag_id not in best or rank < best[tag_id][0]:
                best[tag_id] = rank, by
        chosen = sorted(best, key=lambda tag_id: best[tag_id][0])[:limit]
        return [Beginning(tag_id, best[tag_id][1]) for tag_id in chosen]

    @cached_property
    def _words(self) -> list[tuple[str, int, int, str | None]]:
        """Every name from each of its words on, sorted: (folded, is it within the name, tag, the other name)."""
        words: set[tuple[str, int, int, str | None]] = set()
        for tag_id, (name, name_zh) in enumerate(zip(self._names, self._names_zh, strict=True)):
            own = [(name, None), *([(name_zh, None)] if name_zh else [])]
            known = {fold(each) for each, _ in own}
            others = [(each, each) for each in self.of(tag_id) if fold(each) not in known]
            for each, by in (*own, *others):
                folded = fold(each)
                starts = [0, *(match.end() for match in re.finditer(" ", folded))]
                words.update((folded[start:], int(start > 0), tag_id, by) for start in starts)
        return sorted(words, key=lambda word: (word[:3], word[3] or ""))

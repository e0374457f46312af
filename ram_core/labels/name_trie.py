"""The names of a vocabulary as a trie of words: which names begin with a word, and with which words they go on."""

from __future__ import annotations

import itertools
import re
import unicodedata
from typing import TYPE_CHECKING

from ram_core.labels.english import ACTIONS, EVERYDAY, MISLEADING, PARTICLES, PLURAL_ONLY, STOP_WORDS
from ram_core.labels.lemmas import forms, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ram_core.vocabulary import TagVocabulary

TOKEN = re.compile("[^\\W_]+(?:['\u2019][^\\W_]+)*|&")
"""A word, with the apostrophes in it."""

# How well a path through the trie fits the name that it leads to: lower is better.
OWN_NAME = 0
SYNONYM = 1
OTHER_FORM = 2
SOLID = 3
ALIAS = 4

_QUALIFIER = re.compile(r"\s*[(\[][^)\]]*[)\]]")
_LEAST_PART = 3
# Solid names whose halves next to each other mean something else.
_NEVER_APART = frozenset({"carpet", "season", "legend", "target", "forward", "island", "without", "button", "warship"})


class Node:
    """A position in the trie.

    Attributes:
        children: the positions after one more word.
        ends: the names that end here: how well they fit, the tag and the name in lower case; best first.
        hidden: for a compound that misleads: the offsets of its words that name nothing here; else None.
        skips_articles: whether "a" and the like may stand before the next word: play (the) piano.
    """

    __slots__ = ("children", "ends", "hidden", "skips_articles")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.ends: list[tuple[int, int, str]] = []
        self.hidden: tuple[int, ...] | None = None
        self.skips_articles = False

    def ids_for(self, words: str) -> tuple[int, ...]:
        """Return the tags whose name fits best; of several equally good names the one that is spelled as ``words``."""
        if len(self.ends) == 1:
            return (self.ends[0][1],)
        best = [(tag_id, name) for rank, tag_id, name in self.ends if rank == self.ends[0][0]]
        written = words.casefold()
        name = max(best, key=lambda each: (written.startswith(each[1]), -each[0]))[1]
        return tuple(tag_id for tag_id, other in best if other == name)


class NameTrie:
    """The names of tags, by words in comparable spelling."""

    def __init__(self) -> None:
        self.root = Node()
        self.words: set[str] = set()

    @classmethod
    def of(cls, vocabulary: TagVocabulary) -> NameTrie:
        """Build the trie of a vocabulary's names, its synonyms, their forms and everyday synonyms."""
        trie = cls()
        synonyms = vocabulary.synonyms or ((),) * len(vocabulary)
        for tag_id, (name, others) in enumerate(zip(vocabulary.names, synonyms, strict=True)):
            for rank, each in [(OWN_NAME, name), *((SYNONYM, other) for other in others)]:
                for alternative in alternatives(each):
                    trie._add(alternative, tag_id, rank)
        for rank, tag_id, name in list(trie._own()):
            for path in _other_forms(words_of(name)):
                trie._add_path(path, tag_id, rank + OTHER_FORM, name)
        for group in EVERYDAY:
            trie._add_group(group)
        for _, tag_id, name in list(trie._own()):
            for path in trie._solid(words_of(name)):
                trie._add_path(path, tag_id, SOLID, name)
        for compound in MISLEADING:
            trie._mislead(compound.split())
        return trie

    def _add(self, name: str, tag_id: int, rank: int) -> None:
        self._add_path([spelled(word) for word in words_of(name)], tag_id, rank, name.casefold())

    def _add_path(self, path: list[str], tag_id: int, rank: int, name: str) -> None:
        """Let a path lead to a tag, unless it leads to a better name of another already."""
        if not path:
            return
        node = self._node(path)
        if rank > SYNONYM and node.ends:
            return
        if path[0] in ACTIONS and len(path) > 1:
            self.root.children[path[0]].skips_articles = True
        if all(tag_id != known for _, known, _ in node.ends):
            node.ends = sorted([*node.ends, (rank, tag_id, name)])

    def _node(self, path: Iterable[str]) -> Node:
        node = self.root
        for word in path:
            self.words.add(word)
            node = node.children.setdefault(word, Node())
        return node

    def _own(self) -> Iterator[tuple[int, int, str]]:
        """Return every name that stands in the vocabulary."""
        pending = [self.root]
        while pending:
            node = pending.pop()
            pending += node.children.values()
            yield from (end for end in node.ends if end[0] <= SYNONYM)

    def _find(self, path: Iterable[str]) -> Node | None:
        node: Node | None = self.root
        for word in path:
            node = node.children.get(word) if node else None
        return node

    def _add_group(self, group: tuple[str, ...]) -> None:
        """Let everyday synonyms lead to the tags of the first of them that the vocabulary has."""
        paths = [[spelled(word) for word in words_of(name)] for name in group]
        known = next((node for path in paths if (node := self._find(path)) and node.ends), None)
        if known is None or known.ends[0][0] > OTHER_FORM:
            return
        for path in paths:
            for rank, tag_id, name in list(known.ends):
                if rank == known.ends[0][0]:
                    self._add_path(path, tag_id, ALIAS, name)

    def _solid(self, words: list[str]) -> Iterator[list[str]]:
        """Return the ways to write a name with its words together, or its one word apart."""
        for at in range(len(words) - 1):
            joined = words[at] + words[at + 1]
            if len(joined) > _LEAST_PART:
                yield [*words[:at], joined, *words[at + 2 :]]
        for at, word in enumerate(words):
            if word in _NEVER_APART:
                continue
            for cut in range(2, len(word) - 1):
                first, second = word[:cut], word[cut:]
                if len(first) >= _LEAST_PART and self._is_part(first) and (
                    second in PARTICLES or (len(second) >= _LEAST_PART and self._is_part(second))
                ):  # fmt: skip
                    yield [*words[:at], first, second, *words[at + 1 :]]

    def _is_part(self, word: str) -> bool:
        return word in self.words and word not in STOP_WORDS

    def _mislead(self, marked: list[str]) -> None:
        words = [spelled(word.lstrip("-").replace("'", "")) for word in marked]
        node = self._node(words)
        solid = self._find(["".join(words)])
        if not node.ends and solid is not None:
            node.ends = [(SOLID, tag_id, name) for rank, tag_id, name in solid.ends if rank == solid.ends[0][0]]
        if not node.ends:
            node.hidden = tuple(at for at, word in enumerate(marked) if word.startswith("-"))


def alternatives(name: str) -> list[str]:
    """Return the names in a name: "taxi/cab" has two. What stands in brackets is left out."""
    plain = _QUALIFIER.sub("", name).strip() or name
    parts = [part.strip() for part in plain.split("/")]
    is_list = len(parts) > 1 and all(len(part) >= _LEAST_PART or not part.isascii() for part in parts)
    return parts if is_list else [plain]


def normal(raw: str) -> str:
    """Return a word of a text in lower case, without accents, in plain characters."""
    if raw.isascii():
        return "and" if raw == "&" else raw.lower()
    plain = unicodedata.normalize("NFKD", raw.replace("\u2019", "'")).casefold()
    return "".join(char for char in plain if not unicodedata.combining(char))


def variants(word: str) -> list[str]:
    """Return a normal word without its apostrophes: butcher's: butchers, butcher."""
    if "'" not in word:
        return [word]
    solid, owner = word.replace("'", ""), word.removesuffix("'s")
    return [solid] if "'" in owner else [solid, owner]


def words_of(name: str) -> list[str]:
    """Return the normal words of a name."""
    return [variants(normal(raw))[0] for raw in TOKEN.findall(name)]


def _other_forms(words: list[str]) -> Iterator[list[str]]:
    """Return a name's paths with other forms of its words.

    A compound matches in singular ("roller skates": a roller skate), and an action as any form of its verb
    ("playing chess": plays chess). Some plurals do not: glass is no glasses.
    """
    options: list[list[str]] = []
    for word in words:
        bases = [form.base for form in forms(word)[1:] if not form.is_verb or form.base in ACTIONS]
        options.append([spelled(word), *([] if word in PLURAL_ONLY else bases)])
    yield from (list(path) for path in itertools.islice(itertools.product(*options), 1, 32))

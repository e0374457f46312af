"""From text to tags: the names of a vocabulary's tags that a caption has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ram_core.labels import negation
from ram_core.labels.chinese import HAN, ChineseNames
from ram_core.labels.english import DETERMINERS, EVERYDAY_CHINESE, MOSTLY_VERBS, OTHER_AS_VERB, PARTICLES
from ram_core.labels.lemmas import Form, forms
from ram_core.labels.name_trie import TOKEN, NameTrie, Node, alternatives, normal, variants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ram_core.vocabulary import TagVocabulary

_MOST_CACHED = 500_000
"""Distinct words whose forms are kept. Captions of the web have millions, most of them once."""

_GAP_IN_NAME = re.compile("\\s*+[-_\u2010\u2011'\u2019]?+\\s*+")
_ARTICLES = frozenset({"a", "an", "the", "his", "her", "their", "some"})  # fmt: skip


class NamedTag(NamedTuple):
    """A tag that a text names. ``text[start:end]`` are the words that name it."""

    id: int
    name: str
    start: int
    end: int


class _Word:
    """What is known of a word of a text.

    Attributes:
        text: the word in lower case.
        bases: the words of names that it may be a form of, likeliest first.
        name: the best of the names that consist of this word.
        goes_on: the positions in the trie from which longer names go on.
        is_cue: whether it may negate others.
        is_doubtful: whether it names a tag only in some places.
    """

    __slots__ = ("bases", "goes_on", "is_cue", "is_doubtful", "name", "text")

    def __init__(self, text: str, bases: tuple[str, ...], root: Node, *, is_cue: bool) -> None:
        self.text = text
        self.bases = bases
        starts = [root.children[base] for base in bases if base in root.children]
        self.name = min((node for node in starts if node.ends), key=lambda node: node.ends[0][0], default=None)
        self.goes_on = tuple(node for node in starts if node.children)
        self.is_cue = is_cue
        self.is_doubtful = text in MOSTLY_VERBS or text in PARTICLES


# A name in a text: its first and last token, and where it ends in the trie.
_Match = tuple[int, int, Node]


class _Tokens(NamedTuple):
    """A text, its tokens, and what is known of them; None for a token that means nothing here."""

    text: str
    found: list[re.Match[str]]
    words: list[_Word | None]

    def lower(self, at: int) -> str:
        """Return a token in lower case."""
        return normal(self.found[at][0])

    def are_joined(self, before: int, after: int) -> bool:
        """Return whether nothing stands between two tokens that parts a name."""
        gap = self.text[self.found[before].end() : self.found[after].start()]
        return gap == " " or _GAP_IN_NAME.fullmatch(gap) is not None


_UNKNOWN = _Word("", (), Node(), is_cue=False)
"""Stands for a word that was not looked up yet."""


class TagParser:
    """Finds the tags that texts name, by longest match over base forms of words.

    Built once for a vocabulary, then used for many texts, in any thread.

    * Compounds hide their parts: "hot dog" is not dog.
    * Plural, singular and forms of verbs match, and British and American spelling, hyphens and apostrophes.
    * What a text denies is left out: "no people", "without a car", "isn't sleeping".
    * Alternatives in names ("a/b"), synonyms of the vocabulary and everyday synonyms (sofa, couch) name a tag if no
      tag's own name says the same.
    * Chinese text is parsed with the Chinese names and synonyms.

    Args:
        vocabulary: the tags.
        word_forms: the possible bases of a lower-case word, the word itself first; default: the rules of
            ``ram_core.labels.lemmas``.
    """

    def __init__(self, vocabulary: TagVocabulary, word_forms: Callable[[str], Sequence[Form]] = forms) -> None:
        self._names = vocabulary.names
        self._word_forms = word_forms
        self._trie = NameTrie.of(vocabulary)
        self._chinese = ChineseNames(_chinese_names(vocabulary))
        self._words: dict[str, _Word | None] = {}

    def parse(self, text: str) -> list[NamedTag]:
        """Return the tags that a text names, in the order of the text; a tag that is named twice comes twice.

        Spans do not overlap, but words that name several tags give each of them.
        """
        if text.isascii() or not HAN.search(text):
            return self._in_words(text)
        tags = self._in_words(HAN.sub(lambda phrase: " " * len(phrase[0]), text))
        tags += [NamedTag(tag_id, self._names[tag_id], a, b) for tag_id, a, b in self._chinese.find(text)]
        tags.sort(key=lambda tag: tag.start)
        return tags

    def _in_words(self, text: str) -> list[NamedTag]:
        """Return the tags that the words of an alphabet name."""
        get = self._words.get
        found = list(TOKEN.finditer(text))
        words = [self._learn(each[0]) if (word := get(each[0], _UNKNOWN)) is _UNKNOWN else word for each in found]
        tokens = _Tokens(text, found, words)
        matches, has_cue = self._matches(tokens)
        if has_cue and matches:
            matches = _affirmed(tokens, matches)
        names = self._names
        tags = []
        for first, last, node in matches:
            start, end = found[first].start(), found[last].end()
            if len(node.ends) == 1:
                tag_id = node.ends[0][1]
                tags.append(NamedTag(tag_id, names[tag_id], start, end))
            else:
                tags += [NamedTag(tag_id, names[tag_id], start, end) for tag_id in node.ids_for(text[start:end])]
        return tags

    def _matches(self, tokens: _Tokens) -> tuple[list[_Match], bool]:
        """Return the names in a text from left to right, the longest at each word; and whether a word may negate."""
        found: list[_Match] = []
        has_cue = False
        next_free = 0
        for at, word in enumerate(tokens.words):
            if word is None:
                continue
            has_cue = has_cue or word.is_cue
            if at < next_free:
                continue
            node, last = word.name, at
            if word.goes_on:
                node, last = self._longest(tokens, at, word)
            if node is None or (last == at and word.is_doubtful and not _is_meant(tokens, at)):
                continue
            if node.hidden is None:
                found.append((at, last, node))
            else:
                found += _parts(tokens, at, last, node.hidden)
            next_free = last + 1
        return found, has_cue

    def _longest(self, tokens: _Tokens, at: int, word: _Word) -> tuple[Node | None, int]:
        """Return the longest name that begins with a token, and its last token."""
        best, best_last = word.name, at
        paths = [(node, at) for node in word.goes_on]
        for node, before in paths:  # grows while it is read
            for after in _next(tokens, node, before):
                following = tokens.words[after]
                for base in following.bases if following is not None else ():
                    child = node.children.get(base)
                    if child is None:
                        continue
                    paths.append((child, after))
                    if after > best_last and (child.ends or child.hidden is not None):
                        best, best_last = child, after
        return best, best_last

    def _learn(self, raw: str) -> _Word | None:
        """Look a word up, and remember it."""
        if len(self._words) >= _MOST_CACHED:
            self._words.clear()
        written = normal(raw)
        bases = {
            base: None
            for variant in variants(written)
            for base, is_verb in self._word_forms(variant)
            if base in self._trie.words and not (is_verb and base in OTHER_AS_VERB)
        }
        is_cue = negation.is_cue(written)
        word = _Word(written, tuple(bases), self._trie.root, is_cue=is_cue) if bases or is_cue else None
        self._words[raw] = word
        return word


def _next(tokens: _Tokens, node: Node, before: int) -> Sequence[int]:
    """Return the tokens that may continue a name: the next one, and in "play the piano" the one after it."""
    after = before + 1
    if after == len(tokens.words) or not node.children:
        return ()
    may_skip = node.skips_articles and after + 1 < len(tokens.words)
    if (tokens.words[after] is None and not may_skip) or not tokens.are_joined(before, after):
        return ()
    return (after, after + 1) if may_skip and tokens.lower(after) in _ARTICLES else (after,)


def _parts(tokens: _Tokens, first: int, last: int, hidden: Sequence[int]) -> list[_Match]:
    """Return what the words of a misleading compound name that are not hidden by it."""
    words = ((at, tokens.words[at]) for at in range(first, last + 1) if at - first not in hidden)
    return [(at, at, word.name) for at, word in words if word is not None and word.name is not None]


def _is_meant(tokens: _Tokens, at: int) -> bool:
    """Return whether a word as "can" or "up" is a name here: a can, can of beer; the seat is up; a list of keywords."""
    before = tokens.lower(at - 1) if at else ""
    after = tokens.lower(at + 1) if at + 1 < len(tokens.words) else ""
    starts_phrase = not before or not tokens.are_joined(at - 1, at)
    ends_phrase = not after or not tokens.are_joined(at, at + 1)
    if tokens.lower(at) in PARTICLES:
        return ends_phrase
    return before in DETERMINERS or after == "of" or (starts_phrase and ends_phrase)


def _affirmed(tokens: _Tokens, matches: list[_Match]) -> list[_Match]:
    """Return the matches that the text does not deny."""
    count = len(tokens.words)
    names: list[int | None] = [None] * count
    for first, last, _ in matches:
        names[first : last + 1] = [first] * (last + 1 - first)
    words = [tokens.lower(at) for at in range(count)]
    breaks = [at > 0 and not tokens.are_joined(at - 1, at) for at in range(count)]
    denied = negation.negated(words, breaks, names)
    return [match for match in matches if match[0] not in denied]


def _chinese_names(vocabulary: TagVocabulary) -> list[tuple[str, int]]:
    """Return the Chinese names and synonyms with their tags, and everyday synonyms of those that have one."""
    names = [(name, tag_id) for tag_id, name in enumerate(vocabulary.names_zh) if name]
    names += [(name, tag_id) for tag_id, others in enumerate(vocabulary.synonyms or ()) for name in others]
    listed = [
        (part.replace(" ", ""), tag_id) for name, tag_id in names if HAN.search(name) for part in alternatives(name)
    ]
    known = {name for name, _ in listed}
    for group in EVERYDAY_CHINESE:
        tags = [tag_id for name, tag_id in listed if name in group]
        listed += [(other, tag_id) for other in group if other not in known for tag_id in tags]
    return listed

"""The words of a text, for search. What stands in pictures and what a person asks for are cut by the same rules.

* A word is a run of letters, digits and their marks. Case, width and accents do not count: ``Café`` is ``cafe``.
* Words joined by an apostrophe, a hyphen, a dot and the like are found in parts and whole: ``AB-1234`` is ``ab``,
  ``1234`` and ``ab1234``. So are ``don't`` and ``www.example.com``.
* Scripts without spaces (Chinese, Japanese, Thai), and Korean, are cut into single characters and pairs of neighbours:
  小猫咪 has 小猫, and is found by 猫 too.
* Every part has a place in the reading order, which goes on from line to line.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from storage.texts import without_unstorable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_WORD = 64
"""Characters of a word that count. PostgreSQL takes 2,046 bytes."""

MAX_PLACES = 16_000
"""Places in one picture that are searched. PostgreSQL tells places up to 16,383 apart."""

MAX_VECTOR_BYTES = 900_000
"""Of the words of one picture with their places. PostgreSQL takes 1,048,575 bytes."""

MAX_PLACES_OF_A_WORD = 255
"""PostgreSQL keeps so many."""

MAX_DISTINCT = 5_000
"""Words of the keywords, the title and the description of one image."""

SHORTEST_MISREAD = 4
"""Letters. Shorter words are too much alike to say that one is another one misread."""

# Each character of a folded line has a class: a letter or a mark, a digit, the first or a further character of a unit
# (a letter of a script without spaces), what joins words, what joins digits only, and all else.
_LETTER, _DIGIT, _UNIT, _REST_OF_UNIT, _JOINER, _NUMBER_JOINER, _OTHER = "wdumjn "
_GROUP = re.compile(r"(?:um*)+|[wd]+(?:(?:j|(?<=d)n(?=d))[wd]+)*")
_ASCII_GROUP = re.compile(r"[a-z0-9]+(?:(?:['\-._/&@+]|(?<=[0-9])[,:](?=[0-9]))[a-z0-9]+)*")
_ASCII_PIECE = re.compile(r"[a-z0-9]+")
_PIECE = re.compile(r"um*|[wd]+")
_JOINERS = "'\u2018\u2019\u02bc\u2032-\u2010\u2011\u2012\u2013._/&@+\u00b7"
_NUMBER_JOINERS = ",:"  # 1,000 and 16:9, but not "left,right"
_MARKED: Final = ("LATIN", "GREEK", "CYRILLIC", "HEBREW", "ARABIC")
_SHORT_I = "\u0439"  # its breve is no accent, it is another letter
_WITHOUT_STROKE = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
_HALF_WIDTH_MARKS = "\uff9e\uff9f"  # of kana; Unicode has them as letters
_UNSPACED = re.compile(
    "[\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u109f\u1100-\u11ff\u1780-\u17d3\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f"
    "\u3031-\u3035\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uaa60-\uaa7f\uac00-\ud7c6\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U000323af]"
)


class Piece(NamedTuple):
    """A word, or one character of a script without spaces, and its characters in the line: ``begin`` to ``end``."""

    word: str
    begin: int
    end: int


class Group(NamedTuple):
    """Words joined by an apostrophe, a hyphen and the like, or (``is_unspaced``) neighbouring characters."""

    pieces: tuple[Piece, ...]
    is_unspaced: bool = False

    @property
    def joined(self) -> str | None:
        """The words as one; None if that is no word of its own."""
        if self.is_unspaced or len(self.pieces) == 1:
            return None
        whole = "".join(piece.word for piece in self.pieces)
        return whole if len(whole) <= MAX_WORD else None


class Token(NamedTuple):
    """A word at its place.

    Attributes:
        word: as it is compared.
        place: in the reading order, from 1. A joined word, and a pair of characters, has the place of its first part.
        last: the place of its last part.
        line: the number of its line, from 0.
        begin, end: its characters in the line.
        is_spaced: whether it is from a script with spaces, so that it can be misread as another word.
    """

    word: str
    place: int
    last: int
    line: int
    begin: int
    end: int
    is_spaced: bool


def is_unspaced(character: str) -> bool:
    """Return whether a character is of a script without spaces, or of Korean."""
    return _UNSPACED.match(character) is not None


def clean(line: str) -> str:
    """Return a line as it is stored: composed (NFC), and without what PostgreSQL cannot store."""
    return unicodedata.normalize("NFC", without_unstorable(line))


def groups(line: str) -> Iterator[Group]:
    """Yield what belongs together in a line, in its order. Any text can be given."""
    if line.isascii():
        # The same as below, some times faster: most lines are of this kind.
        for found in _ASCII_GROUP.finditer(line.lower()):
            if found[0].isalnum():
                yield Group((Piece(found[0][:MAX_WORD], *found.span()),))
            else:
                parts = _ASCII_PIECE.finditer(found.string, *found.span())
                yield Group(tuple(Piece(part[0][:MAX_WORD], *part.span()) for part in parts))
        return
    folded, classes, begins, ends = _folded(line)
    for found in _GROUP.finditer(classes):
        yield Group(
            tuple(
                Piece(folded[part.start() : part.end()][:MAX_WORD], begins[part.start()], ends[part.end() - 1])
                for part in _PIECE.finditer(classes, *found.span())
            ),
            is_unspaced=found[0][0] == _UNIT,
        )


def tokens(lines: Iterable[str]) -> Iterator[Token]:
    """Yield the words of the lines of one picture, up to ``MAX_PLACES``, in reading order."""
    place = 1
    for number, line in enumerate(lines):
        for group in groups(line):
            if len(group.pieces) == 1 and place < MAX_PLACES:
                ((word, begin, end),) = group.pieces
                yield Token(word, place, place, number, begin, end, not group.is_unspaced)
                place += 1
                continue
            pieces = group.pieces[: MAX_PLACES - place]
            if not pieces:
                return
            yield from _of_group(pieces, place, number, is_unspaced=group.is_unspaced)
            if (joined := group.joined) and len(pieces) == len(group.pieces):
                last = place + len(pieces) - 1
                yield Token(joined, place, last, number, pieces[0].begin, pieces[-1].end, is_spaced=True)
            place += len(pieces)


def _of_group(pieces: Sequence[Piece], first: int, line: int, *, is_unspaced: bool) -> Iterator[Token]:
    for place, piece in enumerate(pieces, start=first):
        yield Token(piece.word, place, place, line, piece.begin, piece.end, not is_unspaced)
    if is_unspaced:
        for place, (left, right) in enumerate(pairwise(pieces), start=first):
            yield Token(left.word + right.word, place, place + 1, line, left.begin, right.end, is_spaced=False)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one picture.

    Attributes:
        vector: a ``tsvector`` in PostgreSQL's text form; None without words.
        spaced: the words that can be misread, see ``can_be_misread``.
    """

    vector: str | None
    spaced: frozenset[str]


def words_of(lines: Iterable[str]) -> Words:
    """Return the words of the lines of one picture. What is beyond PostgreSQL's limits is left out, from the end."""
    places: dict[str, list[int]] = {}
    spaced: set[str] = set()
    size = 0
    for word, place, _, _, _, _, is_spaced in tokens(lines):
        known = places.get(word)
        if known is None:
            size += len(word.encode()) + 8
            known = places[word] = []
            if is_spaced and can_be_misread(word):
                spaced.add(word)
        size += 2
        if size > MAX_VECTOR_BYTES:
            break
        if len(known) < MAX_PLACES_OF_A_WORD:
            known.append(place)
    vector = " ".join(f"{quoted(word)}:{','.join(map(str, at))}" for word, at in places.items() if at)
    return Words(vector or None, frozenset(spaced))


@lru_cache(4_096)  # images of a folder share their keywords
def _distinct_of(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(token.word for token in tokens([text])))


def distinct_words(texts: Iterable[str]) -> list[str]:
    """Return the words of texts, each once, without their places: at most ``MAX_DISTINCT``."""
    return list(dict.fromkeys(word for each in texts for word in _distinct_of(each)))[:MAX_DISTINCT]


def quoted(word: str) -> str:
    """Return a word in quotes, as ``tsvector`` and ``tsquery`` take it."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def can_be_misread(word: str) -> bool:
    """Return whether a word of a script with spaces is long enough, and not only a number."""
    return len(word) >= SHORTEST_MISREAD and not word.isdecimal()


def _folded(line: str) -> tuple[str, str, Sequence[int], Sequence[int]]:
    """Return the folded line, the class of each of its characters, and the begin and the end of each in the line."""
    text: list[str] = []
    classes: list[str] = []
    begins: list[int] = []
    ends: list[int] = []
    begin = 0
    while begin < len(line):
        end = begin + 1
        while end < len(line) and (_belongs_to_former(line[end]) or line[end] in _HALF_WIDTH_MARKS):
            end += 1
        folded, kinds = _cluster(line[begin:end])
        text.append(folded)
        classes.append(kinds)
        begins += [begin] * len(folded)
        ends += [end] * len(folded)
        begin = end
    return "".join(text), "".join(classes), begins, ends


def _belongs_to_former(character: str) -> bool:
    """Return whether it is a mark, or one of the characters that nobody sees, such as a zero-width space."""
    category = unicodedata.category(character)
    return category[0] == "M" or category == "Cf"


@lru_cache(16_384)
def _cluster(cluster: str) -> tuple[str, str]:
    """Return a character with its marks, folded, and the class of each character of the result."""
    seen = "".join(one for one in cluster if unicodedata.category(one) != "Cf")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    folded = "".join(map(_without_accents, folded)).translate(_WITHOUT_STROKE)
    if _UNSPACED.match(folded):
        return folded, _UNIT + _REST_OF_UNIT * (len(folded) - 1)
    return folded, "".join(map(_class_of, folded))


def _without_accents(character: str) -> str:
    if character.isascii() or character == _SHORT_I:
        return character
    apart = unicodedata.normalize("NFD", character)
    if not unicodedata.name(apart[0], "").startswith((*_MARKED, "COMBINING")):
        return character
    return "".join(one for one in apart if unicodedata.category(one) != "Mn")


def _class_of(character: str) -> str:
    if character in _JOINERS:
        return _JOINER
    if character in _NUMBER_JOINERS:
        return _NUMBER_JOINER
    if character.isdecimal():
        return _DIGIT
    if _UNSPACED.match(character):  # a mark behind a sign
        return _UNIT
    return _LETTER if unicodedata.category(character)[0] in "LNM" else _OTHER

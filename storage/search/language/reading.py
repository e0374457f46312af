"""Read what a person typed: as tags and filters if possible, as words otherwise. It never fails.

``parser.parse`` is for programs and raises an error for invalid text. Here invalid items, and unknown names, are
searched as words, and a note says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.search.language.lexer import Token, tokens, word
from storage.search.language.parser import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    Parser,
    Setting,
    Words,
    check_depth,
    require_few,
)
from storage.search.language.tree import Expression, NotOf, Parsed, QuerySyntaxError, TagTerm, all_of

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN = 60
MAX_NOTES = 5


@dataclass(frozen=True, slots=True)
class Note:
    """How a part of a query was read, if that may not be what was intended.

    Attributes:
        text: a sentence or two, on one line.
        suggestions: similar names of tags, most similar first.
    """

    text: str
    suggestions: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The whole note on one line."""
        return f"{self.text} Did you mean {', '.join(self.suggestions)}?" if self.suggestions else self.text


@dataclass(slots=True)
class _Found:
    """The items read so far."""

    words: list[tuple[str, int, int]] = field(default_factory=list)
    parts: list[Expression] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    unlike: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add_words(self, text: str, begin: int, end: int) -> None:
        """Add the words between two positions of the query."""
        self.words.append((text, begin, end))


def clean(text: str) -> tuple[str, list[Note]]:
    """Return ``text`` as it can be searched: without invalid characters, and no longer than a query may be."""
    readable = "".join(" " if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text[: MAX_CHARACTERS * 8])
    if len(readable) <= MAX_CHARACTERS:
        return readable, []
    return readable[:MAX_CHARACTERS], [Note(f"Only the first {MAX_CHARACTERS:,} characters are searched.")]


def read(text: str, check: Callable[[Expression | Setting], object]) -> tuple[Parsed, list[Note]]:
    """Parse any text.

    Args:
        text: the typed text, after ``clean``.
        check: raises ``UsageError`` for a tag or a filter that does not exist.

    Returns:
        The query, and notes on surprising readings. Without operators, names or filters it is all text.
    """
    found = _Found()
    items = _balanced(text, list(tokens(text, is_lenient=True)))
    parser = Parser(text, items)
    while (begin := parser.place) < len(items):
        item: Words | Setting | Expression | None = None
        try:
            item = parser.item()
            _take(item, items[begin : parser.place], found, check)
        except UsageError as error:
            end = max(parser.place, begin + 1)
            parser.skip(end)
            _take_as_words(text, items[begin:end], item, error, found)
    unlike = tuple(dict.fromkeys(found.unlike))
    parsed = Parsed(_joined(text, found.words), all_of(found.parts), **found.numbers, unlike=unlike)
    return parsed, _shortened(found.notes)


def _take(
    item: Words | Setting | Expression | None,
    read_tokens: list[Token],
    found: _Found,
    check: Callable[[Expression | Setting], object],
) -> None:
    if item is None:
        return
    if isinstance(item, Words):
        if item.text:
            found.add_words(item.text, read_tokens[0].at, read_tokens[-1].end)
        return
    if isinstance(item, Setting):
        if item.field == "unlike":
            require_few(found.unlike, item, read_tokens[0].at)
            check(item)
            found.unlike.append(item.number)
            return
        if item.field in found.numbers:
            raise QuerySyntaxError(read_tokens[0].at, f"{item.field}: can be given once")
        check(item)
        found.numbers[item.field] = item.number
        return
    for token in read_tokens:
        if token.kind == "term" and token.field is None and not token.is_quoted and token.value.isdecimal():
            raise QuerySyntaxError(token.at, f"write #{token.value[:20]} for the tag with this number")
    check_depth(item, MAX_DEPTH - 1)  # joining the parts of the query adds a level
    check(item)
    found.parts.append(item)


def _take_as_words(
    text: str,
    read_tokens: list[Token],
    item: Words | Setting | Expression | None,
    error: UsageError,
    found: _Found,
) -> None:
    begin, end = read_tokens[0].at, read_tokens[-1].end
    reason = error.reason.removesuffix(".")
    if not re.match(r"[a-z]+:", reason):  # the name of a filter is written small
        reason = reason[:1].upper() + reason[1:]
    shown = _short(" ".join(text[begin:end].split()))
    is_unlike = isinstance(item, Setting) and item.field == "unlike"
    is_without = read_tokens[0].kind == "minus" and isinstance(item, NotOf) and isinstance(item.part, TagTerm)
    if (is_without or is_unlike) and not isinstance(error, QuerySyntaxError):
        # Words rank similar images first, the opposite of what a minus sign asks for.
        found.notes.append(Note(f"{shown} excludes nothing. {reason}.", error.near))
        return
    found.add_words(text[begin:end], begin, end)
    found.notes.append(Note(f"Searched as words: {shown}. {reason}.", error.near))


def _balanced(text: str, items: list[Token]) -> list[Token]:
    """Turn the parentheses that have no partner into plain words."""
    opened: list[int] = []
    lonely: set[int] = set()
    for place, token in enumerate(items):
        if token.kind == "open":
            opened.append(place)
        elif token.kind == "close":
            if opened:
                opened.pop()
            else:
                lonely.add(place)
    lonely.update(opened)
    return [word(text, one.at, one.end) if place in lonely else one for place, one in enumerate(items)]


def _joined(text: str, words: list[tuple[str, int, int]]) -> str | None:
    """Join words. Between neighbours keep the original characters."""
    joined, before = "", None
    for value, begin, end in words:
        gap = "" if before is not None and not text[before:begin] else " "
        joined += gap + value if joined else value
        before = end
    return " ".join(joined.split()) or None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _shortened(notes: list[Note]) -> list[Note]:
    distinct = list(dict.fromkeys(notes))
    if len(distinct) <= MAX_NOTES:
        return distinct
    return [*distinct[: MAX_NOTES - 1], Note(f"{len(distinct) - MAX_NOTES + 1} more parts were searched as words.")]

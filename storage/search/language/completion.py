"""The term that a person is typing, and the query with that term completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.search.language.lexer import FIELDS, FILTERS, REGION_FILTERS, quoted, tokens
from storage.search.language.tree import QuerySyntaxError
from storage.search.language.writer import filter_text, tag_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.search.language.lexer import Token

SIGNS = {"count": (">=", "=", "<="), "area": (">", "<")}

_PHRASE_WORDS = 3
"""Maximum number of free words that may together be the beginning of one name."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A completed query, and the position of the cursor in it."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The term that ends at the cursor.

    Attributes:
        text: the query.
        end: where the term ends; the rest of its word is after the cursor.
        field: the word before its colon.
        phrases: possible starts of the term, each with the text typed from there; most words first, the last word alone
            last.
        is_top: whether a bare word would be text here, and not a tag.
        is_negated: whether a minus sign or an operator precedes it.
        is_quoted: whether it is in quotes.
    """

    text: str
    end: int
    field: str | None
    phrases: tuple[tuple[int, str], ...]
    is_top: bool
    is_negated: bool
    is_quoted: bool

    @property
    def fields(self) -> list[str]:
        """The fields that are allowed here and whose names begin with the typed text."""
        _, typed = self.phrases[-1]
        if self.field is not None or self.is_quoted or not typed:
            return []
        allowed = FIELDS if self.is_top and not self.is_negated else (*FILTERS, *REGION_FILTERS, "tag", "score")
        return [name for name in allowed if name.startswith(typed.casefold())]

    @property
    def signs(self) -> tuple[str, ...]:
        """The signs that may stand behind the tag, the usual one first; none if no sign is needed."""
        return SIGNS.get(self.field or "", ())

    def with_tag(self, name: str, start: int, sign: str | None = None) -> Filled:
        """Return the query in which the term from ``start`` on is the tag ``name``; ``sign``: not the usual one."""
        if self.field == "score":
            return self._filled(f"score:{tag_text(name, is_top=False)}>", start)
        if self.field in REGION_FILTERS:
            bare = tag_text(name, is_top=False)
            named = quoted(name) if any(sign in bare for sign in "<>=") else bare
            return self._filled(f"{self.field}:{named}{sign or self.signs[0]}", start)
        if self.is_quoted:
            return self._filled(f"{quoted(name)} ", start)
        return self._filled(f"{tag_text(name, is_top=self.is_top or self.field == 'tag')} ", start)

    def with_filter(self, name: str, value: str) -> Filled:
        """Return the query in which the term is a filter."""
        return self._filled(f"{filter_text(name, value)} ", self.phrases[-1][0])

    def with_field(self, name: str) -> Filled:
        """Return the query in which the term is the name of a field, ready for a value."""
        return self._filled(f"{name}:", self.phrases[-1][0])

    def _filled(self, term: str, start: int) -> Filled:
        behind = self.text[self.end :]
        if term.endswith(" ") and behind.startswith((" ", ")")):
            return Filled(self.text[:start] + term[:-1] + behind, start + len(term) - behind.startswith(")"))
        return Filled(self.text[:start] + term + behind, start + len(term))


def partial(text: str, at: int) -> Partial | None:
    """Return the term that ends at character ``at`` of ``text``; None if no term is being typed."""
    try:
        before = list(tokens(text[:at]))
    except QuerySyntaxError:
        return None
    if not before or before[-1].end != at or before[-1].kind != "term" or _has_number(before[-1]):
        return None
    *earlier, last = before
    if last.is_quoted and not last.is_unclosed:
        return None
    depth = sum((token.kind == "open") - (token.kind == "close") for token in earlier)
    is_signed = bool(earlier) and (earlier[-1].kind == "minus" or earlier[-1].is_operator)
    is_top = depth <= 0 and not is_signed
    return Partial(
        text,
        _end(text, at, last),
        last.field,
        _phrases(text[:at], earlier, last) if is_top and last.is_free else ((last.at, last.value),),
        is_top,
        is_signed,
        last.is_quoted,
    )


def _has_number(token: Token) -> bool:
    return token.above is not None or token.sign is not None


def _end(text: str, at: int, last: Token) -> int:
    """Return where the term ends in the whole text: with its word, or with its closing quote if that is in its word."""
    try:
        whole = next(tokens(text[last.at :]))
    except QuerySyntaxError:
        return at
    end = last.at + whole.end
    is_other = whole.is_unclosed or (whole.is_quoted and any(map(str.isspace, text[at:end])))
    return at if is_other else end


def _phrases(typed: str, earlier: Sequence[Token], last: Token) -> tuple[tuple[int, str], ...]:
    starts = [last.at]
    for token in reversed(earlier[-_PHRASE_WORDS + 1 :]):
        if not token.is_free:
            break
        starts.append(token.at)
    return tuple((start, " ".join(typed[start:].split())) for start in reversed(starts))

"""Split a query's text into tokens: parentheses, minus signs and terms."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from storage.search.language.tree import FieldName, QuerySyntaxError, RegionFieldName

if TYPE_CHECKING:
    from collections.abc import Iterator

FILTERS: Final[tuple[str, ...]] = get_args(FieldName)
REGION_FILTERS: Final[tuple[str, ...]] = get_args(RegionFieldName)
"""They compare a number of the regions of a tag."""
FIELDS: Final = (*FILTERS, *REGION_FILTERS, "tag", "score", "like", "generation", "text")
OPERATORS: Final = frozenset({"OR", "AND", "NOT"})

_QUOTES = '"\u201c\u201d\uff02\u300c\u300d'
# Signs as a Chinese keyboard types them (the code of a full-width form is that of its sign plus 0xFEE0). One character
# for one, so that positions do not change.
SIGNS = str.maketrans({chr(ord(sign) + 0xFEE0): sign for sign in "():>-#<="} | dict.fromkeys(_QUOTES, '"'))
_NUMBER = r"\d+(?:\.\d*)?(?:e-?\d+)?|\.\d+(?:e-?\d+)?"
_ITEM = re.compile(
    rf"""
    \s+ | (?P<open>\() | (?P<close>\)) | (?P<minus>-(?=[^\s\-)])) |
    (?P<region>{"|".join(REGION_FILTERS)}): (?: "(?P<name>(?:[^"\\]|\\.)*)" | (?P<bare_name>[^\s()"<>=]+) )
        (?P<sign>>=|<=|[<>=]) (?P<number>[^\s()]*) |
    (?:(?P<field>{"|".join(FIELDS)}):)?
    (?: "(?P<quoted>(?:[^"\\]|\\.)*)"(?:>(?P<above>[^\s()]*))? | (?P<unclosed>") | (?P<bare>[^\s()"][^\s()]*) | )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_WORD_END = re.compile(r"(?=[\s()])|\Z")
_ESCAPED = re.compile(rf"\\([\\{_QUOTES}])")
_TO_ESCAPE = re.compile(rf"([\\{_QUOTES}])")
_SCORED = re.compile(rf"(.+?)>({_NUMBER})", re.DOTALL | re.IGNORECASE)
_LIKE_A_FIELD = re.compile(r"([A-Za-z]+):.")
_ID = re.compile(r"#([0-9]+)")


@dataclass(frozen=True, slots=True)
class Token:
    """One item of the text.

    Attributes:
        kind: kind of the token.
        at, end: the range of its characters.
        field: the word before the colon, in lower case.
        value: the value of a term, without quotes.
        value_at: where the value begins.
        above: the score after ``>``.
        sign, number: the comparison of a filter on regions, as it is written.
        is_quoted: whether it was in quotes.
        is_unclosed: whether its quote is never closed; its value then extends to the end of the text.
        is_literal: whether it is a plain word, whatever its characters.
    """

    kind: Literal["open", "close", "minus", "term"]
    at: int
    end: int
    field: str | None = None
    value: str = ""
    value_at: int = 0
    above: float | None = None
    sign: str | None = None
    number: str = ""
    is_quoted: bool = False
    is_unclosed: bool = False
    is_literal: bool = False

    @property
    def is_operator(self) -> bool:
        """Whether it is OR, AND or NOT."""
        is_bare = self.kind == "term" and self.field is None and not self.is_quoted and not self.is_literal
        return is_bare and self.value in OPERATORS

    @property
    def is_free(self) -> bool:
        """Whether it is a word of the text that ranks, unless its context makes it a tag."""
        is_plain = self.kind == "term" and self.field is None and not self.is_quoted and self.above is None
        return is_plain and self.value not in OPERATORS


def tokens(text: str, *, is_lenient: bool = False) -> Iterator[Token]:
    """Yield the items of ``text``.

    Args:
        text: text of a query.
        is_lenient: treat an invalid token (an unclosed quote, a score that is not a number) as a plain word.

    Raises:
        QuerySyntaxError: a score is not a number; never if ``is_lenient``.
    """
    plain = text.translate(SIGNS)
    at = 0
    while at < len(text):
        match = _ITEM.match(plain, at)
        assert match is not None  # the pattern also matches the empty string
        kind = match.lastgroup
        if kind in {"open", "close", "minus"}:
            yield Token(kind, at, match.end())  # type: ignore[arg-type]  # mypy does not narrow str to Literal
        elif match["unclosed"] and is_lenient:
            end = _WORD_END.search(plain, match.end()).start()  # type: ignore[union-attr]  # it matches the text's end
            yield word(text, at, end)
            at = end
            continue
        elif not match[0].isspace():
            try:
                yield _region_term(text, match) if match["region"] else _term(text, plain, match)
            except QuerySyntaxError:
                if not is_lenient:
                    raise
                yield word(text, at, match.end())
        at = len(text) if match["unclosed"] else match.end()


def word(text: str, at: int, end: int) -> Token:
    """Return the characters from ``at`` to ``end`` as a literal word."""
    return Token("term", at, end, value=text[at:end], value_at=at, is_literal=True)


def _term(text: str, plain: str, match: re.Match[str]) -> Token:
    at, field = match.start(), match["field"] and match["field"].casefold()
    if match["unclosed"]:
        begin = match.start("unclosed")
        value = _ESCAPED.sub(r"\1", text[begin + 1 :])
        return Token("term", at, len(text), field, value, begin, is_quoted=True, is_unclosed=True)
    if match["quoted"] is not None:
        begin = match.start("quoted") - 1
        value = _ESCAPED.sub(r"\1", text[match.start("quoted") : match.end("quoted")])
        above = None if match["above"] is None else _score(match["above"], match.start("above"))
        if above is not None and field not in {None, "tag", "score"}:
            raise QuerySyntaxError(match.start("above"), f"only tags can have a score; remove it from {field}:")
        return Token("term", at, match.end(), field, value, begin, above, is_quoted=True)
    if match["bare"] is None:
        return Token("term", at, match.end(), field, "", match.end())
    begin, end = match.span("bare")
    if field is None and (number := _ID.fullmatch(plain, begin, end)):
        return Token("term", at, end, "tag", number[1], begin)
    if field in {None, "tag", "score"} and (scored := _SCORED.fullmatch(plain, begin, end)):
        above = _score(scored[2], scored.start(2))
        return Token("term", at, end, field, text[begin : scored.end(1)], begin, above)
    return Token("term", at, end, field, text[begin:end], begin)


def _region_term(text: str, match: re.Match[str]) -> Token:
    is_quoted = match["name"] is not None
    begin, end = match.span("name" if is_quoted else "bare_name")
    value = _ESCAPED.sub(r"\1", text[begin:end]) if is_quoted else text[begin:end]
    return Token(
        "term",
        match.start(),
        match.end(),
        match["region"].casefold(),
        value,
        begin - is_quoted,
        sign=match["sign"],
        number=match["number"],
        is_quoted=is_quoted,
    )


def _score(number: str, at: int) -> float:
    if not re.fullmatch(_NUMBER, number, re.IGNORECASE) or not 0 <= float(number) <= 1:
        raise QuerySyntaxError(at, f"a score must be a number from 0 to 1, not {number!r}; write for example >0.8")
    return float(number)


def near_field(word: str) -> str | None:
    """Return the field that a word such as ``archve:x`` misspells, if any."""
    match = _LIKE_A_FIELD.match(word.translate(SIGNS))
    return next(iter(difflib.get_close_matches(match[1].lower(), FIELDS, 1, 0.8)), None) if match else None


def quoted(value: str) -> str:
    """Return ``value`` in quotes."""
    return '"' + _TO_ESCAPE.sub(r"\\\1", value) + '"'

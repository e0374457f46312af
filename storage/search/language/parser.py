"""Parse the text of a query to its tree.

    query    = (word | setting | chain)…       a space binds least: all parts must be true
    setting  = like:12 | -like:12 | generation:2
    chain    = both (OR both)…
    both     = unary (AND unary)…
    unary    = (NOT | -)… primary
    primary  = tag | filter | "(" chain… ")"

A word is free, and ranks, only at the top level and if it is not an operand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast

from storage.search.language.lexer import FILTERS, REGION_FILTERS, SIGNS, Token, near_field, quoted, tokens
from storage.search.language.tree import (
    AllOf,
    AnyOf,
    Expression,
    FieldName,
    FieldTerm,
    Leaf,
    NotOf,
    Parsed,
    QuerySyntaxError,
    RegionFieldName,
    RegionTerm,
    Sign,
    TagTerm,
    all_of,
    any_of,
    not_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARACTERS = 2_000
MAX_TERMS = 64
MAX_DEPTH = 16
MAX_UNLIKE = 20
_MAX_PARENTHESES = 4 * MAX_DEPTH  # nested; some may be redundant, but Python's own stack is finite
_WHOLE = re.compile(r"[0-9]{1,9}")
_SHARE = re.compile(r"([0-9]+\.?[0-9]*(?:e-?[0-9]+)?|\.[0-9]+)(%?)", re.IGNORECASE)
_NUMBERS = ("like", "generation")
_SETTINGS = (*_NUMBERS, "text")


def parse(text: str) -> Parsed:
    """Parse the text of a query. Raises ``QuerySyntaxError``."""
    if len(text) > MAX_CHARACTERS:
        raise QuerySyntaxError(MAX_CHARACTERS, f"a query has at most {MAX_CHARACTERS:,} characters; make it shorter")
    for at, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise QuerySyntaxError(at, f"{character!r} is not a text character; remove it")
    parser = Parser(text, list(tokens(text)))
    words: list[str] = []
    parts: list[Expression] = []
    numbers: dict[str, int] = {}
    unlike: list[int] = []
    while (item := parser.item()) is not None:
        if isinstance(item, Words):
            words.append(item.text)
        elif isinstance(item, Setting):
            if item.field == "unlike":
                require_few(unlike, item, parser.at(-1))
                unlike.append(item.number)
                continue
            if item.field in numbers:
                raise QuerySyntaxError(parser.at(-1), f"{item.field}: is given twice; remove one of them")
            numbers[item.field] = item.number
        else:
            parts.append(item)
    where = all_of(parts)
    check_depth(where, MAX_DEPTH)
    return Parsed(" ".join(filter(None, words)) or None, where, **numbers, unlike=tuple(dict.fromkeys(unlike)))


class Setting(NamedTuple):
    """``like:12``, ``-like:12`` (its field is ``unlike``) or ``generation:2``."""

    field: str
    number: int


def require_few(unlike: Sequence[int], item: Setting, at: int) -> None:
    """Raise ``QuerySyntaxError`` if a further image to be unlike is one too many."""
    if item.number not in unlike and len(unlike) == MAX_UNLIKE:
        raise QuerySyntaxError(at, f"-like: can be given for at most {MAX_UNLIKE} images; remove some")


class Words(NamedTuple):
    """Words that rank."""

    text: str


class Parser:
    """Recursive-descent parser for the tokens of one text, one item of the query at a time.

    Args:
        text: text of a query.
        found: its tokens.
    """

    def __init__(self, text: str, found: list[Token]) -> None:
        self._end = len(text)
        self._tokens = found
        self._next = 0
        self._terms = 0
        self._parentheses = 0

    @property
    def place(self) -> int:
        """Number of tokens that have been read."""
        return self._next

    def item(self) -> Words | Setting | Expression | None:
        """Return the next item; None at the end.

        Raises:
            QuerySyntaxError: it is not valid. ``place`` is then after the tokens that were read.
        """
        token = self._peek()
        if token is None:
            return None
        if token.kind == "close":
            raise QuerySyntaxError(token.at, "this ) has no matching (; remove it or add one")
        if token.field == "text":
            self._next += 1
            return Words(" ".join(_value(token).split()))
        if token.field in _NUMBERS:
            self._next += 1
            return Setting(token.field, _number(token))
        behind = self._peek(1)
        is_not = token.kind == "minus" or (token.is_operator and token.value == "NOT")
        if is_not and behind is not None and behind.field == "like" and not self._is_binary(self._peek(2)):
            self._next += 2
            return Setting("unlike", _number(behind))
        if token.is_free and not self._is_binary(self._peek(1)):
            self._next += 1
            return Words(_checked(token).value)
        return self._chain()

    def skip(self, place: int) -> None:
        """Continue after token ``place``, at the top level of the query."""
        self._next = place
        self._parentheses = 0

    def at(self, ahead: int) -> int:
        """Return the character position of the token that is ``ahead`` of the next one."""
        return self._tokens[self._next + ahead].at

    def _peek(self, ahead: int = 0) -> Token | None:
        place = self._next + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    @staticmethod
    def _is_binary(token: Token | None) -> bool:
        return token is not None and token.is_operator and token.value != "NOT"

    def _takes(self, operator: str) -> bool:
        token = self._peek()
        if token is None or not token.is_operator or token.value != operator:
            return False
        self._next += 1
        return True

    def _chain(self) -> Expression:
        parts = [self._both()]
        while self._takes("OR"):
            parts.append(self._both())
        return any_of(*parts)

    def _both(self) -> Expression:
        parts = [self._unary()]
        while self._takes("AND"):
            parts.append(self._unary())
        return cast("Expression", all_of(parts))

    def _unary(self) -> Expression:
        is_negated = False
        while (token := self._peek()) is not None and (token.kind == "minus" or self._takes("NOT")):
            self._next += token.kind == "minus"
            is_negated = not is_negated
        part = self._primary()
        return not_of(part) if is_negated else part

    def _primary(self) -> Expression:
        token = self._peek()
        if token is None or token.kind == "close" or token.is_operator:
            raise self._missing(token)
        self._next += 1
        if token.kind == "open":
            return self._group(token)
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise QuerySyntaxError(token.at, f"a query has at most {MAX_TERMS} tags and filters; remove some")
        if token.field in _SETTINGS:
            raise QuerySyntaxError(
                token.at, f"{token.field}: cannot be combined; take it out of the parentheses, OR, AND or NOT"
            )
        if token.field in REGION_FILTERS:
            return _region_term(token)
        if token.field in FILTERS:
            return FieldTerm(cast("FieldName", token.field), _value(token), token.at)
        name = _value(_checked(token)).strip()
        if not name:
            raise QuerySyntaxError(token.value_at, "the name in the quotes is empty; put a tag between them")
        if token.field == "score" and token.above is None:
            raise QuerySyntaxError(token.value_at, "a tag and its minimum score are expected; write score:castle>0.8")
        return TagTerm(name, token.above, token.value_at)

    def _group(self, opening: Token) -> Expression:
        self._parentheses += 1
        if self._parentheses > _MAX_PARENTHESES:
            raise _too_deep(opening.at)
        parts: list[Expression] = []
        while (token := self._peek()) is not None and token.kind != "close":
            parts.append(self._chain())
        if token is None:
            raise QuerySyntaxError(opening.at, "this ( is not closed; put a ) after the last tag")
        self._next += 1
        self._parentheses -= 1
        joined = all_of(parts)
        if joined is None:
            raise QuerySyntaxError(opening.at, "these parentheses are empty; put a tag in or remove them")
        return joined

    def _missing(self, token: Token | None) -> QuerySyntaxError:
        """Return the error for an operator without an operand: ``OR cat``, ``dog OR``, ``(NOT )``."""
        before = self._tokens[self._next - 1] if self._next else None
        operator = before if before is not None and before.is_operator else token
        if operator is None or not operator.is_operator:  # a minus sign before an operator that lacks an operand
            return QuerySyntaxError(token.at if token else self._end, "a tag is expected here")
        side = "behind" if operator is before else "before"
        hint = f"add one, or write text:{operator.value} for the word itself"
        return QuerySyntaxError(operator.at, f"{operator.value} needs a tag {side} it; {hint}")


def _value(token: Token) -> str:
    """Return the value of a term. Raises ``QuerySyntaxError`` for an open quote, and for no value after a colon."""
    if token.is_unclosed:
        raise QuerySyntaxError(token.value_at, 'this quote is not closed; put a " after the name')
    if not token.value and token.field is not None:
        hint = f"put one directly after the colon, or write text:{quoted(token.field + ':')} for the word itself"
        raise QuerySyntaxError(token.end, f"{token.field}: needs a value; {hint}")
    return token.value


def _region_term(token: Token) -> RegionTerm:
    """Return a condition on regions. Raises ``QuerySyntaxError`` unless it names a tag, a sign and a number."""
    name, example = token.field, "count:dog>=2" if token.field == "count" else "area:dog>0.2"
    value = _value(token)
    if token.sign is None:
        what = f"a tag, a sign (>=, >, =, < or <=) and a number, such as {example}"
        raise QuerySyntaxError(token.at, f"{name}: takes {what}")
    if not value.strip():
        raise QuerySyntaxError(token.value_at, f"{name}: needs the name of a tag, such as {example}")
    number_at = token.end - len(token.number)
    if name == "count" and not _WHOLE.fullmatch(token.number):
        raise QuerySyntaxError(number_at, f"count: compares with a whole number, such as {example}")
    share = _SHARE.fullmatch(token.number)
    number = float(share[1]) / (100 if share[2] else 1) if share else -1.0
    if name == "area" and not 0 <= number <= 1:
        what = "a share of the picture from 0 to 1, or up to 100%"
        raise QuerySyntaxError(number_at, f"area: compares with {what}, such as {example} or area:dog>20%")
    return RegionTerm(cast("RegionFieldName", name), value.strip(), cast("Sign", token.sign), number, token.at)


def _number(token: Token) -> int:
    value = _value(token)
    if not (value.isascii() and value.isdecimal() and 0 < int(value) < 2**63):
        thing = "an image" if token.field == "like" else "a generation"
        raise QuerySyntaxError(token.value_at, f"{token.field}: takes the number of {thing}, not {value!r}")
    return int(value)


def _checked(token: Token) -> Token:
    """Return a term, unless it looks like a filter with a misspelled name."""
    is_bare = token.field is None and not token.is_quoted and not token.is_literal
    if is_bare and (near := near_field(token.value)):
        wrong, _, value = token.value.translate(SIGNS).partition(":")
        hint = f"did you mean {near}:{value} ? For the word itself write text:{quoted(token.value)}"
        raise QuerySyntaxError(token.at, f"there is no filter {wrong!r}; {hint}")
    return token


def check_depth(part: Expression | None, left: int) -> None:
    """Raise ``QuerySyntaxError`` if more than ``left`` levels are nested."""
    if left == 0 and isinstance(part, AllOf | AnyOf | NotOf):
        raise _too_deep(_first_at(part))
    inner = part.parts if isinstance(part, AllOf | AnyOf) else (part.part,) if isinstance(part, NotOf) else ()
    for each in inner:
        check_depth(each, left - 1)


def _first_at(part: Expression) -> int:
    while not isinstance(part, Leaf):
        part = part.part if isinstance(part, NotOf) else part.parts[0]
    return part.at


def _too_deep(at: int) -> QuerySyntaxError:
    return QuerySyntaxError(at, f"parentheses and NOT are nested more than {MAX_DEPTH} deep; make it flatter")

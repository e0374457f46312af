"""The tree of a query, and the display of its errors."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FieldName = Literal[
    "archive", "job", "prefix", "name", "file", "after", "before", "larger", "smaller", "missing", "duplicate", "same",
    "nearly", "truncated", "read", "taken", "camera", "lens", "near", "keyword", "rating",
]  # fmt: skip
RegionFieldName = Literal["count", "area"]
Sign = Literal[">=", ">", "=", "<=", "<"]

_COLUMNS_BEFORE, _COLUMNS_BEHIND = 56, 20  # that a pointer shows of a long text


class QuerySyntaxError(UsageError):
    """The text of a query is not valid.

    Attributes:
        at: position of the error in characters, from 0; the text's length if something is missing at its end.
    """

    code = "query-syntax"

    def __init__(self, at: int, what: str) -> None:
        super().__init__(f"character {at + 1}: {what}")
        self.at = at
        self._what = what

    @property
    def reason(self) -> str:
        """The error without its position."""
        return self._what


@dataclass(frozen=True, slots=True)
class TagTerm:
    """A tag by name (either language) or id; ``above`` is an own threshold in 0..1.

    ``at`` is its position in the text, for messages. Terms that differ only in ``at`` are equal.
    """

    name: str
    above: float | None = None
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """A filter by a fact about the image: ``archive:holiday``, ``after:2024-01-01``, ``larger:2MB``."""

    name: FieldName
    value: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RegionTerm:
    """A condition on the regions of a tag: ``count:dog>=2``, or ``area:dog>0.2`` of the picture."""

    name: RegionFieldName
    tag: str
    sign: Sign
    number: float
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part is true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part is true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The part is false."""

    part: Expression


Leaf = TagTerm | FieldTerm | RegionTerm
Expression = Leaf | AllOf | AnyOf | NotOf


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed query.

    Attributes:
        text: the free words, which rank; None if there are none.
        where: the condition on images; None: no condition.
        like: the image to be similar to.
        unlike: the images to be unlike.
        generation: the generation to search instead of the one that serves.
    """

    text: str | None = None
    where: Expression | None = None
    like: int | None = None
    generation: int | None = None
    unlike: tuple[int, ...] = ()


def all_of(parts: Iterable[Expression]) -> Expression | None:
    """Join with AND. Nested ``AllOf`` are flattened, a single part is returned unchanged, no parts give None."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, AllOf) else (part,)))
    return AllOf(flat) if len(flat) > 1 else next(iter(flat), None)


def any_of(first: Expression, *others: Expression) -> Expression:
    """Join with OR. Nested ``AnyOf`` are flattened, a single part is returned unchanged."""
    flat = tuple(inner for part in (first, *others) for inner in (part.parts if isinstance(part, AnyOf) else (part,)))
    return AnyOf(flat) if len(flat) > 1 else flat[0]


def not_of(part: Expression) -> Expression:
    """Negate. A double negation cancels out."""
    return part.part if isinstance(part, NotOf) else NotOf(part)


def wanted_tags(where: Expression | None) -> Iterator[TagTerm]:
    """Yield the tags that images may be found for: those not under a NOT, in the order of the text."""
    if isinstance(where, TagTerm):
        yield where
    elif isinstance(where, AllOf | AnyOf):
        for part in where.parts:
            yield from wanted_tags(part)


def wanted_fields(where: Expression | None, name: FieldName) -> Iterator[FieldTerm]:
    """Yield the terms of a filter that images may be found for: those not under a NOT, in the order of the text."""
    if isinstance(where, FieldTerm):
        if where.name == name:
            yield where
    elif isinstance(where, AllOf | AnyOf):
        for part in where.parts:
            yield from wanted_fields(part, name)


def wanted_regions(where: Expression | None) -> Iterator[RegionTerm]:
    """Yield the conditions on regions that images may be found for: those not under a NOT, in the order of the text."""
    if isinstance(where, RegionTerm):
        yield where
    elif isinstance(where, AllOf | AnyOf):
        for part in where.parts:
            yield from wanted_regions(part)


def pointer(text: str, error: UsageError) -> str:
    """Return two lines: the text (only the relevant part if it is long), and a caret below ``error.at``.

    Columns are counted as a terminal displays them: two for wide characters, none for combining ones.
    """
    at = error.at or 0
    start, end = max(0, at - _COLUMNS_BEFORE), at + _COLUMNS_BEHIND
    before, behind = (_on_one_line(part) for part in (text[start:at], text[at:end]))
    before = f"…{before}" if start else before
    column = sum(_width(character) for character in before)
    return f"{before}{behind}{'…' if end < len(text) else ''}\n{' ' * column}^"


def _on_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1

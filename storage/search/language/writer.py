"""Write the tree of a query as text: the inverse of the parser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from storage.search.language.lexer import near_field, quoted, tokens
from storage.search.language.parser import parse
from storage.search.language.tree import (
    AllOf,
    AnyOf,
    FieldTerm,
    NotOf,
    Parsed,
    QuerySyntaxError,
    RegionTerm,
    TagTerm,
    all_of,
)

if TYPE_CHECKING:
    from storage.search.language.tree import Expression


def format(parsed: Parsed) -> str:  # noqa: A001  (the inverse of parse)
    """Return the text that ``parse`` turns into ``parsed`` again."""
    parts = _parts(parsed.where)
    items = [_text(parsed.text)] if parsed.text else []
    items += [_at_top(part) for part in parts] if items or len(parts) > 1 else [_alone(part) for part in parts]
    items += [f"like:{parsed.like}"] if parsed.like is not None else []
    items += [f"-like:{image_id}" for image_id in parsed.unlike]
    items += [f"generation:{parsed.generation}"] if parsed.generation is not None else []
    return " ".join(items)


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a query, and the query without it.

    Attributes:
        label: for people.
        is_text: whether it is the text that ranks.
        is_not: whether it excludes images.
        rest: the query without it.
    """

    label: str
    is_text: bool
    is_not: bool
    rest: Parsed


def pieces(parsed: Parsed) -> list[Piece]:
    """Return the parts of a query, in the order of its text."""
    found = [Piece(parsed.text, True, False, replace(parsed, text=None))] if parsed.text else []
    parts = _parts(parsed.where)
    for place, part in enumerate(parts):
        rest = replace(parsed, where=all_of((*parts[:place], *parts[place + 1 :])))
        shown = part.part if isinstance(part, NotOf) else part
        label = shown.name if isinstance(shown, TagTerm) and shown.above is None else _alone(shown)
        found.append(Piece(label, False, isinstance(part, NotOf), rest))
    if parsed.like is not None:
        found.append(Piece(f"like image {parsed.like}", False, False, replace(parsed, like=None)))
    for image_id in parsed.unlike:
        others = tuple(other for other in parsed.unlike if other != image_id)
        found.append(Piece(f"like image {image_id}", False, True, replace(parsed, unlike=others)))
    if parsed.generation is not None:
        found.append(Piece(f"generation {parsed.generation}", False, False, replace(parsed, generation=None)))
    return found


@lru_cache(4_096)
def tag_text(name: str, *, is_top: bool) -> str:
    """Return a tag as written at the top level of a query (``is_top``), or after a sign or among names."""
    try:
        (only,) = tokens(name)
        is_bare = (
            only.is_free and only.value == name and near_field(name) is None and not name.startswith(("-", "\uff0d"))
        )
    except (ValueError, QuerySyntaxError):  # several words, or none; an invalid score
        is_bare = False
    if is_bare:
        return f"tag:{name}" if is_top else name
    return quoted(name)


def filter_text(name: str, value: str) -> str:
    """Return a filter as text."""
    try:
        (only,) = tokens(f"{name}:{value}")
        is_bare = not only.is_quoted and only.value == value
    except (ValueError, QuerySyntaxError):
        is_bare = False
    return f"{name}:{value if is_bare else quoted(value)}"


def region_text(term: RegionTerm) -> str:
    """Return a condition on regions as text."""
    comparison = f"{term.sign}{repr(term.number).removesuffix('.0')}"
    bare = f"{term.name}:{term.tag}{comparison}"
    found = list(tokens(bare, is_lenient=True))
    is_bare = len(found) == 1 and (found[0].value, found[0].sign, found[0].is_quoted) == (term.tag, term.sign, False)
    return bare if is_bare else f"{term.name}:{quoted(term.tag)}{comparison}"


def _parts(where: Expression | None) -> tuple[Expression, ...]:
    if where is None:
        return ()
    return where.parts if isinstance(where, AllOf) else (where,)


@lru_cache(256)  # the links of a page write the same text a hundred times
def _text(text: str) -> str:
    try:
        is_plain = parse(text) == Parsed(text)
    except QuerySyntaxError:
        is_plain = False
    return text if is_plain else f"text:{quoted(text)}"


def _at_top(part: Expression) -> str:
    return f"({_alone(part)})" if isinstance(part, AnyOf) else _alone(part)


def _alone(part: Expression) -> str:
    return _term(part, is_top=True) if isinstance(part, TagTerm) else _inner(part)


def _inner(part: Expression) -> str:
    if isinstance(part, TagTerm):
        return _term(part, is_top=False)
    if isinstance(part, FieldTerm):
        return filter_text(part.name, part.value)
    if isinstance(part, RegionTerm):
        return region_text(part)
    if isinstance(part, NotOf):
        return f"-{_grouped(part.part)}"
    if isinstance(part, AllOf):
        return " AND ".join(_grouped(inner) for inner in part.parts)
    return " OR ".join(_inner(inner) for inner in part.parts)  # AND binds more tightly


def _grouped(part: Expression) -> str:
    return f"({_inner(part)})" if isinstance(part, AllOf | AnyOf) else _inner(part)


def _term(term: TagTerm, *, is_top: bool) -> str:
    if term.above is None:
        return tag_text(term.name, is_top=is_top)
    return f"score:{tag_text(term.name, is_top=False)}>{repr(term.above).removesuffix('.0')}"

"""The links of the search page."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_plus, urlencode

from ramq.services.special_tags import special_first
from ramq.web.deps import query_string
from storage.search.language import (
    AllOf,
    FieldTerm,
    NotOf,
    Parsed,
    TagTerm,
    all_of,
    format,  # noqa: A004  (the inverse of its parse)
    parse,
    pieces,
    wanted_tags,
)
from storage.search.language.parser import MAX_UNLIKE
from storage.search.language.writer import tag_text

if TYPE_CHECKING:
    from storage.results.views import TagView
    from storage.search.language import Expression
    from storage.search.language.writer import Piece
    from storage.search.views import FileFacet, Hit, RegionFacet, SearchQuery

TAGS_OF_HIT = 4
"""The number of tags that a hit shows, besides those that the search asks for."""

_MARK = f"mark{secrets.token_hex(16)}"
"""A name of a tag that nobody else knows. It stands for the place of a term in a link."""


class _Frame(NamedTuple):
    """A link to which a term is to be added. A page has hundreds of them, and writing one whole takes much longer."""

    before: str
    behind: str

    def with_(self, term: str) -> str:
        return f"{self.before}{term}{self.behind}"


@dataclass(frozen=True)
class Links:
    """The current search, and links that each change one thing about it.

    Attributes:
        query: the search.
        picture: the name of an uploaded query picture.
    """

    query: SearchQuery
    picture: str | None

    def to(self, query: SearchQuery) -> str:
        """Return the link that shows ``query`` with the same picture."""
        picture = urlencode({"picture": self.picture}) if self.picture else ""
        return "/?" + "&".join(filter(None, (query_string(query), picture)))

    def changed(self, **changes: object) -> str:
        """Return the link to the first page of the query with ``changes``."""
        return self.to(replace(self.query, **{"cursor": None, **changes}))  # type: ignore[arg-type]  # fields of the query

    def with_tag(self, tag: str) -> str:
        """Return the link that also requires ``tag``."""
        return self._requiring.with_(_required(tag))

    def without_tag(self, tag: str) -> str:
        """Return the link without the term that requires only ``tag``."""
        left = [part for part in self._parts if not (isinstance(part, TagTerm) and _is_same(part.name, tag))]
        tags = tuple(other for other in self.query.tags if not _is_same(other, tag))
        return self.changed(where=all_of(left), tags=tags)

    def toggling(self, tag: str) -> str:
        """Return the link that requires ``tag``, or that no longer does if a term already requires only this tag."""
        return self.without_tag(tag) if tag.casefold() in self._required else self.with_tag(tag)

    def excluding(self, tag: str) -> str:
        """Return the link that excludes the images with ``tag``."""
        return self._excluding.with_(_excluded(tag))

    def narrowing(self, facet: RegionFacet) -> str:
        """Return the link that also requires so many regions of a tag."""
        wanted = _parts_of(parse(facet.query).where)
        return self.changed(where=all_of([*self._parts, *(part for part in wanted if part not in self._parts)]))

    def narrowing_file(self, facet: FileFacet) -> str:
        """Return the link that narrows by what files say, in place of a term that narrows by the same filter.

        If it is chosen already, return the link without it.
        """
        (wanted,) = _parts_of(parse(facet.query).where)
        assert isinstance(wanted, FieldTerm)
        others = [part for part in self._parts if not (isinstance(part, FieldTerm) and part.name == wanted.name)]
        return self.changed(where=all_of(others if wanted in self._parts else [*others, wanted]))

    def is_chosen(self, facet: FileFacet) -> bool:
        """Return whether the search narrows by it already."""
        return parse(facet.query).where in self._parts

    def dropping(self, field: str, tag: str) -> str:
        """Return the link without ``tag`` in the parameter of ``field``."""
        return self.changed(**{field: tuple(other for other in getattr(self.query, field) if other != tag)})

    def not_this(self, image_id: int) -> str:
        """Return the link without an image and with less of what is like it."""
        return self.changed(unlike=(*self.query.unlike, image_id))

    def this_again(self, image_id: int) -> str:
        """Return the link that takes ``not_this`` back."""
        return self.changed(unlike=tuple(other for other in self.query.unlike if other != image_id))

    @cached_property
    def learns(self) -> bool:
        """Whether a person can say of a hit that it is not meant."""
        has_image = bool(self.query.like or self.picture) and not self.query.like_region
        return has_image and len(self.query.unlike) < MAX_UNLIKE

    def after(self, cursor: str) -> str:
        """Return the link to the hits after ``cursor``."""
        return self.to(replace(self.query, cursor=cursor))

    @property
    def exports(self) -> list[tuple[str, str]]:
        """The files with all hits, each with its link; none for a query picture or for regions like one."""
        if self.picture or self.query.like_region:
            return []
        asked = query_string(replace(self.query, cursor=None))
        formats = (("CSV", "csv"), ("JSON lines", "jsonl"), ("Parquet", "parquet"), ("COCO", "coco"))
        return [(name, "/v1/export?" + "&".join(filter(None, (asked, f"format={each}")))) for name, each in formats]

    def without_picture(self) -> str:
        """Return the link without the query picture."""
        return Links(self.query, None).changed()

    @property
    def chips(self) -> list[tuple[Piece, str]]:
        """The parts of the text in the search box, each with the link that removes it."""
        parsed = Parsed(self.query.text, self.query.where, generation=self.query.generation)
        return [
            (piece, self.changed(text=piece.rest.text, where=piece.rest.where, generation=piece.rest.generation))
            for piece in pieces(parsed)
        ]

    @cached_property
    def q(self) -> str:
        """The text in the search box, as the language writes it."""
        return format(Parsed(self.query.text, self.query.where, generation=self.query.generation))

    @cached_property
    def asked(self) -> frozenset[str]:
        """The required tags, as names in lower case and ids. They explain why an image matches."""
        terms = [term.name for term in wanted_tags(self.query.where)]
        return frozenset(tag.casefold() for tag in (*terms, *self.query.tags, *self.query.any_tags))

    @cached_property
    def is_ranked(self) -> bool:
        """Whether hits are ranked by the similarity of their vectors."""
        return bool(self.query.text or self.query.like or self.query.like_region or self.picture)

    @cached_property
    def is_everything(self) -> bool:
        """Whether nothing narrows the search."""
        return not self.is_ranked and not query_string(
            replace(self.query, cursor=None, fold=False, fold_near=False, special=False)
        )

    def tags_of(self, hit: Hit) -> tuple[list[TagView], list[TagView], list[TagView]]:
        """Return the tags of a hit to show: those that the search asks for or its text names, and a few others.

        The third list has all of them, the most special ones first.
        """
        named = () if hit.why is None else hit.why.tags
        asked = [tag for tag in hit.tags if tag.id in named or self._asks_for(tag)]
        special = special_first(hit.tags)
        others = [tag for tag in special[:TAGS_OF_HIT] if tag not in asked]
        return asked, others, special

    def _asks_for(self, tag: TagView) -> bool:
        asked = self.asked
        return bool(asked) and not asked.isdisjoint((tag.name.lower(), str(tag.id), (tag.name_zh or "").lower()))

    @cached_property
    def _required(self) -> frozenset[str]:
        """The names, in lower case, of the tags that a term or a parameter of its own requires."""
        terms = (part.name for part in self._parts if isinstance(part, TagTerm))
        return frozenset(name.casefold() for name in (*terms, *self.query.tags))

    @cached_property
    def _requiring(self) -> _Frame:
        return self._frame(TagTerm(_MARK), _required(_MARK))

    @cached_property
    def _excluding(self) -> _Frame:
        return self._frame(NotOf(TagTerm(_MARK)), _excluded(_MARK))

    def _frame(self, term: Expression, written: str) -> _Frame:
        before, found, behind = self.changed(where=all_of([*self._parts, term])).partition(written)
        assert found
        return _Frame(before, behind)

    @cached_property
    def _parts(self) -> tuple[Expression, ...]:
        return _parts_of(self.query.where)


@lru_cache(4_096)  # pages share most tags
def _required(tag: str) -> str:
    return quote_plus(tag_text(tag, is_top=True))


@lru_cache(4_096)
def _excluded(tag: str) -> str:
    return quote_plus(f"-{tag_text(tag, is_top=False)}")


def _parts_of(where: Expression | None) -> tuple[Expression, ...]:
    return where.parts if isinstance(where, AllOf) else () if where is None else (where,)


def _is_same(tag: str, other: str) -> bool:
    return tag.casefold() == other.casefold()

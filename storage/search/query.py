"""Resolve a search query: the condition on images and the terms to score by, with every name looked up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import NotFoundError, UsageError
from storage.index import condition as conditions
from storage.results import elsewhere, generations, lookup, policies
from storage.results.policy import Policy
from storage.results.tags import UnknownTagError
from storage.search import fields, in_file
from storage.search.counted_regions import groups_of
from storage.search.having import having
from storage.search.kept_images import KeptImages
from storage.search.kept_regions import KeptRegions
from storage.search.language import AllOf, AnyOf, FieldTerm, NotOf, RegionTerm, TagTerm, wanted_fields, wanted_tags
from storage.search.language.parser import MAX_UNLIKE, Setting
from storage.search.language.reading import MAX_NOTES, clean
from storage.search.language.reading import read as language_read
from storage.search.phrases import phrase_of
from storage.search.text_in_pictures import TextInPictures
from storage.search.views import SORTS
from storage.tables import RECOGNITION, Generation, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.index.evaluate import Terms
    from storage.results.tags import Names
    from storage.search.language import Expression, Parsed
    from storage.search.language.tree import Leaf
    from storage.search.phrases import Phrase
    from storage.search.views import SearchQuery

_NONE = conditions.OneOf(np.empty(0, dtype=np.int64))
MAX_LIMIT = 500
MAX_TERMS = 64
MAX_DEPTH = 16
MAX_OFFSET = 10_000
"""Maximum depth of paging in a ranking by vector. The ranking is computed again for each page."""


@dataclass(frozen=True, slots=True)
class Match:
    """A query, resolved against one generation.

    Attributes:
        generation: the generation to search.
        names: its vocabulary.
        condition: the condition on images; None: no condition.
        terms: the terms to score by: the mean over them of the best score of their tags; without terms: 0.
        policy: which tags count in which archive. Scores ignore it: they only order the images that match.
        exact: the condition without what a reader may have misread, ``condition`` itself if that is nothing; None: no
            image is to be found for the text in it.
        phrases: what is asked to be read, misread words included.
        text_generation: the generation that read the text in pictures, if text plays a part and anything was read.
    """

    generation: Generation
    names: Names
    condition: Condition | None
    terms: Terms
    policy: Policy = field(default_factory=Policy)
    exact: Condition | None = None
    phrases: tuple[Phrase, ...] = ()
    text_generation: int | None = None


def check(query: SearchQuery) -> None:
    """Raise ``UsageError`` for invalid values in the query."""
    if not 1 <= query.limit <= MAX_LIMIT:
        raise UsageError(f"limit must be in 1..{MAX_LIMIT}, not {query.limit}")
    for name in ("threshold", "relevance"):
        share = getattr(query, name)
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"{name} must be in 0..1, not {share}")
    terms = [] if query.where is None else list(leaves(query.where))
    if query.sort is not None and query.like_region is not None:
        raise UsageError("regions cannot be put in the order of dates: remove sort, or like_region")
    if query.sort is not None and query.sort not in SORTS:
        raise UsageError(f"unknown order {query.sort!r}; choose one of {', '.join(SORTS)}")
    if len(query.unlike) > MAX_UNLIKE:
        raise UsageError(f"at most {MAX_UNLIKE} images to be unlike in one query")
    if len(query.tags) + len(query.any_tags) + len(query.not_tags) + len(terms) > MAX_TERMS:
        raise UsageError(f"at most {MAX_TERMS} tags and filters in one query")
    for name in ("text", "archive", "prefix"):
        if "\x00" in (getattr(query, name) or ""):
            raise UsageError(f"{name} must not contain a NUL character")


def resolve(
    session: Session,
    query: SearchQuery,
    vocabulary: Callable[[Session, int], Names],
    pictures: TextInPictures | None = None,
) -> Match | None:
    """Resolve names, archives and jobs; None as long as nothing was recorded.

    Args:
        session: a transaction.
        query: what to look for.
        vocabulary: returns a vocabulary by its id.
        pictures: the text in pictures; None: as the transaction sees it, with nothing kept for later.

    Raises:
        UnknownTagError, NotFoundError, QuerySyntaxError, UsageError: a name in the query does not exist, or the query
            is not valid. For an error in the query's text, ``at`` is its position.
    """
    check(query)
    searched = generation(session, query)
    facts = _facts(session, query)
    if searched is None:
        return None
    names = vocabulary(session, searched.vocabulary_id)
    policy = policies.load(session, names)
    pictures = pictures or TextInPictures(session, KeptImages(), KeptRegions())
    resolver = _Resolver(session, names, query.threshold, policy, pictures)
    wanted, optional, unwanted = (
        [elsewhere.meant(session, names, term) for term in terms]
        for terms in (query.tags, query.any_tags, query.not_tags)
    )
    either = tuple(tag_id for term in optional for tag_id in term)
    parts = [*facts, *map(resolver.has, wanted)]
    if optional:
        parts.append(resolver.has(either))
    parts += [conditions.Not(resolver.has(term)) for term in unwanted]
    terms = [*wanted, *([either] if optional else [])]
    match = Match(searched, names, conditions.All(tuple(parts)) if parts else None, tuple(terms), policy)
    if query.text:
        match = replace(match, text_generation=pictures.generation_id)
    if query.where is None:
        return match
    condition = conditions.All((*parts, resolver.condition(query.where)))
    asked = list(wanted_fields(query.where, "read"))
    phrases = tuple(resolver.phrase(term) for term in asked)
    exact = condition if phrases else None
    if any(phrase != phrase_of(term.value) for term, phrase in zip(asked, phrases, strict=True)):
        exact = conditions.All((*parts, resolver.condition(query.where, is_exact=True)))
    text_generation = pictures.generation_id if phrases else match.text_generation
    terms = [*terms, *resolver.terms(query.where)]
    return Match(searched, names, condition, tuple(terms), policy, exact, phrases, text_generation)


def generation(session: Session, query: SearchQuery) -> Generation | None:
    """Return the generation that a query searches; None as long as nothing was recorded. Raises ``NotFoundError``.

    It is the one that the query was read for, else the one that it names, else the one of the job that it names, else
    the one that serves.
    """
    if query.read_for is not None:
        return generations.get(session, query.read_for)
    if query.generation is not None:
        return generations.get(session, query.generation)
    term = _job_term(query.where) if query.job is None else None
    job_id = query.job if term is None else fields.number(term)
    if job_id is None:
        return generations.default(session)
    job = session.get(Job, job_id) if job_id < fields.BIGINT else None
    if job is None:
        raise fields.at(NotFoundError(f"there is no job {job_id}"), term)
    if job.stage != RECOGNITION:
        return generations.default(session)
    return generations.get(session, job.generation_id) if job.generation_id is not None else None


def read(
    session: Session,
    query: SearchQuery,
    text: str,
    vocabulary: Callable[[Session, int], Names],
    *,
    are_tags_words: bool = False,
) -> SearchQuery:
    """Return ``query``, narrowed by what a person typed. Never fails on ``text``: see ``language.reading``.

    Args:
        session: a transaction.
        query: the rest of the query.
        text: the typed text.
        vocabulary: returns a vocabulary by its id.
        are_tags_words: whether to search tags of the query as words too.

    Raises:
        UsageError: ``query`` itself names something that does not exist.
    """
    typed, cut = clean(text)
    parsed, notes = language_read(typed, lambda item: _require_job_or_generation(session, item))
    searched = generation(session, _with(query, parsed))
    if not typed.strip():
        return replace(query, read_for=None if searched is None else searched.id)
    if searched is not None:
        names = vocabulary(session, searched.vocabulary_id)
        reader = _Reader(session, names, query, are_tags_words=are_tags_words)
        parsed, notes = language_read(typed, reader.check)
    return replace(_with(query, parsed), notes=(*cut, *notes), read_for=None if searched is None else searched.id)


def _with(query: SearchQuery, parsed: Parsed) -> SearchQuery:
    return replace(
        query,
        text=parsed.text,
        where=parsed.where,
        like=query.like if parsed.like is None else parsed.like,
        unlike=tuple(dict.fromkeys((*query.unlike, *parsed.unlike))),
        generation=parsed.generation,
    )


def _require_job_or_generation(session: Session, item: Expression | Setting) -> None:
    """Raise ``UsageError`` for a job or a generation that does not exist."""
    if isinstance(item, Setting):
        if item.field == "generation":
            generations.get(session, item.number)
        return
    for leaf in leaves(item, MAX_DEPTH):
        if isinstance(leaf, FieldTerm) and leaf.name == "job":
            number = fields.number(leaf)
            if number >= fields.BIGINT or session.get(Job, number) is None:
                raise NotFoundError(f"there is no job {leaf.value}")


class _Reader:
    """Checks whether the names in a typed query exist."""

    def __init__(self, session: Session, names: Names, query: SearchQuery, *, are_tags_words: bool) -> None:
        self._session = session
        self._are_tags_words = are_tags_words
        self._query = query
        self._resolver = _Resolver(session, names, None, Policy(), pictures=None)
        self._unknown = 0

    def check(self, item: Expression | Setting) -> None:
        """Raise ``UsageError`` if ``item`` names something that does not exist."""
        _require_job_or_generation(self._session, item)
        if isinstance(item, Setting):
            if item.field == "like" and self._query.like not in {None, item.number}:
                raise UsageError(f"the search already ranks by similarity to image {self._query.like}")
            if item.field in {"like", "unlike"}:
                lookup.locate(self._session, item.number)
            return
        for leaf in leaves(item, MAX_DEPTH):
            names = self._resolver.names
            if isinstance(leaf, TagTerm) and not (names.ids(leaf.name) or names.general(leaf.name)):
                self._unknown += 1
                # Comparing a name with all others takes 10 ms, and a long text may have hundreds of names.
                is_told = self._unknown <= MAX_NOTES
                other = elsewhere.told(self._session, leaf.name) if is_told else ""
                near = names.near(leaf.name) if is_told and not other else ()
                raise UnknownTagError(leaf.name, near, elsewhere=other)
        self._resolver.condition(item)
        if self._are_tags_words and next(wanted_tags(item), None) is not None:
            raise UsageError("no image matches it together with the rest")


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Resolves the names in a tree of the language. ``pictures`` None: to check it, not to search."""

    session: Session
    names: Names
    threshold: float | None
    policy: Policy
    pictures: TextInPictures | None
    phrases: dict[str, Phrase] = field(default_factory=dict)

    def has(self, tag_ids: Sequence[int], above: float | None = None) -> Condition:
        """Return the condition to have one of these tags, above ``above`` or the query's threshold."""
        threshold = self.threshold if above is None else above
        return having(self.policy, ((tag_id, self.names.units(tag_id, threshold)) for tag_id in tag_ids))

    def condition(self, tree: Expression, *, is_exact: bool = False) -> Condition:  # noqa: PLR0911  (one for each kind)
        """Return the condition of a tree; ``is_exact``: without the words that a reader may have misread.

        What is excluded is excluded with them, so that every image either has a phrase or has it not.
        """
        match tree:
            case AllOf(parts):
                return conditions.All(tuple(self.condition(part, is_exact=is_exact) for part in parts))
            case AnyOf(parts):
                return conditions.Any(tuple(self.condition(part, is_exact=is_exact) for part in parts))
            case NotOf(part):
                return conditions.Not(self.condition(part))
            case TagTerm(_, above):
                return self.has(self._ids(tree), above)
            case FieldTerm("read"):
                return self._is_read(tree, is_exact=is_exact)
            case RegionTerm():
                return self._has_regions(tree)
            case FieldTerm(name) if name in in_file.FIELDS:
                asked = in_file.saying(tree)
                return _NONE if self.pictures is None else conditions.OneOf(self.pictures.saying(asked))
            case FieldTerm():
                return fields.condition(self.session, tree)

    def phrase(self, term: FieldTerm) -> Phrase:
        """Return what ``read:`` asks for, and what a reader may have made of it."""
        if term.value not in self.phrases:
            phrase = _phrase_of(term)
            self.phrases[term.value] = phrase if self.pictures is None else self.pictures.or_misread(phrase)
        return self.phrases[term.value]

    def _is_read(self, term: FieldTerm, *, is_exact: bool) -> Condition:
        exact = _phrase_of(term)
        if self.pictures is None:
            return _NONE
        wanted = exact if is_exact else self.phrase(term)
        return conditions.OneOf(self.pictures.having_misread(wanted, exact))

    def _has_regions(self, term: RegionTerm) -> Condition:
        if self.pictures is None:
            return _NONE
        return self.pictures.regions.condition(term, groups_of(term, self.names))

    def terms(self, tree: Expression) -> Terms:
        """Return the terms of a tree: one for each wanted tag, and one for alternatives of which one is enough."""
        match tree:
            case AllOf(parts):
                return tuple(term for part in parts for term in self.terms(part))
            case AnyOf(parts):
                either = tuple(tag_id for part in parts for term in self.terms(part) for tag_id in term)
                return (either,) if either else ()
            case TagTerm():
                return (self._ids(tree),)
            case _:
                return ()

    def _ids(self, term: TagTerm) -> tuple[int, ...]:
        try:
            return self.names.meant(term.name)
        except UsageError as error:
            raise fields.at(error, term) from None


def _phrase_of(term: FieldTerm) -> Phrase:
    try:
        return phrase_of(term.value)
    except UsageError as error:
        raise fields.at(error, term) from None


def _facts(session: Session, query: SearchQuery) -> list[Condition]:
    facts: list[Condition] = []
    if query.archive:
        facts.append(fields.in_archive(session, query.archive))
    if query.prefix:
        facts.append(fields.below(query.prefix))
    if query.job is not None:
        facts.append(fields.by_job(session, query.job))
    if query.unlike:
        facts.append(conditions.Not(conditions.OneOf(np.unique(np.array(query.unlike, dtype=np.int64)))))
    return facts


def _job_term(where: Expression | None) -> FieldTerm | None:
    """Return the term that narrows a whole query to a job, if there is one."""
    for part in where.parts if isinstance(where, AllOf) else (where,):
        if isinstance(part, FieldTerm) and part.name == "job":
            return part
    return None


def leaves(tree: Expression, depth: int = MAX_DEPTH) -> Iterator[Leaf]:
    """Yield the terms of a tree. Raises ``UsageError`` for a tree that is deeper."""
    if depth < 0:
        raise UsageError(f"a query may be nested at most {MAX_DEPTH} deep; make it simpler")
    match tree:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from leaves(part, depth - 1)
        case NotOf(part):
            yield from leaves(part, depth - 1)
        case TagTerm() | FieldTerm() | RegionTerm():
            yield tree

"""From a search query to SQL: which images match, and how well."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Float, Select, SmallInteger, and_, cast, func, literal, not_, or_, select
from sqlalchemy.dialects.postgresql import array

from ramq.kit.errors import NotFoundError, UsageError
from storage.models import SCORE_SCALE, Generation, Image, Job, Record
from storage.repositories import archives, generations, tags

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from storage.repositories.tags import Names
    from storage.views import SearchQuery

MAX_LIMIT = 500
MAX_TERMS = 64
MAX_OFFSET = 10_000
"""How deep a ranking by vector can be paged: it is computed afresh for each page."""


@dataclass(frozen=True, slots=True)
class Match:
    """A query, resolved against one generation.

    Attributes:
        generation: whose records are searched.
        names: its vocabulary.
        conditions: what a record must meet.
        score: mean of the best scores of the positive terms, in 0..1; 0 when there are none.
        is_narrowed: whether anything but the generation narrows the records.
    """

    generation: Generation
    names: Names
    conditions: tuple[ColumnElement[bool], ...]
    score: ColumnElement[float]
    is_narrowed: bool

    def image_ids(self) -> Select[int]:
        """Select the ids of the images that match."""
        return select(Record.image_id).join(Image, Image.id == Record.image_id).where(*self.conditions)

    def scored(self) -> Select[int, float]:
        """Select ids with scores."""
        return select(Record.image_id, self.score).join(Image, Image.id == Record.image_id).where(*self.conditions)


def check(query: SearchQuery) -> None:
    """Raise ``UsageError`` where the query's own values make no sense."""
    if not 1 <= query.limit <= MAX_LIMIT:
        raise UsageError(f"limit must be in 1..{MAX_LIMIT}, not {query.limit}")
    if query.threshold is not None and not 0 <= query.threshold <= 1:
        raise UsageError(f"threshold must be in 0..1, not {query.threshold}")
    if len(query.tags) + len(query.any_tags) + len(query.not_tags) > MAX_TERMS:
        raise UsageError(f"at most {MAX_TERMS} tags in one query")
    if query.text and query.like is not None:
        raise UsageError("search by text or by a similar image, not by both")
    for name in ("text", "archive", "prefix"):
        if "\x00" in (getattr(query, name) or ""):
            raise UsageError(f"{name} must not contain a NUL character")


def resolve(session: Session, query: SearchQuery, vocabulary: Callable[[Session, int], Names]) -> Match | None:
    """Resolve names, archives and jobs; None while nothing was recorded at all.

    Raises:
        UnknownTagError, NotFoundError, UsageError: something the query names is not there.
    """
    check(query)
    searched = generation(session, query)
    conditions: list[ColumnElement[bool]] = []
    if query.archive:
        archive_id, prefix = archives.resolve(session, query.archive)
        conditions.append(Image.archive_id == archive_id)
        if prefix:
            conditions.append(_below(prefix))
    if query.prefix:
        conditions.append(_below(query.prefix))
    if query.job is not None:
        conditions.append(Record.job_id == query.job)
    if searched is None:
        return None
    names = vocabulary(session, searched.vocabulary_id)

    def ids_of(terms: Sequence[str]) -> list[list[int]]:
        return [tags.resolve(session, searched.vocabulary_id, term) for term in terms]

    def has(term: Sequence[int]) -> ColumnElement[bool]:
        return or_(*(_has(tag_id, names.units(tag_id, query.threshold)) for tag_id in term))

    wanted, optional, unwanted = ids_of(query.tags), ids_of(query.any_tags), ids_of(query.not_tags)
    conditions += [has(term) for term in wanted]
    if optional:
        conditions.append(or_(*(has(term) for term in optional)))
    conditions += [not_(has(term)) for term in unwanted]
    return Match(
        searched,
        names,
        (Record.generation_id == searched.id, *conditions),
        _mean_score([*wanted, *([[tag_id for term in optional for tag_id in term]] if optional else [])]),
        bool(conditions),
    )


def generation(session: Session, query: SearchQuery) -> Generation | None:
    """Return the generation that a query searches; None while nothing was recorded. Raises ``NotFoundError``."""
    if query.job is None:
        return generations.default(session)
    job = session.get(Job, query.job) if query.job < 2**63 else None
    if job is None:
        raise NotFoundError(f"there is no job {query.job}")
    return generations.get(session, job.generation_id) if job.generation_id is not None else None


def _below(prefix: str) -> ColumnElement[bool]:
    """Keys that begin with ``prefix``, as a range of the index, which sorts by bytes."""
    return and_(Image.key >= prefix, Image.key.startswith(prefix, autoescape=True))


def _score_of(tag_id: int) -> ColumnElement[int]:
    """A record's stored score of a tag, NULL where it has none."""
    position = func.array_position(Record.tags, cast(tag_id, SmallInteger))
    scores: Any = Record.scores
    score: ColumnElement[int] = scores[position]
    return score


def _has(tag_id: int, units: int) -> ColumnElement[bool]:
    holds: ColumnElement[bool] = Record.tags.contains(array([cast(tag_id, SmallInteger)]))  # what the GIN index answers
    return and_(holds, _score_of(tag_id) > units)


def _mean_score(terms: Sequence[Sequence[int]]) -> ColumnElement[float]:
    if not terms:
        return literal(0.0, Float)
    best = [func.coalesce(func.greatest(*(_score_of(tag_id) for tag_id in term)), 0) for term in terms]
    total: ColumnElement[Any] = best[0]
    for score in best[1:]:
        total = total + score
    mean: ColumnElement[float] = cast(total, Float).op("/")(cast(float(SCORE_SCALE * len(terms)), Float))
    return mean


def encode_cursor(values: list[Any]) -> str:
    """Pack where a page ended into one opaque word."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: tuple[type, ...]) -> list[Any]:
    """Unpack a cursor. Raises ``UsageError`` for one that this kind of query did not give out."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        values = None
    fits = isinstance(values, list) and len(values) == len(kinds)
    if not fits or not all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        raise UsageError("the cursor is not one of this search: take next_cursor of the page before")
    return list(values)

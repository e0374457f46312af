"""The conditions of filters: their values as numbers, dates, sizes and archives."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from storage.errors import UsageError
from storage.index import condition as conditions
from storage.index.names import words_in
from storage.results import archives, copies, file_pages, images, near_copies, openings, stages
from storage.search.language import QuerySyntaxError
from storage.tables import RECOGNITION, Job
from storage.texts import other_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.search.language import FieldTerm, TagTerm

Failure = TypeVar("Failure", bound=UsageError)

BIGINT = 2**63
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]i?)?b?", re.IGNORECASE)
_SIZE_UNITS: Final = {
    "": 1,
    **{prefix: 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{f"{prefix}i": 1024**power for power, prefix in enumerate("kmgt", start=1)},
}


def in_archive(session: Session, text: str) -> Condition:
    """Return the condition to be of an archive, by number, URI or name. Raises ``UsageError``."""
    found: list[Condition] = []
    for archive_id, prefix in archives.resolve_all(session, text):
        inside = conditions.InArchive(archive_id)
        found.append(conditions.All((inside, below(prefix))) if prefix else inside)
    return found[0] if len(found) == 1 else conditions.Any(tuple(found))


def below(prefix: str) -> Condition:
    """Return the condition that keys begin with a prefix, in whatever Unicode form."""
    forms = tuple(conditions.Below(form) for form in (prefix, *other_forms(prefix)))
    return forms[0] if len(forms) == 1 else conditions.Any(forms)


def condition(session: Session, term: FieldTerm) -> Condition:  # noqa: C901, PLR0911, PLR0912  (a line for each)
    """Return the condition of a filter, but for those that ``text_in_pictures`` answers.

    Raises:
        UsageError: the value does not fit.
    """
    match term.name:
        case "archive":
            try:
                return in_archive(session, term.value)
            except UsageError as error:
                raise at(error, term) from None
        case "job":
            return by_job(session, number(term))
        case "prefix":
            return below(term.value)
        case "name":
            return _named(term)
        case "file":
            return conditions.OneOf(np.array(sorted(file_pages.of_name(session, term.value)), dtype=np.int64))
        case "after":
            return conditions.Modified(since=_moment(term))
        case "before":
            return conditions.Modified(until=_moment(term))
        case "larger":
            return conditions.Sized(at_least=_bytes(term))
        case "smaller":
            return conditions.Sized(below=_bytes(term))
        case "missing":
            is_missing = conditions.OneOf(np.array(images.missing(session), dtype=np.int64))
            return is_missing if _yes_or_no(term) else conditions.Not(is_missing)
        case "duplicate" if term.value.strip().casefold() == "near":
            return conditions.OneOf(near_copies.every(session).ids)
        case "truncated":
            is_cut = conditions.OneOf(np.array(openings.truncated(session), dtype=np.int64))
            return is_cut if _yes_or_no(term) else conditions.Not(is_cut)
        case "duplicate":
            has_copy = conditions.OneOf(copies.every(session).ids)
            return has_copy if _yes_or_no(term) else conditions.Not(has_copy)
        case "same":
            image_id = number(term)
            return conditions.OneOf(copies.same_as(session, image_id if image_id < BIGINT else 0))
        case "nearly":
            image_id = number(term)
            return conditions.OneOf(near_copies.alike(session, image_id if image_id < BIGINT else 0))
        case name:
            raise TypeError(f"{name}: is found in pictures or their files, see storage.search.query")


def _named(term: FieldTerm) -> Condition:
    """Return the condition that all words of a text stand in the name of the file. ``*`` behind them: beginnings."""
    text = term.value.strip()
    words = words_in(text)
    if not words:
        raise QuerySyntaxError(term.at, "name: needs a word or a number, such as name:beach or name:IMG_2034")
    return named(words, is_beginning=text.endswith("*"))


def named(words: Sequence[str], *, is_beginning: bool = False) -> Condition:
    """Return the condition that all these words stand in the name of the file; of the last one, its beginning."""
    parts = [conditions.Named(word) for word in words[:-1]]
    return conditions.All((*parts, conditions.Named(words[-1], is_beginning)))


def _yes_or_no(term: FieldTerm) -> bool:
    value = term.value.strip().casefold()
    if value not in {"yes", "no"}:
        also = ", or near" if term.name == "duplicate" else ""
        raise QuerySyntaxError(term.at, f"{term.name}: takes yes or no{also}, such as {term.name}:no")
    return value == "yes"


def by_job(session: Session, job_id: int) -> Condition:
    """Return the condition that a job recorded the image, or that it did its further stage on it."""
    job = session.get(Job, job_id) if job_id < BIGINT else None
    if job is None or job.stage == RECOGNITION:
        return conditions.ByJob(job_id)
    return conditions.OneOf(stages.done_by(session, job))


def number(term: FieldTerm) -> int:
    """Return the number that is the value of a filter. Raises ``QuerySyntaxError``."""
    if not term.value.isascii() or not term.value.isdecimal():
        raise QuerySyntaxError(term.at, f"{term.name}: takes a number, such as {term.name}:3")
    return int(term.value)


def _moment(term: FieldTerm) -> datetime:
    """Return the start of a date, or of a date and a time; in UTC unless it has an offset."""
    text = term.value.strip()
    # A year or a month alone means its first day.
    whole = {4: f"{text}-01-01", 7: f"{text}-01"}.get(len(text), text)
    try:
        moment = datetime.fromisoformat(whole)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        name = term.name
        example = f"{name}:2024-01-31 or {name}:2024-01-31T18:00"
        raise QuerySyntaxError(term.at, f"{name}: takes a date, such as {example}") from None


def _bytes(term: FieldTerm) -> int:
    found = _SIZE.fullmatch(term.value.strip())
    if found is None:
        raise QuerySyntaxError(term.at, f"{term.name}: takes a size, such as {term.name}:2MB or {term.name}:500KiB")
    number, unit = found.groups()
    return min(int(Decimal(number) * _SIZE_UNITS[(unit or "").lower()]), BIGINT - 1)


def at(error: Failure, term: TagTerm | FieldTerm | None) -> Failure:
    """Return the error, with the position of its term."""
    error.at = None if term is None else term.at
    return error

"""The filters on what the files of images say, such as ``taken:`` and ``camera:``, and on keywords: see ``FIELDS``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from storage.results import metadata_search
from storage.search.language.lexer import SIGNS
from storage.search.language.tree import QuerySyntaxError
from storage.texts import fold, fold_seen

if TYPE_CHECKING:
    from storage.results.metadata_search import Saying
    from storage.search.language import FieldTerm

FIELDS: Final = frozenset({"taken", "camera", "lens", "near", "keyword", "rating"})

_PERIOD = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}))?)?)?)?", re.ASCII)
_SIGN = re.compile(r"(>=|<=|>|<|=)?(.*)", re.DOTALL)
_NUMBER = r"[+-]?(?:\d{1,3}(?:\.\d{0,15})?|\.\d{1,15})"
_PLACE = re.compile(
    rf"({_NUMBER})\s*,\s*({_NUMBER})(?:\s*,\s*(\d{{1,5}}(?:\.\d{{1,6}})?)\s*(km|m|mi)?)?", re.ASCII | re.IGNORECASE
)
_KILOMETRES: Final = {"km": 1.0, "m": 0.001, "mi": 1.609344}
_USUAL_KM = 1.0
MOST_KM = 20_038.0
"""Half of the way around the earth."""

_RANGE = ".."
_STARS = re.compile(r"-?\d", re.ASCII)
_LEAST_STARS, _MOST_STARS = -1, 5


def saying(term: FieldTerm) -> tuple[Saying, ...]:
    """Return the images that a filter asks for: those of any of these.

    Raises:
        QuerySyntaxError: the value does not fit.
    """
    value = term.value.translate(SIGNS).strip()
    match term.name:
        case "taken":
            return (metadata_search.taken(*_when(term, value)),)
        case "near":
            return (metadata_search.near(*_where(term, value)),)
        case "rating":
            return (metadata_search.rated(*_stars(term, value)),)
    named = fold(term.value)
    if not named:
        example = {"camera": 'camera:"NIKON D90"', "lens": "lens:50mm", "keyword": "keyword:vienna"}[term.name]
        raise QuerySyntaxError(term.at, f"{term.name}: needs a name, such as {example}")
    if term.name == "keyword":
        # Files that an earlier version read have the characters that nobody sees in what is compared.
        return tuple(
            saying
            for each in dict.fromkeys((fold_seen(term.value) or named, named))
            for saying in metadata_search.with_keyword(each)
        )
    return (metadata_search.by_device(term.name, named),)


def _when(term: FieldTerm, value: str) -> tuple[datetime | None, datetime | None]:
    """Return the moments between which images were taken: the first one, and the one behind the last."""
    try:
        if _RANGE in value:
            first, _, last = (part.strip() for part in value.partition(_RANGE))
            since = _period(first)[0] if first else None
            until = _period(last)[1] if last else None
            if (first or last) and not (since and until and since >= until):
                return since, until
        else:
            sign, period = _SIGN.fullmatch(value).groups()  # type: ignore[union-attr]  # it matches any text
            begin, end = _period(period.strip())
            return {
                ">": (end, None),
                ">=": (begin, None),
                "<": (None, begin),
                "<=": (None, end),
            }.get(sign, (begin, end))
    except (ValueError, OverflowError):
        pass
    example = "taken:2023, taken:2023-05, taken:2023-01..2024-02 or taken:>2023-05-01"
    raise QuerySyntaxError(term.at, f"taken: takes a year, a month or a day, or a range of them, such as {example}")


def _period(text: str) -> tuple[datetime, datetime]:
    """Return the start of a year, month, day or minute, and of the next one. Raises ``ValueError``."""
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (None if part is None else int(part) for part in found.groups())
    begin = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0)  # noqa: DTZ001  (local time)
    if month is None:
        return begin, begin.replace(year=begin.year + 1)
    if day is None:
        return begin, begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    if hour is None:
        return begin, begin + timedelta(days=1)
    return begin, begin + (timedelta(minutes=1) if second is None else timedelta(seconds=1))


def _where(term: FieldTerm, value: str) -> tuple[float, float, float]:
    found = _PLACE.fullmatch(value)
    if found is not None:
        north, east = float(found[1]), float(found[2])
        km = float(found[3]) * _KILOMETRES[(found[4] or "km").lower()] if found[3] else _USUAL_KM
        if abs(north) <= 90 and abs(east) <= 180 and km <= MOST_KM:
            return north, east, km
    raise QuerySyntaxError(
        term.at,
        "near: takes degrees north, degrees east and a distance, such as near:48.2,16.4,5km or near:-33.9,18.4,500m",
    )


def _stars(term: FieldTerm, value: str) -> tuple[int, int]:
    first, is_range, last = value.partition(_RANGE)
    sign, one = _SIGN.fullmatch(first.strip()).groups()  # type: ignore[union-attr]  # it matches any text
    if _STARS.fullmatch(one) and (not is_range or (sign is None and _STARS.fullmatch(last.strip()))):
        stars = int(one)
        low, high = {
            ">": (stars + 1, _MOST_STARS),
            ">=": (stars, _MOST_STARS),
            "<": (_LEAST_STARS, stars - 1),
            "<=": (_LEAST_STARS, stars),
        }.get(sign, (stars, int(last) if is_range else stars))
        if _LEAST_STARS <= stars <= _MOST_STARS:
            return low, high
    raise QuerySyntaxError(term.at, "rating: takes a number of stars from 0 to 5, such as rating:5 or rating:>=3")

"""Text, numbers, dates and places as files write them."""

from __future__ import annotations

import codecs
import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ram_core.metadata.facts import MOST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Sequence

_DATE = re.compile(
    r"\s*(\d{4})[:/.-](\d{2})[:/.-](\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|[+-]\d{2}:?\d{2})?\s*",
    re.ASCII,
)
_ZONE = re.compile(r"\s*(?:(Z)|([+-])(\d{2}):?(\d{2}))\s*", re.ASCII)
_FRACTION = re.compile(r"\s*([+-]?\d{1,12}(?:\.\d{1,12})?)(?:/(\d{1,12}))?\s*", re.ASCII)
_XMP_ANGLE = re.compile(r"\s*(\d{1,3}),(\d{1,2}(?:\.\d{1,12})?)(?:,(\d{1,2}(?:\.\d{1,12})?))?\s*([NSEW])\s*", re.ASCII)
_HALF_HOUR = 30
_BETWEEN = (345, 525, 765, 825)
"""Zones are whole half hours ahead of UTC, but for those of Nepal, Eucla and the Chatham Islands: minutes."""

_LATE = 5
"""Minutes by which the position of a satellite may be older than the picture, or newer."""

_FIRST_YEAR = 1000
"""Earlier years are the zeros of a clock that was never set."""


def decoded(raw: bytes) -> str:
    """Return text whose encoding is not told: UTF-8 if it can be, UTF-16 if it says so, else Windows' Latin-1."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "ignore")
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        # Five bytes have no meaning there; in Latin-1 they are control characters, which are dropped.
        return raw.decode("cp1252", "ignore")


def text(value: str | bytes | None, most: int) -> str | None:
    """Return text on its own, without control characters, at most ``most`` characters; None: nothing is left."""
    if value is None:
        return None
    written = (decoded(value) if isinstance(value, bytes) else value)[: 4 * most].partition("\0")[0]
    kept = "".join(
        sign for sign in written if (sign.isprintable() or sign in "\n\t") and not "\ud800" <= sign <= "\udfff"
    )
    return kept.strip()[:most].rstrip() or None


def moment(value: str | bytes | None, subseconds: str | bytes | None = None) -> tuple[datetime, int | None] | None:
    """Return a date with a time, without its zone, and the zone in minutes ahead of UTC, if it is told.

    A date without a time is the start of the day. A date that lacks its day, or that does not exist, is none.

    Args:
        value: as EXIF, IPTC and XMP write dates: ``2023:05:01 18:30:00``, ``2023-05-01T18:30:00.25+02:00``.
        subseconds: digits behind the point, which EXIF has in a tag of its own.
    """
    written = decoded(value) if isinstance(value, bytes) else value or ""
    found = _DATE.fullmatch(written.partition("\0")[0])
    if found is None or int(found[1]) < _FIRST_YEAR:
        return None
    digits = found[7] or _digits(subseconds)
    try:
        at = datetime(*(int(part or 0) for part in found.groups()[:6]))  # type: ignore[arg-type]  # noqa: DTZ001
        at = at.replace(microsecond=int(f"{digits or '0':0<6}"[:6]))
    except ValueError:
        return None
    return at, zone(found[8])


def _digits(value: str | bytes | None) -> str | None:
    written = (decoded(value) if isinstance(value, bytes) else value or "").partition("\0")[0].strip()
    return written if written.isascii() and written.isdecimal() else None


def zone(value: str | bytes | None) -> int | None:
    """Return the minutes by which a zone such as ``+02:00`` or ``Z`` is ahead of UTC; None: it is none."""
    written = (decoded(value) if isinstance(value, bytes) else value or "").partition("\0")[0]
    found = _ZONE.fullmatch(written)
    if found is None:
        return None
    if found[1]:
        return 0
    minutes = int(found[3]) * 60 + int(found[4])
    return (-minutes if found[2] == "-" else minutes) if minutes <= MOST_OFFSET and int(found[4]) < 60 else None


def zone_between(local: datetime, utc: datetime) -> int | None:
    """Return the zone of a local time, if a satellite told the time in UTC; None: these are not the same moment."""
    minutes = (local - utc) / timedelta(minutes=1)
    nearest = min((round(minutes / _HALF_HOUR) * _HALF_HOUR, *_BETWEEN), key=lambda offset: abs(minutes - offset))
    return nearest if abs(minutes - nearest) <= _LATE and abs(nearest) <= MOST_OFFSET else None


def number(value: str | None) -> float | None:
    """Return a number as XMP writes it: ``2.8``, or a fraction ``28/10``; None: it is none."""
    found = _FRACTION.fullmatch(value or "")
    if found is None:
        return None
    below = float(found[2]) if found[2] else 1.0
    return float(found[1]) / below if below else None


def angle(parts: Sequence[float], reference: str | None, negative: str, positive: str) -> float | None:
    """Return degrees of latitude or longitude, of degrees, minutes and seconds; None: no such angle."""
    side = (reference or "").strip("\0 ").upper()[:1]
    if side not in {negative, positive} or not 1 <= len(parts) <= 3:
        return None
    if any(not math.isfinite(part) or part < 0 for part in parts) or any(part > 60 for part in parts[1:]):
        return None
    degrees = float(sum(part / 60.0**place for place, part in enumerate(parts)))
    return -degrees if side == negative else degrees


def angle_of_xmp(value: str | None, negative: str, positive: str) -> float | None:
    """Return degrees of an angle as XMP writes it: ``48,12.5N`` or ``48,12,30N``."""
    found = _XMP_ANGLE.fullmatch(value or "")
    if found is None:
        return None
    return angle([float(part) for part in found.groups()[:3] if part], found[4], negative, positive)

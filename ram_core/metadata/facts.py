"""The facts in a picture's file, within bounds that hold whatever the file says."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime

MOST_NAME = 120
"""Characters of the name of a camera or a lens."""

MOST_TEXT = 4_000
"""Characters of a title, a description, a creator or rights."""

MOST_KEYWORD = 200
MOST_KEYWORDS = 200
"""Characters of a keyword, and keywords of a picture."""

MOST_BYTES = 1 << 20
"""Of the facts of one picture between processes: all texts and keywords at their bounds take less."""

MOST_OFFSET = 14 * 60
"""Minutes between a zone and UTC."""

_LIMITS = {
    "focal_mm": (0.1, 100_000.0),
    "exposure_seconds": (1e-7, 1e6),
    "f_number": (0.1, 1_000.0),
    "iso": (1, 10_000_000),
    "latitude": (-90.0, 90.0),
    "longitude": (-180.0, 180.0),
    "altitude_m": (-12_000.0, 100_000.0),
    "rating": (-1, 5),
    "taken_offset": (-MOST_OFFSET, MOST_OFFSET),
}
_WHOLE = {"iso", "rating", "taken_offset"}
_LENGTHS = {
    "camera_make": MOST_NAME,
    "camera_model": MOST_NAME,
    "lens": MOST_NAME,
    "title": MOST_TEXT,
    "description": MOST_TEXT,
    "creator": MOST_TEXT,
    "rights": MOST_TEXT,
}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a picture's file says of it; None or empty: nothing that can be read.

    Attributes:
        taken_at: when it was taken, in the local time of the camera, without a zone.
        taken_offset: minutes by which that is ahead of UTC; None: the file does not say.
        camera_make: maker of the camera.
        camera_model: its model.
        lens: name of the lens.
        focal_mm: focal length in millimetres, not converted to another size of film.
        exposure_seconds: exposure time.
        f_number: focal length divided by the aperture.
        iso: sensitivity.
        latitude: degrees north, -90 to 90.
        longitude: degrees east, -180 to 180.
        altitude_m: metres above the sea.
        title: a short name.
        description: what people wrote about it.
        keywords: words that people gave it, as they wrote them; of a hierarchy ``Places|Vienna``, the whole.
        rating: stars from 0 to 5; -1: rejected.
        creator: who made it.
        rights: who owns it.
    """

    taken_at: datetime | None = None
    taken_offset: int | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    focal_mm: float | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    title: str | None = None
    description: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    creator: str | None = None
    rights: str | None = None

    def without_place(self) -> FileFacts:
        """Return the facts but those that tell where somebody was."""
        return replace(self, latitude=None, longitude=None, altitude_m=None)

    def packed(self) -> bytes:
        """Return the facts that are there, for another process."""
        told = {name: value for name, value in asdict(self).items() if value not in {None, ()}}
        if self.taken_at is not None:
            told["taken_at"] = self.taken_at.isoformat()
        return json.dumps(told).encode()


def unpacked(packed: bytes) -> FileFacts:
    """Return facts from another process, which may have been taken over by a picture: all bounds are checked again.

    Raises:
        ValueError: it is none.
    """
    told = json.loads(packed)
    if not isinstance(told, dict) or not set(told) <= {field.name for field in fields(FileFacts)}:
        raise ValueError("these are no facts of a picture's file")
    if "taken_at" in told:
        told["taken_at"] = datetime.fromisoformat(told["taken_at"])
    if "keywords" in told:
        told["keywords"] = tuple(told["keywords"])
    return bounded(**told)


def bounded(**told: object) -> FileFacts:
    """Return facts without those that are out of bounds, of another kind, or without their other half."""
    facts = {name: value for name, value in told.items() if _is_within(name, value)}
    if not {"latitude", "longitude"} <= facts.keys() or facts["latitude"] == facts["longitude"] == 0:
        # Many programs write zeros where they know no place, and in the sea off Africa there is nothing.
        for name in ("latitude", "longitude", "altitude_m"):
            facts.pop(name, None)
    if "taken_at" not in facts:
        facts.pop("taken_offset", None)
    return FileFacts(**facts)  # type: ignore[arg-type]  # checked one by one


def _is_within(name: str, value: object) -> bool:
    if name in _LIMITS:
        low, high = _LIMITS[name]
        is_number = isinstance(value, int if name in _WHOLE else int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and low <= value <= high  # type: ignore[arg-type,operator]
    if name == "taken_at":
        return isinstance(value, datetime) and value.tzinfo is None
    if name == "keywords":
        is_few = isinstance(value, tuple) and 0 < len(value) <= MOST_KEYWORDS
        return is_few and all(_is_text(each, MOST_KEYWORD) for each in value)  # type: ignore[attr-defined]
    return _is_text(value, _LENGTHS[name])


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and "\0" not in value and _is_unicode(value)


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)

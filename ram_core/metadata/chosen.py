"""Which of EXIF, IPTC and XMP is believed, for each fact.

What the camera wrote (date, camera, lens, exposure, place) is in EXIF first, and other programs copy it: so EXIF is
believed before XMP, and XMP before IPTC. What people wrote (title, description, keywords, creator, rights, rating) they
wrote with programs that know XMP: so XMP is believed before IPTC, and IPTC before EXIF, unless the digest beside IPTC
says that it was changed later. Source: Metadata Working Group, Guidelines for Handling Image Metadata 2.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ram_core.metadata import exif as tags
from ram_core.metadata import iptc, xmp
from ram_core.metadata.facts import MOST_KEYWORD, MOST_KEYWORDS, MOST_NAME, MOST_TEXT, FileFacts, bounded
from ram_core.metadata.values import angle, angle_of_xmp, moment, number, text, zone, zone_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from ram_core.metadata.blocks import Blocks
    from ram_core.metadata.exif import Exif, Value

_OF_CAMERAS = frozenset({"olympus digital camera", "sony dsc", "default", "digital camera", "minolta digital camera"})
"""Descriptions that cameras write into every picture."""

_PIECES_OF_TIME = 3


def chosen(blocks: Blocks) -> FileFacts:
    """Return the facts in the blocks of a file."""
    written = {**xmp.properties(blocks.more_xmp), **xmp.properties(blocks.xmp)}
    sets, exif = iptc.data_sets(blocks.iptc), blocks.exif
    taken = _taken(exif, written, sets)
    told: dict[str, Any] = {
        "taken_at": taken[0] if taken else None,
        "taken_offset": taken[1] if taken else None,
        "camera_make": _first(MOST_NAME, _raw(exif.image, tags.MAKE), *written.get("make", ())),
        "camera_model": _first(MOST_NAME, _raw(exif.image, tags.MODEL), *written.get("model", ())),
        "lens": _first(
            MOST_NAME, _raw(exif.exif, tags.LENS_MODEL), *written.get("lens", ()), *written.get("aux_lens", ())
        ),
        **_exposure(exif, written),
        **_place(exif, written),
        **_texts(blocks, written, sets),
    }
    rating = _number_of(written, "rating")
    if rating is None:
        rating = _number(exif.image, tags.RATING)
    told["rating"] = None if rating is None else round(rating)
    return bounded(**told)


def _raw(directory: Mapping[int, Value], tag: int) -> bytes | None:
    value = directory.get(tag)
    return None if value is None else value.raw


def _number(directory: Mapping[int, Value], tag: int) -> float | None:
    value = directory.get(tag)
    return None if value is None else value.number


def _number_of(written: Mapping[str, Sequence[str]], name: str) -> float | None:
    return next(filter(lambda found: found is not None, map(number, written.get(name, ()))), None)


def _first(most: int, *values: str | bytes | None) -> str | None:
    """Return the first text that is one."""
    return next(filter(None, (text(value, most) for value in values)), None)


def _taken(
    exif: Exif, written: Mapping[str, Sequence[str]], sets: Mapping[int, Sequence[str]]
) -> tuple[datetime, int | None] | None:
    """Return when a picture was taken, or else when it was digitised, in local time; and its zone."""
    of_iptc = [
        f"{day[:4]}-{day[4:6]}-{day[6:]}T{_clock(time)}"
        for day, time in zip(sets.get(iptc.DATE, ()), [*sets.get(iptc.TIME, ()), "000000"], strict=False)
        if len(day) == len("20230501")
    ]
    camera = moment(_raw(exif.exif, tags.TAKEN), _raw(exif.exif, tags.TAKEN_SUBSECONDS))
    if camera is not None:
        local = camera[0]
        own = zone(_raw(exif.exif, tags.TAKEN_OFFSET))
        utc = _satellite_time(exif)
        return local, own if own is not None else zone_between(local, utc) if utc is not None else camera[1]
    for value in (*written.get("taken", ()), *written.get("created", ()), *of_iptc):
        if (found := moment(value)) is not None:
            return found
    digitized = moment(_raw(exif.exif, tags.DIGITIZED), _raw(exif.exif, tags.DIGITIZED_SUBSECONDS))
    if digitized is not None:
        return digitized[0], zone(_raw(exif.exif, tags.DIGITIZED_OFFSET))
    return next(filter(None, map(moment, written.get("digitized", ()))), None)


def _clock(time: str) -> str:
    """Return a time as ``18:30:00+02:00``, of IPTC's ``183000+0200``."""
    return f"{time[:2]}:{time[2:4]}:{time[4:6]}{time[6:]}"


def _satellite_time(exif: Exif) -> datetime | None:
    time = exif.gps.get(tags.GPS_TIME)
    day = moment(_raw(exif.gps, tags.GPS_DATE))
    if time is None or day is None or len(time.numbers) != _PIECES_OF_TIME:
        return None
    pieces = time.numbers
    if not all(0 <= piece < 60 for piece in pieces):  # not a number is not in order either
        return None
    found = moment(f"{day[0]:%Y-%m-%d} {int(pieces[0]):02}:{int(pieces[1]):02}:{int(pieces[2]):02}")
    return None if found is None else found[0]


def _exposure(exif: Exif, written: Mapping[str, Sequence[str]]) -> dict[str, float | int | None]:
    asked = (
        ("focal_mm", tags.FOCAL_LENGTH, "focal"),
        ("exposure_seconds", tags.EXPOSURE_TIME, "exposure"),
        ("f_number", tags.F_NUMBER, "f_number"),
        ("iso", tags.ISO, "iso"),
    )
    found: dict[str, float | int | None] = {}
    for name, tag, other in asked:
        value = _number(exif.exif, tag)
        found[name] = _number_of(written, other) if value is None else value
    iso = found["iso"]
    return found | {"iso": None if iso is None else round(iso)}


def _place(exif: Exif, written: Mapping[str, Sequence[str]]) -> dict[str, float | None]:
    gps = exif.gps
    north = _angle(gps, tags.LATITUDE, tags.LATITUDE_REF, "S", "N")
    east = _angle(gps, tags.LONGITUDE, tags.LONGITUDE_REF, "W", "E")
    height = _number(gps, tags.ALTITUDE)
    below = gps.get(tags.ALTITUDE_REF)
    is_below = below is not None and below.number == 1
    if north is None or east is None:
        first = {name: next(iter(written.get(name, ())), None) for name in ("latitude", "longitude", "altitude_ref")}
        north = angle_of_xmp(first["latitude"], "S", "N")
        east = angle_of_xmp(first["longitude"], "W", "E")
        height, is_below = _number_of(written, "altitude"), first["altitude_ref"] == "1"
    return {
        "latitude": north,
        "longitude": east,
        "altitude_m": None if height is None else -height if is_below else height,
    }


def _angle(gps: Mapping[int, Value], tag: int, side: int, negative: str, positive: str) -> float | None:
    value, reference = gps.get(tag), _raw(gps, side)
    if value is None or reference is None:
        return None
    return angle(value.numbers, reference.decode("latin-1"), negative, positive)


def _texts(
    blocks: Blocks, written: Mapping[str, Sequence[str]], sets: Mapping[int, Sequence[str]]
) -> dict[str, str | tuple[str, ...] | None]:
    image = blocks.exif.image

    def best(of_xmp: Iterable[str], of_iptc: Iterable[str], *of_exif: str | bytes | None) -> str | None:
        first, second = (of_iptc, of_xmp) if blocks.is_iptc_newer else (of_xmp, of_iptc)
        return _first(MOST_TEXT, *first, *second, *of_exif)

    described = text(_raw(image, tags.IMAGE_DESCRIPTION), MOST_TEXT)
    if described is not None and described.casefold() in _OF_CAMERAS:
        described = None
    creators = "; ".join(written.get("creator", ()))
    return {
        "title": best(written.get("title", ()), sets.get(iptc.TITLE, ()), _wide(image, tags.XP_TITLE)),
        "description": best(
            written.get("description", ()),
            sets.get(iptc.DESCRIPTION, ()),
            described,
            _wide(image, tags.XP_COMMENT),
        ),
        "creator": best(
            [creators],
            ["; ".join(sets.get(iptc.CREATOR, ()))],
            _raw(image, tags.ARTIST),
            _wide(image, tags.XP_AUTHOR),
        ),
        "rights": best(written.get("rights", ()), sets.get(iptc.RIGHTS, ()), _raw(image, tags.COPYRIGHT)),
        "keywords": _keywords(blocks, written, sets),
    }


def _wide(directory: Mapping[int, Value], tag: int) -> str | None:
    """Return a text of Windows, which is UTF-16."""
    raw = _raw(directory, tag)
    return None if raw is None else raw.decode("utf-16-le", "ignore")


def _keywords(
    blocks: Blocks, written: Mapping[str, Sequence[str]], sets: Mapping[int, Sequence[str]]
) -> tuple[str, ...]:
    """Return the keywords of the first block that has any, and those of hierarchies, each once."""
    sources: list[Sequence[str]] = [written.get("keywords", ()), sets.get(iptc.KEYWORD, ())]
    if blocks.is_iptc_newer:
        sources.reverse()
    wide = _wide(blocks.exif.image, tags.XP_KEYWORDS)
    sources.append((wide or "").split(";"))
    plain = next((found for found in sources if any(each.strip() for each in found)), ())
    cleaned = (text(each.replace("\n", " "), MOST_KEYWORD) for each in (*plain, *written.get("hierarchies", ())))
    return tuple(dict.fromkeys(filter(None, cleaned)))[:MOST_KEYWORDS]

"""Another reader of EXIF finds the same date, camera and place in every file."""

from __future__ import annotations

import io
import logging
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING

import exifread
import pytest
from exifread.utils import get_gps_coords

from ram_core import metadata
from ramq.demo_photos import installed_photographs
from tests.photographs import UNPACKED
from tests.reference import SHARED
from tests.told_by_files import exif, jpeg, png

if TYPE_CHECKING:
    from ram_core.metadata import FileFacts


def others(body: bytes) -> tuple[datetime | None, str | None, str | None, tuple[float, float] | None]:
    """What the other reader finds: date, maker, model, place."""
    logging.getLogger("exifread").setLevel(logging.CRITICAL)
    tags = exifread.process_file(io.BytesIO(body), details=False)
    try:
        taken = datetime.strptime(str(tags["EXIF DateTimeOriginal"]), "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
    except (KeyError, ValueError):
        taken = None
    named = [str(tags.get(name, "")).strip("\0 ") or None for name in ("Image Make", "Image Model")]
    place = get_gps_coords(tags) or None
    return taken, named[0], named[1], None if place in {None, (0.0, 0.0)} else place


def agrees(body: bytes, found: FileFacts) -> bool:
    """Whether both find the same. What the other reader does not find here may come from XMP or IPTC."""
    taken, make, model, place = others(body)
    own_place = None if found.latitude is None else (found.latitude, found.longitude)
    return (
        (taken is None or (found.taken_at is not None and found.taken_at.replace(microsecond=0) == taken))
        and make in {None, found.camera_make}
        and model in {None, found.camera_model}
        and (place is None or own_place == pytest.approx(place, abs=1e-6))
    )


def test_both_find_the_same_in_made_up_files() -> None:
    places = (None, (48.2085, 16.3721), (-33.9, -18.4), (0.5, -179.99))
    makes = (("NIKON CORPORATION", "NIKON D90"), ("Canon", "Canon EOS 5D"), (None, None))
    for place, (make, model), taken in product(places, makes, ("2023:05:01 18:30:00", "0000:00:00 00:00:00", None)):
        told = exif(taken, make=make, model=model, place=place)
        for body in (jpeg(told), png(told.tobytes()), told.tobytes().removeprefix(b"Exif\0\0")):
            found = metadata.read(body)
            assert agrees(body, found)
            assert (found.latitude is None) == (place is None)
            assert (found.taken_at is None) == (taken is None or taken.startswith("0000"))


def test_both_find_the_same_in_photographs() -> None:
    cases = SHARED / "cases"
    files = [*installed_photographs(), *UNPACKED.rglob("*.*"), *(cases.rglob("*.*") if cases.is_dir() else ())]
    compared = 0
    for file in files:
        if not file.is_file() or file.suffix == ".npy":
            continue
        body = file.read_bytes()
        try:
            is_told = any(others(body))
        except Exception:  # noqa: BLE001  (damaged files trip the other reader)
            continue
        compared += is_told
        assert agrees(body, metadata.read(body)), file
    if not compared:
        pytest.skip("no installed photograph has EXIF")

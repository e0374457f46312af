"""Located regions reach sidecars, in the place where they are in the stored picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from ramq.services.sidecars import RegionsInFiles, SidecarPlace, write_sidecars
from storage.search.views import SearchQuery
from tests import crop_archive
from tests.same_picture import Photos, picture

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.services.sidecars import Written
    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """A picture that is stored on its side, one that is not located, and one in a format without EXIF."""
    photos = Photos(services, crop_worker, tmp_path / "photos", tmp_path / "count")
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        picture(photos.root / name, number)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos.root / "a.png") as opened:
        opened.save(photos.root / "a.jpg", exif=exif)
    (photos.root / "a.png").unlink()
    with Image.open(photos.root / "c.png") as opened:
        opened.save(photos.root / "c.bmp")
    (photos.root / "c.png").unlink()
    photos.run()
    for name in ("a.jpg", "c.bmp"):
        crop_archive.locate(services, photos.ids()[name], "dog")
    return photos


def write(photos: Photos) -> tuple[Written, list[str]]:
    services, told = photos.services, list[str]()
    _, hits = services.search.export(SearchQuery())
    place = SidecarPlace(None, (), services.settings.s3, services.engine)
    regions_of = RegionsInFiles(services.regions, services.images)
    return write_sidecars(hits, place, lambda _, why: told.append(why), regions_of=regions_of), told


def test_regions_are_written_where_they_are_in_the_stored_picture(photos: Photos) -> None:
    found, told = write(photos)
    assert (found.written, found.left_out, found.without_regions, told) == (3, 0, 1, [])
    pyexiv2 = pytest.importorskip("pyexiv2")
    image = pyexiv2.Image(str(photos.root / "a.jpg.xmp"))
    xmp = image.read_xmp()
    image.close()
    area = "Xmp.mwg-rs.Regions/mwg-rs:RegionList[1]/mwg-rs:Area/stArea:"
    left, top, right, bottom = crop_archive.BOXES["dog"]
    expected = [(top + bottom) / 2, 1 - (left + right) / 2, bottom - top, right - left]
    assert [float(xmp[area + side]) for side in "xywh"] == pytest.approx(expected, abs=1e-3)
    dimensions = "Xmp.mwg-rs.Regions/mwg-rs:AppliedToDimensions/stDim:"
    assert [xmp[dimensions + side] for side in "wh"] == ["64", "48"]
    assert b"mwg-rs:Area" not in (photos.root / "b.png.xmp").read_bytes()
    assert b"mwg-rs:Area" not in (photos.root / "c.bmp.xmp").read_bytes()
    found, _ = write(photos)
    assert (found.written, found.unchanged) == (0, 3)


def test_a_region_that_a_person_rejected_leaves_the_sidecar(photos: Photos) -> None:
    write(photos)
    services, image_id = photos.services, photos.ids()["a.jpg"]
    services.regions.correct(image_id, "dog", crop_archive.BOXES["dog"], is_there=False, said_by="ann")
    assert write(photos)[0].written == 1
    assert b"mwg-rs:Area" not in (photos.root / "a.jpg.xmp").read_bytes()


def test_an_original_that_cannot_be_read_is_named(photos: Photos) -> None:
    (photos.root / "a.jpg").unlink()
    found, told = write(photos)
    assert (found.written, found.left_out) == (2, 1)
    assert "no longer exists" in told[0]

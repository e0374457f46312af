"""Regions in XMP packets: where they are, what stays of other programs, and what other programs read of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps

from ram_core.stored_orientation import FORMATS, orientation_of
from ram_core.xmp_packet import Words, written
from ram_core.xmp_regions import Box, Regions, stored
from tests.unit.test_xmp_packet import read

if TYPE_CHECKING:
    from pathlib import Path

DOG = ("dog", (0.1, 0.2, 0.6, 0.9))
BALL = ("ball", (0.5, 0.5, 0.9, 0.95))
AREA = "Xmp.mwg-rs.Regions/mwg-rs:RegionList[{}]/mwg-rs:Area/stArea:{}"
NAME = "Xmp.mwg-rs.Regions/mwg-rs:RegionList[{}]/mwg-rs:Name"

# A face as programs write it that hold structures in descriptions, with fields as attributes.
_FACES = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 <rdf:Description rdf:about="" xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
   xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
   xmlns:digiKam="http://www.digikam.org/ns/1.0/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/">
  <digiKam:TagsList><rdf:Seq><rdf:li>People/Ann</rdf:li></rdf:Seq></digiKam:TagsList>
  <lr:hierarchicalSubject><rdf:Bag><rdf:li>People|Ann</rdf:li></rdf:Bag></lr:hierarchicalSubject>
  <mwg-rs:Regions{resource}>{open}
   <mwg-rs:AppliedToDimensions stDim:w="3000" stDim:h="2000" stDim:unit="pixel"/>
   <mwg-rs:RegionList><rdf:{bag}>
    <rdf:li><rdf:Description mwg-rs:Name="Ann" mwg-rs:Type="Face">
     <mwg-rs:Area stArea:x="0.3" stArea:y="0.4" stArea:w="0.1" stArea:h="0.2" stArea:unit="normalized"/>
    </rdf:Description></rdf:li>
   </rdf:{bag}></mwg-rs:RegionList>{close}
  </mwg-rs:Regions>
 </rdf:Description></rdf:RDF></x:xmpmeta>"""
LIGHTROOM = _FACES.format(resource="", open="<rdf:Description>", bag="Bag", close="</rdf:Description>").encode()
DIGIKAM = _FACES.format(resource=' rdf:parseType="Resource"', open="", bag="Bag", close="").encode()
IN_ORDER = _FACES.format(resource=' rdf:parseType="Resource"', open="", bag="Seq", close="").encode()


def words(*named: tuple[str, Box], orientation: int = 1) -> Words:
    return Words((), regions=Regions(4000, 3000, orientation, named))


def test_another_library_reads_regions_by_their_middle(tmp_path: Path) -> None:
    found = read(written(None, words(DOG, BALL)), tmp_path / "a.xmp")
    assert [found[NAME.format(number)] for number in (1, 2)] == ["dog", "ball"]
    area = [float(found[AREA.format(1, side)]) for side in "xywh"]
    assert area == pytest.approx([0.35, 0.55, 0.5, 0.7])
    assert found[AREA.format(1, "unit")] == "normalized"
    dimensions = "Xmp.mwg-rs.Regions/mwg-rs:AppliedToDimensions/stDim:"
    assert [found[dimensions + name] for name in ("w", "h", "unit")] == ["4000", "3000", "pixel"]
    turned = read(written(None, words(DOG, orientation=6)), tmp_path / "b.xmp")
    assert [turned[dimensions + name] for name in ("w", "h")] == ["3000", "4000"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_of_the_shown_picture_is_found_in_the_stored_one(orientation: int) -> None:
    """Pillow turns a picture with one bright part as its orientation says; the box of the part is turned back."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[4:14, 30:54] = 255  # not symmetrical in any way
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    assert orientation_of(io.BytesIO(file.getvalue())) == orientation
    with Image.open(file) as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened))[..., 0]
    rows, columns = np.nonzero(shown)
    height, width = shown.shape
    box = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
    assert stored(box, orientation) == pytest.approx((30 / 60, 4 / 40, 54 / 60, 14 / 40))


@pytest.mark.parametrize("packet", [LIGHTROOM, DIGIKAM, IN_ORDER])
def test_faces_of_other_programs_stay_and_regions_are_added(packet: bytes, tmp_path: Path) -> None:
    first = written(packet, words(DOG))
    found = read(first, tmp_path / "a.xmp")
    assert [found[NAME.format(number)] for number in (1, 2)] == ["Ann", "dog"]
    assert found["Xmp.mwg-rs.Regions/mwg-rs:RegionList[1]/mwg-rs:Type"] == "Face"
    assert float(found[AREA.format(1, "x")]) == 0.3
    assert found["Xmp.mwg-rs.Regions/mwg-rs:AppliedToDimensions/stDim:w"] == "3000"
    assert found["Xmp.digiKam.TagsList"] == ["People/Ann"]
    assert written(first, words(DOG)) is None
    second = written(first, words(BALL))
    assert [read(second, tmp_path / "b.xmp")[NAME.format(number)] for number in (1, 2)] == ["Ann", "ball"]
    third = written(second, words())
    found = read(third, tmp_path / "c.xmp")
    assert found[NAME.format(1)] == "Ann"
    assert NAME.format(2) not in found


def test_a_region_that_another_program_has_written_in_its_own_form_is_known_again(tmp_path: Path) -> None:
    """Exiv2, as digiKam uses it, writes the whole packet anew."""
    pyexiv2 = pytest.importorskip("pyexiv2")
    path = tmp_path / "a.xmp"
    read(written(None, words(DOG)), path)
    image = pyexiv2.Image(str(path))
    image.modify_xmp({"Xmp.xmp.Rating": "4"})
    image.close()
    assert written(path.read_bytes(), words(DOG)) is None
    second = written(path.read_bytes(), words())
    assert second is not None
    assert b"mwg-rs:Area" not in second
    assert b"AppliedToDimensions" not in second


def test_a_region_that_somebody_took_out_is_not_put_in_again() -> None:
    first = written(None, words(DOG, BALL))
    assert first is not None
    start = first.index(b'<rdf:li rdf:parseType="Resource">')
    end = first.index(b"</rdf:li>", first.index(b"mwg-rs:Area")) + len(b"</rdf:li>")
    without = first[:start] + first[end:]
    assert b"<mwg-rs:Name>dog" not in without
    assert written(without, words(DOG, BALL)) is None
    third = written(without, words(DOG))
    assert third is not None
    assert b"<mwg-rs:Name>" not in third


def test_regions_are_left_as_they_are_unless_they_are_asked_for() -> None:
    first = written(None, words(DOG))
    assert written(first, Words(())) is None
    assert b"mwg-rs" not in (written(None, Words(("dog",))) or b"").replace(b"xmlns:mwg-rs", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_orientation_of_files_is_told_without_their_pixels(kind: str) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (300, 200)).save(file, kind, exif=exif)
    assert orientation_of(file) == 8
    plain = io.BytesIO()
    Image.new("RGB", (30, 20)).save(plain, kind)
    assert orientation_of(plain) == 1


@pytest.mark.parametrize("body", [b"", b"no picture", b"\xff\xd8\xff\xe1\xff\xff"])
def test_of_what_is_no_picture_no_orientation_is_told(body: bytes) -> None:
    assert orientation_of(io.BytesIO(body)) is None

"""What files say: each fact from each block, which block is believed, and what cannot be read."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import IFDRational

from ram_core import metadata
from ram_core.metadata import facts, values
from ram_core.metadata.facts import FileFacts, unpacked
from tests.photographs import UNPACKED
from tests.reference import SHARED
from tests.told_by_files import digest_of, exif, iptc, jpeg, png, xmp

TAKEN = datetime(2023, 5, 1, 18, 30)  # noqa: DTZ001  (files have no zone)
VIENNA = (48.2085, 16.3721)


def test_a_camera_says_when_where_and_with_what() -> None:
    found = metadata.read(
        jpeg(
            exif(
                offset="+02:00",
                subseconds="25",
                lens="AF-S 50mm f/1.8",
                place=VIENNA,
                altitude=171.5,
                own={
                    Base.ExposureTime: IFDRational(1, 200),
                    Base.FNumber: IFDRational(28, 10),
                    Base.ISOSpeedRatings: 200,
                    Base.FocalLength: IFDRational(50, 1),
                },
            )
        )
    )
    assert (found.taken_at, found.taken_offset) == (TAKEN.replace(microsecond=250_000), 120)
    assert (found.camera_make, found.camera_model, found.lens) == ("NIKON CORPORATION", "NIKON D90", "AF-S 50mm f/1.8")
    assert (found.focal_mm, found.f_number, found.iso) == (50.0, 2.8, 200)
    assert found.exposure_seconds == pytest.approx(1 / 200)
    assert (found.latitude, found.longitude) == pytest.approx(VIENNA, abs=1e-5)
    assert found.altitude_m == 171.5


def test_south_west_and_below_the_sea_are_negative() -> None:
    found = metadata.read(jpeg(exif(place=(-33.9, -18.4), altitude=-3)))
    assert (found.latitude, found.longitude, found.altitude_m) == pytest.approx((-33.9, -18.4, -3), abs=1e-5)


@pytest.mark.parametrize(
    ("utc", "offset"),
    [
        (("2023:05:01", (16, 30, 2)), 120),
        (("2023:05:02", (0, 0, 0)), -330),
        (("2023:05:01", (12, 45, 0)), 345),
        (("2023:05:01", (16, 20, 0)), None),  # the position is too old to tell
        (("2021:01:01", (16, 30, 0)), None),
    ],
)
def test_a_satellite_tells_the_zone(utc: tuple[str, tuple[int, int, int]], offset: int | None) -> None:
    found = metadata.read(jpeg(exif(utc=utc)))
    assert (found.taken_at, found.taken_offset) == (TAKEN, offset)


def test_without_a_zone_the_time_is_local() -> None:
    assert metadata.read(jpeg(exif())).taken_offset is None
    assert metadata.read(jpeg(exif(offset="   :  "))).taken_offset is None
    assert metadata.read(jpeg(exif(offset="+02:00", utc=("2023:05:01", (0, 30, 0))))).taken_offset == 120


@pytest.mark.parametrize(
    "taken",
    ["0000:00:00 00:00:00", "    :  :     :  :  ", "2023:02:30 10:00:00", "2023:13:01 10:00:00", "",
     "0001:01:01 00:00:00", "2023:05:01 25:00:00", "yesterday", "2023"],
)  # fmt: skip
def test_a_date_that_does_not_exist_is_none(taken: str) -> None:
    found = metadata.read(jpeg(exif(taken, offset="+02:00")))
    assert (found.taken_at, found.taken_offset) == (None, None)
    assert found.camera_model == "NIKON D90"


def test_people_wrote_with_programs_that_know_xmp() -> None:
    packet = xmp(
        {
            "xmp:Rating": "4",
            "dc:title": ["Stephansdom"],
            "dc:description": ["A church"],
            "dc:subject": ["Vienna", "大"],
            "lr:hierarchicalSubject": ["Places|Vienna"],
            "dc:creator": ["Ann", "Bob"],
            "dc:rights": ["CC BY"],
        }
    )
    sets = iptc([(5, b"Other"), (25, b"Graz"), (80, b"Carl"), (116, b"none"), (120, b"Text")])
    found = metadata.read(jpeg(exif(image={Base.ImageDescription: "Third", Base.Artist: "Dora"}), packet, sets))
    assert (found.title, found.description, found.rating) == ("Stephansdom", "A church", 4)
    assert found.keywords == ("Vienna", "大", "Places|Vienna")
    assert (found.creator, found.rights) == ("Ann; Bob", "CC BY")


def test_iptc_is_believed_before_exif_and_where_its_digest_says_that_it_is_newer() -> None:
    sets = iptc([(25, b"Graz"), (25, b"castle"), (120, b"Text"), (55, b"20220304"), (60, b"101112+0100")])
    alone = metadata.read(jpeg(exif(None, image={Base.ImageDescription: "Third"}), None, sets))
    assert (alone.keywords, alone.description) == (("Graz", "castle"), "Text")
    assert (alone.taken_at, alone.taken_offset) == (datetime(2022, 3, 4, 10, 11, 12), 60)  # noqa: DTZ001
    packet = xmp({"dc:subject": ["Vienna"]})
    assert metadata.read(jpeg(None, packet, sets, digest=digest_of(sets))).keywords == ("Vienna",)
    assert metadata.read(jpeg(None, packet, sets, digest=digest_of(b"others"))).keywords == ("Graz", "castle")


def test_exif_is_believed_for_what_the_camera_wrote() -> None:
    packet = xmp(
        {
            "exif:DateTimeOriginal": "2020-01-01T00:00:00Z",
            "exif:GPSLatitude": "10,30.5S",
            "exif:GPSLongitude": "20,15,30W",
            "exif:GPSAltitude": "100/10",
            "exif:GPSAltitudeRef": "1",
            "exif:ExposureTime": "1/50",
            "tiff:Make": "Canon",
            "tiff:Model": "Canon EOS 5D",
            "exifEX:LensModel": "EF 35mm",
        }
    )
    both = metadata.read(jpeg(exif(place=VIENNA), packet))
    assert (both.taken_at, both.camera_model, both.lens) == (TAKEN, "NIKON D90", "EF 35mm")
    assert both.latitude == pytest.approx(VIENNA[0], abs=1e-5)
    alone = metadata.read(jpeg(None, packet))
    assert (alone.taken_at, alone.taken_offset) == (datetime(2020, 1, 1), 0)  # noqa: DTZ001
    assert (alone.camera_make, alone.exposure_seconds) == ("Canon", 0.02)
    assert (alone.latitude, alone.longitude) == pytest.approx((-(10 + 30.5 / 60), -(20 + 15 / 60 + 30 / 3600)))
    assert alone.altitude_m == -10


def test_when_a_scan_was_digitised_is_second_to_when_it_was_taken() -> None:
    digitised = {Base.DateTimeDigitized: "2024:06:07 08:09:10"}
    assert metadata.read(jpeg(exif(own=digitised))).taken_at == TAKEN
    assert metadata.read(jpeg(exif(None, own=digitised))).taken_at == datetime(2024, 6, 7, 8, 9, 10)  # noqa: DTZ001
    packet = xmp({"photoshop:DateCreated": "1950-07-08"})
    assert metadata.read(jpeg(exif(None, own=digitised), packet)).taken_at == datetime(1950, 7, 8)  # noqa: DTZ001


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_every_format_says_it(format_: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, format_, exif=exif(place=VIENNA))
    found = metadata.read(buffer.getvalue())
    assert (found.taken_at, found.camera_model) == (TAKEN, "NIKON D90")
    assert found.latitude == pytest.approx(VIENNA[0], abs=1e-5)


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_png_says_it_before_its_pixels_or_behind_them(is_behind: bool) -> None:
    body = png(exif().tobytes(), xmp({"dc:subject": ["Vienna"]}), is_behind=is_behind)
    Image.open(io.BytesIO(body)).load()
    found = metadata.read(body)
    assert (found.taken_at, found.keywords) == (TAKEN, ("Vienna",))


def test_a_png_says_it_as_older_programs_wrote_it() -> None:
    sets = iptc([(25, b"Graz")])
    text = b"\niptc\n%8d\n%s\n" % (len(sets), sets.hex().encode())
    chunk = b"zTXt" + b"Raw profile type iptc\0\0" + zlib.compress(text)
    body = png()
    body = body[:33] + (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + body[33:]
    assert metadata.read(body).keywords == ("Graz",)


def test_a_tiff_says_it() -> None:
    assert metadata.read(exif(place=VIENNA).tobytes().removeprefix(b"Exif\0\0")).taken_at == TAKEN
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "TIFF", tiffinfo={700: xmp({"dc:subject": ["Vienna"]}), 271: "Canon"})
    found = metadata.read(buffer.getvalue())
    assert (found.camera_make, found.keywords) == ("Canon", ("Vienna",))


def test_windows_writes_utf_16() -> None:
    wide = {
        0x9C9B: "Ein Titel".encode("utf-16-le") + b"\0\0",
        0x9C9E: "Wien;Österreich".encode("utf-16-le") + b"\0\0",
        0x4746: 3,
    }
    found = metadata.read(jpeg(exif(image=wide)))
    assert (found.title, found.keywords, found.rating) == ("Ein Titel", ("Wien", "Österreich"), 3)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_letters_are_read_in_either_encoding(encoding: str) -> None:
    sets = iptc([(25, "Österreich".encode(encoding))])
    assert metadata.read(jpeg(None, None, sets)).keywords == ("Österreich",)
    marked = iptc([(25, "Österreich".encode())], is_utf8=True)
    assert metadata.read(jpeg(None, None, marked)).keywords == ("Österreich",)


def test_what_cameras_write_into_every_picture_is_no_description() -> None:
    olympus = exif(image={Base.ImageDescription: "OLYMPUS DIGITAL CAMERA         "})
    assert metadata.read(jpeg(olympus)).description is None


def test_zeros_are_no_place_and_half_a_place_is_none() -> None:
    assert metadata.read(jpeg(exif(place=(0, 0), altitude=5))).altitude_m is None
    lone = exif(place=VIENNA)
    del lone.get_ifd(0x8825)[3]  # the side of the longitude
    assert metadata.read(jpeg(lone)).latitude is None


def test_a_fraction_without_a_denominator_is_no_number() -> None:
    raw = bytearray(jpeg(exif(place=VIENNA, own={Base.ExposureTime: IFDRational(1, 199)})))
    at = max(raw.find(struct.pack(order + "II", 1, 199)) for order in "<>")
    raw[at + 4 : at + 8] = bytes(4)
    found = metadata.read(bytes(raw))
    assert found.exposure_seconds is None
    assert found.latitude is not None


def test_a_large_maker_note_and_a_directory_in_itself_are_harmless() -> None:
    entry = struct.Struct("<HHII")
    note = bytes(4 << 20)
    own = 8 + 2 + 2 * 12 + 4
    head = b"II*\0" + struct.pack("<I", 8)
    image = struct.pack("<H", 2) + entry.pack(0x0110, 2, 4, 0x00443039) + entry.pack(0x8769, 4, 1, own) + bytes(4)
    inner = struct.pack("<H", 3)
    inner += entry.pack(0x8769, 4, 1, own) + entry.pack(0x927C, 7, len(note), 200) + entry.pack(0x9003, 2, 1 << 30, 0)
    found = metadata.read(head + image + inner + bytes(4) + bytes(100) + note)
    assert found == FileFacts(camera_model="90D")


def test_entities_and_document_types_are_refused() -> None:
    bomb = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10 if n else b"lol") for n in range(9))
    packet = xmp({"dc:subject": ["Vienna"]}).replace(b"<x:xmpmeta", b"<!DOCTYPE x [" + bomb + b"]><x:xmpmeta", 1)
    assert metadata.read(jpeg(None, packet.replace(b">Vienna<", b">&l8;<"))) == FileFacts()
    assert metadata.read(jpeg(None, packet)) == FileFacts()


def test_more_than_the_bounds_is_cut_or_left_out() -> None:
    found = metadata.read(jpeg(None, xmp({"dc:subject": [f"{n} {'x' * 300}" for n in range(300)][:150]})))
    assert len(found.keywords) == 150
    assert all(len(each) == facts.MOST_KEYWORD for each in found.keywords)
    many = metadata.read(png(None, xmp({"dc:subject": [str(n) for n in range(900)], "dc:title": ["t" * 9_000]})))
    assert len(many.keywords) == facts.MOST_KEYWORDS
    assert many.title == "t" * facts.MOST_TEXT
    assert metadata.read(png(None, xmp({"dc:title": ["t"], "dc:subject": ["x" * (2 << 20)]}))) == FileFacts()


def test_the_facts_survive_the_way_to_another_process() -> None:
    found = metadata.read(jpeg(exif(offset="+02:00", subseconds="25", place=VIENNA), xmp({"dc:subject": ["大", "b"]})))
    assert found.keywords == ("大", "b")
    assert unpacked(found.packed()) == found
    assert found.without_place().latitude is found.without_place().altitude_m is None
    assert unpacked(FileFacts().packed()) == FileFacts()


@pytest.mark.parametrize(
    "packed",
    [b'{"other": 1}', b"[]", b'{"taken_at": "x"}', b'{"keywords": 1}', b"\xff", b'{"taken_at": 5}'],
)
def test_facts_of_a_process_that_was_taken_over_are_refused(packed: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        unpacked(packed)


def test_facts_out_of_bounds_are_dropped_on_the_way() -> None:
    packed = b'{"title": "a\\u0000b", "iso": 1e9, "latitude": NaN, "longitude": 2, "rating": true, "lens": "\\ud800"}'
    assert unpacked(packed) == FileFacts()


@given(st.binary(max_size=300), st.integers(0, 2**16), st.sampled_from(["jpeg", "png", "webp", "tiff"]))
def test_no_damage_raises(noise: bytes, at: int, kind: str) -> None:
    body = bytearray(_SOUND[kind])
    at %= len(body)
    body[at : at + len(noise)] = noise
    assert isinstance(metadata.read(bytes(body)), FileFacts)
    assert isinstance(metadata.read(bytes(body[:at])), FileFacts)


def _sound() -> dict[str, bytes]:
    told = exif(place=VIENNA, offset="+02:00")
    webp = io.BytesIO()
    Image.new("RGB", (64, 48)).save(webp, "WEBP", exif=told, xmp=xmp({"dc:subject": ["a"]}))
    return {
        "jpeg": jpeg(told, xmp({"dc:subject": ["a"]}), iptc([(25, b"Graz")])),
        "png": png(told.tobytes(), xmp({"dc:subject": ["a"]})),
        "webp": webp.getvalue(),
        "tiff": told.tobytes().removeprefix(b"Exif\0\0"),
    }


_SOUND = _sound()


@given(st.text(max_size=40))
def test_no_text_is_taken_for_another_number(text: str) -> None:
    found = values.moment(text)
    assert found is None or found[0].year >= 1000
    values.number(text)
    values.zone(text)
    values.angle_of_xmp(text, "S", "N")


def test_no_photograph_raises() -> None:
    files = [file for file in UNPACKED.rglob("*") if file.is_file()]
    for file in files[:400]:
        assert isinstance(metadata.read(file.read_bytes()), FileFacts)


def test_no_shared_case_raises() -> None:
    cases = SHARED / "cases" / "images"
    if not cases.is_dir():
        pytest.skip(f"no cases in {cases}; RAMQ_SHARED_DIR says where they are")
    for file in cases.rglob("*"):
        if file.is_file():
            assert isinstance(metadata.read(file.read_bytes()), FileFacts)

"""The text of an image as plain text, hOCR and ALTO: both are XML, their boxes are right, and no text breaks them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from ramq.services.line_layout import box, direction, readable, words
from ramq.services.reading_files import FILE_FORMATS, Picture, alto, file_name, hocr, plain_text
from tests.readings import HOSTILE, line, reading, rectangle

if TYPE_CHECKING:
    from storage.results.reading_views import Polygon

HTML = "{http://www.w3.org/1999/xhtml}"
ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"
PICTURE = Picture(7, 'letters/a "b"; <c>.jpg', (1000, 500))
TURNED: Polygon = ((0.9, 0.1), (0.9, 0.9), (0.8, 0.9), (0.8, 0.1))
"""Text that runs down."""
LINES = reading(
    line(1, "GOOD MORNING"), line(2, HOSTILE), line(3, "שלום עולם"), line(4, "早上好", TURNED, confidence=1)
)


def boxes(root: ET.Element, name: str) -> list[tuple[int, ...]]:
    found = []
    for element in root.iter(f"{HTML}span"):
        if element.get("class") == name:
            match = re.match(r"bbox (\d+) (\d+) (\d+) (\d+);", element.get("title", ""))
            assert match, element.get("title")
            found.append(tuple(map(int, match.groups())))
    return found


def test_plain_text_has_a_line_for_each_line() -> None:
    assert plain_text(PICTURE, LINES).splitlines() == ["GOOD MORNING", readable(HOSTILE), "שלום עולם", "早上好"]
    assert "\u202e" not in plain_text(PICTURE, LINES)


def test_hocr_is_xml_with_a_box_for_each_line_and_word() -> None:
    document = hocr(PICTURE, LINES)
    root = ET.fromstring(document)
    assert "<script>" not in document
    [page] = [one for one in root.iter(f"{HTML}div") if one.get("class") == "ocr_page"]
    assert page.get("title") == 'image "letters/a %22b%22%3B <c>.jpg"; bbox 0 0 1000 500; ppageno 0'
    assert boxes(root, "ocr_line") == [(100, 100, 500, 150)] * 3 + [(800, 50, 900, 450)]
    texts = ["".join(one.itertext()) for one in page if one.get("class") == "ocr_line"]
    assert texts == ["GOOD MORNING", readable(HOSTILE), "שלום עולם", "早上好"]
    [turned] = [one for one in page if one.get("id") == "line_1_4"]
    assert turned.get("title") == "bbox 800 50 900 450; poly 900 50 900 450 800 450 800 50"
    assert turned[0].get("title") == "bbox 800 50 900 450; x_wconf 100"


def test_alto_has_the_structure_of_the_specification() -> None:
    root = ET.fromstring(alto(PICTURE, LINES))
    assert root.tag == f"{ALTO}alto"
    assert [one.tag.removeprefix(ALTO) for one in root] == ["Description", "Layout"]
    assert root.findtext(f"{ALTO}Description/{ALTO}MeasurementUnit") == "pixel"
    assert root.findtext(f".//{ALTO}fileName") == PICTURE.key
    page = root.find(f"{ALTO}Layout/{ALTO}Page")
    assert page is not None
    assert (page.get("WIDTH"), page.get("HEIGHT")) == ("1000", "500")
    lines = page.findall(f"{ALTO}PrintSpace/{ALTO}TextBlock/{ALTO}TextLine")
    assert [[word.get("CONTENT") for word in one.iter(f"{ALTO}String")] for one in lines] == [
        ["GOOD", "MORNING"], readable(HOSTILE).split(), ["שלום", "עולם"], ["早上好"],
    ]  # fmt: skip
    assert [one.get("BASEDIRECTION") for one in lines] == ["ltr", "ltr", "rtl", "ltr"]
    assert all([part.tag.removeprefix(ALTO) for part in one][:2] == ["Shape", "String"] for one in lines)
    first, last = lines[0].find(f"{ALTO}String"), lines[3].find(f"{ALTO}String")
    assert first is not None
    assert last is not None
    assert [first.get(name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT", "WC")] == ["100", "100", "133", "50", "0.9"]
    assert [last.get(name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT", "WC")] == ["800", "50", "100", "400", "1"]
    ids = [one.get("ID") for one in root.iter() if one.get("ID")]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_nothing_in_a_text_or_key_breaks_a_file(name: str) -> None:
    hostile = "".join(map(chr, [*range(0x250), 0x2028, 0x202E, 0xD800, 0xFEFF, 0xFFFE, 0xFFFF, 0x1F600]))
    written = FILE_FORMATS[name].write(
        Picture(1, hostile, None), reading(line(1, hostile), line(2, "\x00"), line(3, ""))
    )
    written.encode()
    if name != "txt":
        ET.fromstring(written)


def test_an_image_without_text_has_an_empty_page() -> None:
    assert plain_text(PICTURE, reading()) == ""
    assert ET.fromstring(alto(PICTURE, reading())).find(f".//{ALTO}TextBlock") is None
    assert boxes(ET.fromstring(hocr(PICTURE, reading())), "ocr_line") == []


def test_places_are_in_ten_thousandths_where_nobody_knows_the_size() -> None:
    root = ET.fromstring(hocr(Picture(7, "a.jpg", None), reading(line(1, "A"))))
    assert boxes(root, "ocr_line") == [(1000, 2000, 5000, 3000)]


def test_words_share_the_line_and_run_from_the_right_where_the_script_does() -> None:
    places = [word.polygon for word in words(line(1, "ab  cdef", rectangle(0, 0, 1, 1)))]
    assert places == [rectangle(0, 0, 0.25, 1), rectangle(0.5, 0, 1, 1)]
    places = [word.polygon for word in words(line(1, "אב גדהו", rectangle(0, 0, 0.7, 1)))]
    assert [(polygon[0][0], polygon[1][0]) for polygon in places] == [
        (pytest.approx(0.5), pytest.approx(0.7)),
        (pytest.approx(0), pytest.approx(0.4)),
    ]
    assert [word.text for word in words(line(1, " \x00 "))] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [("GOOD", "ltr"), ("12 שלום", "rtl"), ("مرحبا a", "rtl"), ("早", "ltr"), ("12!", "ltr"), ("", "ltr")],
)
def test_the_first_letter_says_the_direction(text: str, told: str) -> None:
    assert direction(text) == told


def test_a_box_is_inside_the_picture_and_never_empty() -> None:
    assert box(((-0.1, 0.5), (1.2, 0.5), (1.2, 0.5), (-0.1, 0.5)), (100, 100)) == (0, 50, 100, 51)


def test_characters_that_join_words_stay_and_those_that_turn_text_go() -> None:
    assert readable("של\u200cם \u202eab\u200f\tc\n") == "של\u200cם ab c "


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("letters/1914/a b.jpg", "12000/12345-a_b.jpg.hocr"),
        ("../../etc/passwd", "12000/12345-passwd.hocr"),
        ("..", "12000/12345.hocr"),
        ("a\\..\\b\n:*?|<>\x00\u202e\ud800.png", "12000/12345-a_.._b_.png.hocr"),
        ("信/早上好.png", "12000/12345-早上好.png.hocr"),
        ("x/" + "早" * 500, f"12000/12345-{'早' * 26}.hocr"),
        ("folder/", "12000/12345-folder.hocr"),
    ],
)
def test_a_file_name_is_safe_whatever_the_key_is(key: str, name: str) -> None:
    assert file_name(Picture(12345, key, None), "hocr") == name

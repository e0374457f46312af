"""The text of an image as a file: plain text, hOCR or ALTO, the formats of libraries and of readers of text.

Text and keys are anybody's. They are escaped, and characters that XML forbids are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from ramq.services.line_layout import Box, box, direction, points, readable, words
from storage.tables import CORNER_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storage.results.reading_views import LineView, Polygon, ReadingView

_NAME_BYTES = 80
"""The bytes of a key that a file name keeps. File systems take 255."""
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
_FOLDER = 1_000
"""Images of one folder. File systems are slow with very large ones."""
_NOT_IN_IMAGE_NAMES = re.compile(r'["\\;%]')


@dataclass(frozen=True, slots=True)
class Picture:
    """An image whose text is written. ``size`` is its width and height in pixels; None: nobody measured it."""

    image_id: int
    key: str
    size: tuple[int, int] | None

    @property
    def page(self) -> tuple[int, int]:
        """Width and height of the page. If they are unknown, all places are in 1/10,000 of them."""
        return self.size or (CORNER_SCALE, CORNER_SCALE)


def plain_text(_: Picture, reading: ReadingView) -> str:
    """Return the lines, each ended by a newline."""
    return "".join(f"{readable(line.text)}\n" for line in reading.lines)


def hocr(picture: Picture, reading: ReadingView) -> str:
    """Return an hOCR 1.2 document, which is also XML. The places of words are estimates."""
    page = picture.page
    name = _NOT_IN_IMAGE_NAMES.sub(lambda found: f"%{ord(found[0]):02X}", readable(picture.key))
    title = f'image "{name}"; bbox 0 0 {page[0]} {page[1]}; ppageno 0'
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<!DOCTYPE html>",
        '<html xmlns="http://www.w3.org/1999/xhtml">',
        "<head>",
        f"<title>{escape(readable(picture.key))}</title>",
        '<meta charset="UTF-8"/>',
        f'<meta name="ocr-system" content={quoteattr(_made_by(reading))}/>',
        '<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word ocrp_wconf"/>',
        "</head>",
        "<body>",
        f'<div class="ocr_page" id="page_1" title={quoteattr(title)}>',
        *(_hocr_line(line, page) for line in reading.lines),
        "</div>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _made_by(reading: ReadingView) -> str:
    return f"ramq {_version()}, {readable(reading.model)}"


@cache
def _version() -> str:
    return version("ramq")  # reads a file, and there may be millions of images


def _hocr_line(line: LineView, page: tuple[int, int]) -> str:
    confidence = round(line.confidence * 100)
    corners = " ".join(f"{x} {y}" for x, y in points(line.polygon, page))
    spans = " ".join(
        f'<span class="ocrx_word" id="word_1_{line.number}_{number}" '
        f'title="bbox {_bbox(word.polygon, page)}; x_wconf {confidence}">{escape(word.text)}</span>'
        for number, word in enumerate(words(line), 1)
    )
    return (
        f'<span class="ocr_line" id="line_1_{line.number}" dir="{direction(line.text)}" '
        f'title="bbox {_bbox(line.polygon, page)}; poly {corners}">{spans}</span>'
    )


def _bbox(polygon: Polygon, page: tuple[int, int]) -> str:
    return " ".join(map(str, box(polygon, page)))


def alto(picture: Picture, reading: ReadingView) -> str:
    """Return an ALTO 4.4 document, in pixels. The places of words are estimates."""
    page = picture.page
    whole = Box(0, 0, *page)
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#" SCHEMAVERSION="4.4">',
        "<Description>",
        "<MeasurementUnit>pixel</MeasurementUnit>",
        f"<sourceImageInformation><fileName>{escape(readable(picture.key))}</fileName></sourceImageInformation>",
        '<Processing ID="reading">',
        f"<processingDateTime>{reading.read_at.isoformat()}</processingDateTime>",
        f"<processingStepSettings>{escape(readable(reading.model))}</processingStepSettings>",
        "<processingSoftware><softwareName>ramq</softwareName>",
        f"<softwareVersion>{escape(_version())}</softwareVersion></processingSoftware>",
        "</Processing>",
        "</Description>",
        "<Layout>",
        f'<Page ID="page_1" PHYSICAL_IMG_NR="1" WIDTH="{page[0]}" HEIGHT="{page[1]}">',
        f"<PrintSpace {_place(whole)}>",
        *_alto_block(reading.lines, page),
        "</PrintSpace>",
        "</Page>",
        "</Layout>",
        "</alto>",
    ]
    return "\n".join(parts) + "\n"


def _alto_block(lines: list[LineView], page: tuple[int, int]) -> Iterator[str]:
    if not lines:
        return
    corners = tuple(corner for line in lines for corner in line.polygon)
    yield f'<TextBlock ID="block_1" {_place(box(corners, page))}>'
    for line in lines:
        shape = " ".join(f"{x},{y}" for x, y in points(line.polygon, page))
        confidence = f"{line.confidence:.4g}"
        strings = "<SP/>".join(
            f'<String ID="word_{line.number}_{number}" CONTENT={quoteattr(word.text)} '
            f'{_place(box(word.polygon, page))} WC="{confidence}"/>'
            for number, word in enumerate(words(line), 1)
        )
        if strings:  # ALTO has no empty lines
            shape = f'<Shape><Polygon POINTS="{shape}"/></Shape>'
            place = _place(box(line.polygon, page))
            yield f'<TextLine ID="line_{line.number}" BASEDIRECTION="{direction(line.text)}" {place}>'
            yield f"{shape}{strings}</TextLine>"
    yield "</TextBlock>"


def _place(at: Box) -> str:
    return f'HPOS="{at.left}" VPOS="{at.top}" WIDTH="{at.right - at.left}" HEIGHT="{at.bottom - at.top}"'


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of files. ``ending`` is that of their names."""

    ending: str
    media_type: str
    write: Callable[[Picture, ReadingView], str]


FILE_FORMATS = {
    "txt": FileFormat("txt", "text/plain; charset=utf-8", plain_text),
    "hocr": FileFormat("hocr", "text/vnd.hocr+html; charset=utf-8", hocr),
    "alto": FileFormat("alto.xml", "application/xml", alto),
}
"""The formats that text can be written in, by their names."""


def file_name(picture: Picture, ending: str) -> str:
    """Return a path for an image's file that is safe on every system: ``12000/12345-letter.jpg.hocr``.

    A key may be anything. Only letters, digits, dots, dashes and underscores of its last part are kept, and the number
    of the image keeps names apart. A folder holds the files of a thousand images.
    """
    last = picture.key.rstrip("/").rpartition("/")[2]
    kept = _NOT_IN_NAMES.sub("_", last).strip("._-")
    short = kept.encode()[:_NAME_BYTES].decode(errors="ignore").rstrip("._-")
    folder = picture.image_id // _FOLDER * _FOLDER
    return f"{folder}/{picture.image_id}{f'-{short}' if short else ''}.{ending}"

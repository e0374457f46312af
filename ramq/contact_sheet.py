"""A contact sheet: one picture that shows several searches with their hits and scores."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from storage.search.views import Hit

_SIDE = 220
_GAP = 16
_HEAD = 44
_FOOT = 46
_PAPER, _INK, _MUTED = "#faf9f7", "#1d1b19", "#625d56"
_MOST_LETTERS = 26


class Found(NamedTuple):
    """A search as it was typed, and its best hits."""

    search: str
    hits: Sequence[Hit]


def draw(found: Sequence[Found], thumbnail: Callable[[int], bytes], file: Path) -> None:
    """Write a PNG with a row of hits for each search.

    Args:
        found: the searches, in order.
        thumbnail: returns the JPEG of an image.
        file: the PNG to write. An existing file is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    title, text = ImageFont.load_default(size=22), ImageFont.load_default(size=15)
    across = max((len(each.hits) for each in found), default=0)
    written = max((round(title.getlength(each.search)) for each in found), default=0)
    width = max(across * (_SIDE + _GAP), written + _GAP) + _GAP
    sheet = Image.new("RGB", (width, len(found) * (_HEAD + _SIDE + _FOOT) + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (search, hits) in enumerate(found):
        top = row * (_HEAD + _SIDE + _FOOT)
        pen.text((_GAP, top + 12), search, font=title, fill=_INK)
        for column, hit in enumerate(hits):
            left = _GAP + column * (_SIDE + _GAP)
            picture = Image.open(io.BytesIO(thumbnail(hit.image_id)))
            picture.thumbnail((_SIDE, _SIDE))
            x, y = left + (_SIDE - picture.width) // 2, top + _HEAD + (_SIDE - picture.height) // 2
            sheet.paste(picture, (x, y))
            tags = ", ".join(tag.name for tag in hit.tags[:2])
            pen.text((left, top + _HEAD + _SIDE + 4), f"{hit.score:.2f}  {_shortened(tags)}", font=text, fill=_INK)
            name = hit.key.rpartition("/")[2]
            pen.text((left, top + _HEAD + _SIDE + 22), _shortened(name), font=text, fill=_MUTED)
    sheet.save(file, "PNG")


def _shortened(text: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= _MOST_LETTERS else f"{shown[: _MOST_LETTERS - 1]}…"

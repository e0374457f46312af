from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from ramq.contact_sheet import Found, draw
from ramq.demo_photos import copy_photographs, fetched_photographs, installed_photographs
from storage.search.views import Hit
from tests.photographs import photographs

if TYPE_CHECKING:
    from pathlib import Path


def test_there_are_three_hundred_photographs_that_open_and_differ() -> None:
    found = photographs(300)
    seen = set()
    for path in found:
        with Image.open(path) as picture:
            assert min(picture.size) >= 100, path
            seen.add(picture.convert("RGB").resize((32, 32)).tobytes())
    assert len(seen) > 0.98 * len(found)


def test_the_demonstration_copies_every_installed_photograph_once(tmp_path: Path) -> None:
    photographs(300)
    count = copy_photographs(tmp_path)
    copied = sorted(path.read_bytes() for path in tmp_path.rglob("*.*"))
    there = [*installed_photographs(), *fetched_photographs()]
    assert count == len(copied) == len(there) >= 100
    assert copied == sorted(path.read_bytes() for path in there)


def test_a_contact_sheet_shows_each_search_with_its_hits(tmp_path: Path) -> None:
    thumbnails = {1: "red", 2: "blue"}

    def thumbnail(image_id: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (320, 200), thumbnails[image_id]).save(buffer, "JPEG")
        return buffer.getvalue()

    def hit(image_id: int) -> Hit:
        return Hit(image_id, f"folder/{'n' * 50}.jpg", "file:///a", 0.5, [], None, 1, 320, 200)

    draw(
        [Found("a cat", [hit(1), hit(2)]), Found("a dog", [hit(2)]), Found("nothing", [])],
        thumbnail,
        tmp_path / "s.png",
    )
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.format == "PNG"
        colours = {
            name for name, rgb in (("red", (254, 0, 0)), ("blue", (0, 0, 254))) for at in grid(sheet) if at == rgb
        }
    assert colours == {"red", "blue"}


def test_a_contact_sheet_is_as_wide_as_what_is_written_on_it(tmp_path: Path) -> None:
    draw([Found("a very long search " * 4, [])], lambda _: b"", tmp_path / "long.png")
    draw([Found("a cat", [])], lambda _: b"", tmp_path / "short.png")
    with Image.open(tmp_path / "long.png") as long, Image.open(tmp_path / "short.png") as short:
        assert long.width > 8 * short.width


def grid(sheet: Image.Image) -> set[tuple[int, int, int]]:
    """The colours of a sheet, less what JPEG does to them."""
    return {tuple(value & 0xFE for value in pixel) for _, pixel in sheet.getcolors(1 << 20)}  # type: ignore[misc, union-attr]

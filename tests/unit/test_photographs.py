from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from ramq.demo_photos import copy_photographs, installed_photographs
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
    photographs(16)
    count = copy_photographs(tmp_path)
    copied = sorted(path.read_bytes() for path in tmp_path.rglob("*.*"))
    assert count == len(copied) == len(installed_photographs())
    assert copied == sorted(path.read_bytes() for path in installed_photographs())

"""Which image of a group of near copies is the first one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from sqlalchemy import text

from storage.database import unit_of_work
from storage.index.near_search import search_once
from storage.results.nearness import Thresholds
from tests.same_picture import Photos, picture
from tests.services.command_line import run_on

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

LOOSE = Thresholds(8, -1.0)
"""The model of these tests draws its vectors: they say nothing."""


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """A picture as PNG and as WebP, and a copy of the PNG in another archive."""
    root, other = tmp_path / "photos", tmp_path / "other"
    path = picture(root / "m.png", 1)
    with Image.open(path) as opened:
        opened.save(root / "n.webp", quality=95)
    other.mkdir()
    found = Photos(services, crop_worker, root, tmp_path / "count")
    found.run()
    shutil.copy(path, other / "c.png")
    found.run(str(other))
    return found


def first(photos: Photos) -> tuple[str, str]:
    """Search, and return the keys of the image that a group shows first and of the one around which it is."""
    search_once(photos.services.engine, LOOSE)
    [group] = photos.services.duplicates.near_page().items
    [key] = [key for key, number in photos.ids().items() if number == group.group_id]
    return group.images[0].key, key


def say(photos: Photos, statement: str) -> None:
    with unit_of_work(photos.services.engine) as session:
        session.execute(text(statement))


def test_most_pixels_then_most_bytes_then_the_earliest_date_then_the_first_key(photos: Photos) -> None:
    assert first(photos) == ("c.png", "c.png")  # the largest files, of which this one has the first key
    say(photos, "UPDATE image SET size = 1000")
    say(photos, "UPDATE metadata SET taken_at = NULL")
    say(photos, "UPDATE metadata SET taken_at = '2020-05-01' FROM image WHERE id = image_id AND key = 'n.webp'")
    assert first(photos) == ("n.webp", "n.webp")
    say(photos, "UPDATE metadata SET taken_at = '2019-05-01' FROM image WHERE id = image_id AND key = 'm.png'")
    assert first(photos)[0] == "m.png"
    say(photos, "UPDATE image SET size = 2000 WHERE key = 'n.webp'")
    assert first(photos) == ("n.webp", "n.webp")
    say(photos, "UPDATE record SET width = width + 1 FROM image WHERE id = image_id AND key = 'm.png'")
    assert first(photos)[0] == "m.png"


def test_the_command_line_names_the_archives_if_there_are_several(photos: Photos) -> None:
    search_once(photos.services.engine, LOOSE)
    for command in (("duplicates", "--near"), ("duplicates",)):
        listed = run_on(photos.services, *command).stdout
        assert f"{photos.root.parent / 'other'}/c.png" in listed
        assert f"{photos.root}/m.png" in listed
    alone = run_on(photos.services, "duplicates", "--near", "--archive", "1").stdout
    assert "m.png, n.webp" in alone
    assert "file://" not in alone

"""Words in the names of files: in queries, in plain texts, and on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ramq.services.index import make_builder
from storage.errors import UsageError
from storage.search.views import SearchQuery
from tests.same_picture import Photos, picture
from tests.services.command_line import run_here

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

KEYS = ("beach/IMG_2034.png", "beach/img2035.png", "Beach-2.png", "cafe\u0301.png", "beachfront.png")


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    root = tmp_path / "photos"
    for number, key in enumerate(KEYS):
        picture(root / key, number)
    photos = Photos(services, crop_worker, root, tmp_path / "count")
    photos.run()
    return photos


def found(services: Services, q: str) -> list[str]:
    page = services.search.page(services.search.read(SearchQuery(limit=100), q, is_strict=True))
    assert page.total == len(page.items)
    return sorted(hit.key for hit in page.items)


def test_a_filter_finds_words_of_names(photos: Photos, settings: Settings) -> None:
    services = photos.services
    assert found(services, "name:beach") == ["Beach-2.png"]
    assert found(services, "name:BEACH*") == ["Beach-2.png", "beachfront.png"]
    assert found(services, "name:img_2034.png") == ["beach/IMG_2034.png"]
    assert found(services, "name:img") == ["beach/IMG_2034.png", "beach/img2035.png"]
    assert found(services, "name:caf\u00e9") == ["cafe\u0301.png"]
    assert found(services, "-name:img -name:beach*") == ["cafe\u0301.png"]
    assert found(services, 'name:"2034 img" OR name:2') == ["Beach-2.png", "beach/IMG_2034.png"]
    with pytest.raises(UsageError, match="name:beach or name:IMG_2034"):
        found(services, "name:--")
    make_builder(settings, services.engine).publish_new(1)
    assert found(services, "name:img") == ["beach/IMG_2034.png", "beach/img2035.png"], (
        "in a segment as among newer ones"
    )


def test_the_command_line_finds_a_name_that_is_typed_as_text(recognised_engine: Engine, tmp_path: Path) -> None:
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    answer = run_here(("search", "COFFEE.png", "--json"), environment)
    page = json.loads(answer.stdout)
    assert page["items"][0]["key"] == "coffee.png"
    assert any("stand in names, keywords, titles or descriptions of 1 image" in note["text"] for note in page["notes"])
    filtered = json.loads(run_here(("search", "name:coffee", "--json"), environment).stdout)
    assert [hit["key"] for hit in filtered["items"]] == ["coffee.png"]

"""A region as a picture of its own, cut out of the original."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from storage.results.region_views import FoundRegion
from tests.services.located import write_regions
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from pathlib import Path

    from httpx2 import Response
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

CUP = FoundRegion("cup", 0.9, (0.25, 0.25, 0.75, 0.75))
CORNER = FoundRegion("corner", 0.5, (0.0, 0.0, 0.1, 0.1))
SPECK = FoundRegion("speck", 0.4, (0.5, 0.5, 0.5001, 0.5001))


@pytest.fixture
def cup(client: TestClient) -> int:
    """An image of 600 x 400 pixels in which tags were located."""
    services = services_of(client)
    image_id = services.images.find("coffee.png")
    write_regions(services, image_id, [CUP, CORNER, SPECK])
    return image_id


def picture(answer: Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.content))


def test_a_crop_shows_the_region_with_a_margin(client: TestClient, cup: int, archive: Path) -> None:
    crop = picture(client.get(f"/v1/images/{cup}/regions/1/crop?side=512"))
    assert crop.size == (330, 220)  # 300 x 200 pixels, and 5% on each side; nothing is enlarged
    whole = Image.open(archive / "coffee.png").convert("RGB").crop((135, 90, 465, 310))
    difference = np.asarray(crop, dtype=float) - np.asarray(whole, dtype=float)
    assert np.abs(difference).mean() < 4


def test_a_crop_ends_at_the_edge_of_the_picture_and_has_a_pixel_at_least(client: TestClient, cup: int) -> None:
    assert picture(client.get(f"/v1/images/{cup}/regions/2/crop")).size == (63, 42)
    assert picture(client.get(f"/v1/images/{cup}/regions/3/crop")).size == (2, 2)  # with its margin


def test_sides_are_rounded_up(client: TestClient, cup: int) -> None:
    address = f"/v1/images/{cup}/regions/1/crop"
    assert [max(picture(client.get(f"{address}?side={side}")).size) for side in (32, 65, 200)] == [64, 128, 256]
    assert max(picture(client.get(address)).size) == 256
    for side in (31, 513, "x"):
        assert_problem(client.get(f"{address}?side={side}"), 422, "invalid-request")


def test_a_crop_is_sent_once_until_its_number_is_of_another_region(client: TestClient, cup: int) -> None:
    address = f"/v1/images/{cup}/regions/1/crop"
    first = client.get(address)
    known = {"if-none-match": first.headers["etag"]}
    again = client.get(address, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == again.headers["cache-control"] == "private, no-cache"
    services_of(client).regions.correct(cup, "cup", CUP.box, is_there=False)
    assert picture(client.get(address, headers=known)).size == (63, 42)


def test_what_is_no_region_is_a_problem(client: TestClient, cup: int) -> None:
    for number in (4, 2**62):
        problem = assert_problem(client.get(f"/v1/images/{cup}/regions/{number}/crop"), 404, "not-found")
        assert f"no region {number}" in problem["detail"]
    for number in (0, -1, 2**63):
        assert_problem(client.get(f"/v1/images/{cup}/regions/{number}/crop"), 422, "invalid-request")
    cat = services_of(client).images.find("chelsea.png")
    assert_problem(client.get(f"/v1/images/{cat}/regions/1/crop"), 404, "not-found")
    assert_problem(client.get("/v1/images/999999/regions/1/crop"), 404, "not-found")


def test_crops_are_erased_with_their_image(client: TestClient, cup: int) -> None:
    picture(client.get(f"/v1/images/{cup}/regions/1/crop"))
    services = services_of(client)
    assert services.erasures.delete([cup]).thumbnails == 1
    assert_problem(client.get(f"/v1/images/{cup}/regions/1/crop"), 404, "not-found")

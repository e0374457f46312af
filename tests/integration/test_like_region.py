"""Regions like a region: through the service, the API, the page, the client and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.results import policies
from storage.results.packing import unpack_vectors
from storage.search.views import SearchQuery
from tests.crop_archive import a_region, start, stored, views, work
from tests.services.command_line import run_here
from tests.services.null_worker import VECTOR_SIZE

if TYPE_CHECKING:
    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def test_a_region_finds_itself_first_and_then_the_nearest(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    rows = {(row.image_id, row.number): unpack_vectors(row.v, VECTOR_SIZE)[0] for row in stored(cropped)}
    own = rows[image_id, number]
    page = cropped.search.page(SearchQuery(like_region=(image_id, number), limit=500))
    assert page.total == len(page.items) == len(rows)
    first = page.items[0]
    assert first.region is not None
    assert (first.image_id, first.region.number) == (image_id, number)
    assert first.score == pytest.approx(1, abs=2e-3)
    found = [(hit.image_id, hit.region.number) for hit in page.items if hit.region]
    assert len(set(found)) == len(rows)
    assert [hit.score for hit in page.items] == pytest.approx([float(own @ rows[one]) for one in found], abs=1e-3)
    assert [hit.score for hit in page.items] == sorted((hit.score for hit in page.items), reverse=True)


def test_words_and_filters_choose_the_images(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    key = cropped.images.get(image_id).key
    for query in (SearchQuery(prefix=key), cropped.search.read(SearchQuery(), f"prefix:{key}")):
        page = cropped.search.page(_liking(query, image_id, number))
        assert {hit.image_id for hit in page.items} == {image_id}
        assert page.total == len(views(cropped)[image_id].regions)
    tag = cropped.images.get(image_id).tags[0].name
    having = {hit.image_id for hit in cropped.search.page(SearchQuery(tags=(tag,), limit=500)).items}
    page = cropped.search.page(_liking(SearchQuery(tags=(tag,)), image_id, number))
    with_regions = {one for one, view in views(cropped).items() if view.regions}
    assert {hit.image_id for hit in page.items} == having & with_regions
    page = cropped.search.page(_liking(SearchQuery(not_tags=(tag,)), image_id, number))
    assert {hit.image_id for hit in page.items} == with_regions - having


def _liking(query: SearchQuery, image_id: int, number: int) -> SearchQuery:
    return replace(query, like_region=(image_id, number), limit=500)


def test_pages_follow_each_other(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    whole = cropped.search.page(SearchQuery(like_region=(image_id, number), limit=500)).items
    cursor, found = None, []
    while True:
        page = cropped.search.page(SearchQuery(like_region=(image_id, number), limit=4, cursor=cursor))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == whole


def test_a_rejected_region_is_found_no_more_and_the_others_have_their_new_numbers(cropped: Services) -> None:
    image_id, view = next((one, view) for one, view in views(cropped).items() if len(view.regions) > 1)
    gone, kept = view.regions[0], view.regions[1]
    cropped.regions.correct(image_id, gone.tag, gone.box, is_there=False)
    page = cropped.search.page(SearchQuery(like_region=(image_id, 1), limit=500))
    first = page.items[0]
    assert first.region is not None
    assert (first.image_id, first.region.number, first.region.box) == (image_id, 1, kept.box)
    found = [hit.region.box for hit in page.items if hit.image_id == image_id and hit.region]
    assert gone.box not in found


def test_tags_that_do_not_count_in_the_archive_are_hidden(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    query = SearchQuery(like_region=(image_id, number), limit=500)
    regions = [hit.region for hit in cropped.search.page(query).items if hit.region]
    name = next(tag.name for region in regions for tag in region.tags)
    other = next(region.tag for region in regions if region.tag != views(cropped)[image_id].regions[number - 1].tag)
    with unit_of_work(cropped.engine) as session:
        archive_id = session.scalar(text("SELECT archive_id FROM image WHERE id = :id"), {"id": image_id})
        policies.put(session, name, "deny", archive_id, "ann")
        policies.put(session, other, "deny", archive_id, "ann")
    left = [hit.region for hit in cropped.search.page(query).items if hit.region]
    assert [one.box for one in left] == [one.box for one in regions if one.tag != other]
    assert name not in {tag.name for region in left for tag in region.tags}
    assert any(region.tags for region in left)


def test_errors_say_what_to_do(located: Services, crop_worker: Worker) -> None:
    image_id, _ = a_region(located)
    with pytest.raises(NotFoundError, match="no region has a vector yet: run `ramq crops`"):
        located.search.page(SearchQuery(like_region=(image_id, 1)))
    work(located, crop_worker, start(located))
    with pytest.raises(NotFoundError, match=f"there is no region 400 in image {image_id}; its regions are 1 to"):
        located.search.page(SearchQuery(like_region=(image_id, 400)))
    located.regions.correct(image_id, "moon", (0.1, 0.1, 0.4, 0.5), is_there=True)
    drawn = len(views(located)[image_id].regions)
    with pytest.raises(NotFoundError, match=f"region {drawn} of image {image_id} has no vector yet: run `ramq crops`"):
        located.search.page(SearchQuery(like_region=(image_id, drawn)))
    with pytest.raises(UsageError, match="either for images like one, or for regions like one"):
        located.search.page(SearchQuery(like_region=(image_id, 1), like=image_id))


def test_the_api_and_the_page_find_regions(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    client = TestClient(create_app(cropped), base_url="http://localhost", raise_server_exceptions=False)
    answer = client.get("/v1/search", params={"like_region": f"{image_id}/{number}", "limit": 3})
    assert answer.status_code == 200, answer.text
    first, *others = answer.json()["items"]
    region = views(cropped)[image_id].regions[number - 1]
    assert (first["image_id"], first["region"]["number"]) == (image_id, number)
    assert (first["region"]["tag"], tuple(first["region"]["box"])) == (region.tag, region.box)
    assert {tag["name"] for tag in first["region"]["tags"]} <= {f"tag {number}" for number in range(64)}
    assert len(others) == 2
    refused = client.get("/v1/search", params={"like_region": "12"})
    assert refused.status_code == 422
    missing = client.get("/v1/search", params={"like_region": f"{image_id}/400"})
    assert missing.status_code == 404
    assert "there is no region 400" in missing.json()["detail"]
    shown = client.get(f"/images/{image_id}").text
    assert f'href="/?like_region={image_id}/{number}"' in shown
    page = client.get("/", params={"like_region": f"{image_id}/{number}"})
    assert page.status_code == 200
    assert f'href="/images/{image_id}#mark-{number}"' in page.text
    assert f"like region {number} of image {image_id}" in page.text
    assert f'name="like_region" value="{image_id}/{number}"' in page.text
    started = client.post("/v1/stages/crops/jobs", json={})
    assert [job["stage"] for job in started.json()["items"]] == ["crops"]


def test_the_command_line_finds_regions(cropped: Services) -> None:
    image_id, number = a_region(cropped)
    key = cropped.images.get(image_id).key
    settings = cropped.settings
    assert settings.database_url
    environment = {
        "RAMQ_DATA_DIR": str(settings.data_dir),
        "RAMQ_DATABASE_URL": settings.database_url,
        "RAMQ_BROKER_URL": settings.broker_url or "redis://127.0.0.1:1",
        "COLUMNS": "200",
    }
    for name in (str(image_id), key):
        answer = run_here(["search", "--like-region", f"{name}/{number}", "--json", "--limit", "2"], environment)
        assert answer.returncode == 0, answer.stderr
        first, _ = json.loads(answer.stdout)["items"]
        assert (first["image_id"], first["region"]["number"]) == (image_id, number)
    table = run_here(["search", f"prefix:{key}", "--like-region", f"{image_id}/{number}"], environment)
    lines = [line.split() for line in table.stdout.splitlines()]
    assert [line[0] for line in lines[-3:]] == [str(image_id)] * 3
    assert "region" in table.stdout.splitlines()[0]
    for wrong in ("12", f"{image_id}/x", f"{image_id}/9999"):
        refused = run_here(["search", "--like-region", wrong], environment)
        assert (refused.returncode, "names no region" in refused.stderr) == (2, True), refused.stderr
    missing = run_here(["search", "--like-region", f"{image_id}/400"], environment)
    assert "there is no region 400 in image" in missing.stderr
    again = run_here(["crops", "--archive", "1", "--json"], environment)
    assert again.returncode == 0, again.stderr
    listed = run_here(["stages"], environment)
    assert "crops" in listed.stdout
    assert run_here(["index", "verify"], environment).returncode == 0

"""Near copies of real photographs: in searches, on the command line, in the API and on the page."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.client import Client
from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import make_engine, unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.search.views import SearchQuery
from tests.near_archive import VARIANTS, write_variants
from tests.photographs import photographs
from tests.services.command_line import run_here
from tests.services.recognised import recognise, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.services

NAMES = ("first", "second", "third")
EACH = len(VARIANTS) + 1
GROUPED = 3 * EACH + 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs with variants, one twice, one with other metadata; a fourth twice; two black pictures."""
    folder = tmp_path_factory.mktemp("near") / "photos"
    chosen = photographs(100)[5:100:25]
    for name, source in zip(NAMES, chosen, strict=False):
        write_variants(source, folder, name)
    write_variants(chosen[3], folder / "other", "alone")
    for variant in (folder / "other").glob("alone-*"):
        variant.unlink()
    shutil.copy(folder / "first-half.jpg", folder / "first-half-copy.jpg")
    shutil.copy(folder / "other" / "alone.png", folder / "alone-too.png")
    told = PngInfo()
    told.add_text("Comment", "other bytes, the same pixels")
    with Image.open(folder / "third.png") as opened:
        opened.save(folder / "third-told.png", pnginfo=told)
    for name in ("black", "black-too"):
        Image.new("RGB", (400 if name == "black" else 200, 300)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def recorded(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> Iterator[Services]:
    """Services that have recognised the folder with ``lite``, and searched for near copies."""
    url = postgres_server.create_migrated_database()
    engine = make_engine(url)
    services = Services(
        settings_for(tmp_path_factory.mktemp("data"), database_url=url), engine, None, is_reachable=False
    )
    job = recognise(services, str(folder))
    assert (job.state, job.failed) == ("done", 0)
    assert services.duplicates.near_state().found_at is None
    services.duplicates.find_near()
    yield services
    engine.dispose()


def ids(services: Services) -> dict[str, int]:
    with unit_of_work(services.engine) as session:
        return {row.key: row.id for row in session.execute(text("SELECT id, key FROM image"))}


def keys(services: Services, q: str = "", **more: Any) -> list[str]:
    found = services.search.page(services.search.read(SearchQuery(limit=500, **more), q, is_strict=True))
    assert found.total == len(found.items)
    return sorted(hit.key for hit in found.items)


def of(name: str) -> list[str]:
    return sorted([f"{name}.png", *(f"{name}-{variant}.{made[1]}" for variant, made in VARIANTS.items())])


def test_variants_of_a_photograph_are_one_group_with_the_largest_first(recorded: Services) -> None:
    groups = recorded.duplicates.near_page().items
    found = {group.images[0].key: sorted(image.key for image in group.images) for group in groups}
    assert found == {
        "first.png": sorted([*of("first"), "first-half-copy.jpg"]),
        "second.png": of("second"),
        "third-told.png": sorted([*of("third"), "third-told.png"]),
    }
    [first] = [group for group in groups if group.images[0].key == "first.png"]
    largest, *others = first.images
    assert (largest.is_largest, largest.distance, largest.cosine) == (True, 0, 1.0)
    assert largest.width is not None
    assert largest.size_bytes == max(image.size_bytes for image in first.images if image.width == largest.width)
    assert not any(image.is_largest for image in others)
    assert all(image.distance <= 8 and image.cosine >= 0.75 for image in others)


def test_the_state_says_what_was_not_compared(recorded: Services) -> None:
    state = recorded.duplicates.near_state()
    assert state.found_at is not None
    assert (state.images, state.plain, state.unread, state.newer) == (3 * EACH + 4, 2, 0, 0)
    assert (state.grouped, state.distance, state.cosine) == (GROUPED, 8, 0.75)


def test_groups_are_narrowed_by_distance_and_listed_by_pages(recorded: Services) -> None:
    duplicates = recorded.duplicates
    counts = [sum(group.count for group in duplicates.near_page(distance=most).items) for most in (0, 4, 8)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2] == GROUPED
    first = duplicates.near_page(limit=2)
    rest = duplicates.near_page(limit=2, cursor=first.next_cursor)
    assert [group.count for group in (*first.items, *rest.items)] == [EACH + 1, EACH + 1, EACH]
    assert rest.next_cursor is None
    assert duplicates.near_page("1").items == duplicates.near_page().items
    for bad in ({"distance": 9}, {"distance": -1}, {"cursor": "x"}):
        with pytest.raises(UsageError):
            duplicates.near_page(**bad)
    with pytest.raises(NotFoundError):
        duplicates.near_page("77")


def test_queries_find_near_copies(recorded: Services) -> None:
    image_id = ids(recorded)["second-half.jpg"]
    assert keys(recorded, f"nearly:{image_id}") == of("second")
    assert keys(recorded, f"nearly:{ids(recorded)['black.png']}") == []
    assert keys(recorded, "nearly:999999999999999999999") == []
    assert len(keys(recorded, "duplicate:near")) == GROUPED
    assert keys(recorded, "-duplicate:near") == ["alone-too.png", "black-too.png", "black.png", "other/alone.png"]
    with pytest.raises(UsageError, match="yes or no, or near"):
        keys(recorded, "duplicate:perhaps")


def test_folded_hits_have_the_largest_near_copy_that_matches(recorded: Services) -> None:
    alone = ["alone-too.png", "black-too.png", "black.png", "first.png", "second.png", "third-told.png"]
    assert keys(recorded, fold_near=True) == alone
    without = keys(recorded, "-prefix:second.png", fold_near=True)
    assert len([key for key in without if key.startswith("second-")]) == 1
    assert len(keys(recorded, fold=True)) == 3 * EACH + 4
    like = recorded.search.page(SearchQuery(like=ids(recorded)["third.png"], fold_near=True, limit=50)).items
    assert sum(hit.key.startswith("second") for hit in like) <= 1


def test_hits_and_images_say_of_how_many_near_copies_they_are_one(recorded: Services) -> None:
    hits = {hit.key: (hit.near_copies, hit.duplicates) for hit in recorded.search.page(SearchQuery(limit=100)).items}
    assert hits["first.png"] == (EACH + 1, 1)
    assert hits["first-half.jpg"] == (EACH + 1, 2)
    assert hits["other/alone.png"] == (1, 2)
    assert recorded.images.get(ids(recorded)["third-webp.webp"]).near_copies == EACH + 1


def test_a_file_with_other_metadata_has_the_same_pixels(recorded: Services) -> None:
    rows = {row.key: row for row in recorded.duplicates.near_rows()}
    assert (rows["third-told.png"].same, rows["third-told.png"].is_largest) == ("bytes", True)
    assert (rows["third.png"].same, rows["third.png"].distance) == ("pixels", 0)
    assert rows["third-again.jpg"].same == "near"
    assert [row.is_largest for row in rows.values()].count(True) == 3


def test_the_command_line_lists_and_writes_near_copies(recorded: Services) -> None:
    environment = {
        "RAMQ_DATABASE_URL": str(recorded.settings.database_url),
        "RAMQ_DATA_DIR": str(recorded.settings.data_dir),
    }

    def run(*words: str) -> Any:
        done = run_here(words, environment)
        assert done.returncode == 0, done.stderr
        return done

    listed = run("duplicates", "--near")
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [str(EACH + 1), str(EACH + 1), str(EACH)]
    assert "images compared" in listed.stderr
    assert "too little structure" in listed.stderr
    data = json.loads(run("duplicates", "--near", "--json", "--limit", "1").stdout)
    assert (data["items"][0]["count"], data["state"]["images"]) == (EACH + 1, 3 * EACH + 4)
    table = list(csv.DictReader(io.StringIO(run("duplicates", "--near", "--format", "csv").stdout)))
    assert len(table) == GROUPED
    assert [row["key"] for row in table if row["is_largest"] == "True"] == ["first.png", "third-told.png", "second.png"]
    lines = run("duplicates", "--near", "--format", "jsonl", "--distance", "0").stdout.splitlines()
    assert {json.loads(line)["distance"] for line in lines} == {0}
    assert "as of" in run("duplicates", "--near", "--find").stderr.lower()
    assert "alike" not in run("search", "nearly:1").stderr
    assert json.loads(run("search", "--fold-near", "--json").stdout)["total"] == 6
    assert run_here(("duplicates", "--find"), environment).returncode == 2
    assert run_here(("duplicates", "--near", "--distance", "20"), environment).returncode == 2


@pytest.fixture
def web(recorded: Services) -> TestClient:
    app = create_app(recorded)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False, follow_redirects=False)


def test_the_api_has_groups_state_and_files(web: TestClient, recorded: Services) -> None:
    page = web.get("/v1/duplicates/near", params={"limit": 2}).json()
    assert [group["count"] for group in page["items"]] == [EACH + 1, EACH + 1]
    assert page["items"][0]["images"][0]["is_largest"] is True
    rest = web.get("/v1/duplicates/near", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert len(rest["items"]) == 1
    assert web.get("/v1/duplicates/near/state").json()["newer"] == 0
    item = web.get("/v1/search", params={"q": f"nearly:{ids(recorded)['first.png']}", "fold_near": "1"}).json()
    assert (item["total"], item["items"][0]["near_copies"]) == (1, EACH + 1)
    picked = [ids(recorded)[key] for key in ("first.png", "second-half.jpg")]
    answer = web.get("/v1/duplicates/near/export", params={"image": picked})
    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["key"] for row in csv.DictReader(io.StringIO(answer.text))] == ["first.png", "second-half.jpg"]
    assert len(web.get("/v1/duplicates/near/export?format=jsonl").text.splitlines()) == GROUPED
    for path in ("near?distance=9", "near?cursor=x", "near?unknown=1"):
        assert web.get(f"/v1/duplicates/{path}").status_code == 422
    assert web.get("/v1/duplicates/near", params={"archive": "99"}).status_code == 404


def test_a_search_that_was_asked_for_is_shown_as_such(web: TestClient, recorded: Services) -> None:
    answer = web.post("/v1/duplicates/near/search")
    assert (answer.status_code, answer.json()["is_requested"]) == (202, True)
    page = web.get("/duplicates?kind=near", headers={"accept": "text/html"}).text
    assert "A worker will begin a search within seconds." in page
    assert recorded.duplicates.find_near().is_requested is False


def test_the_page_shows_near_copies_side_by_side(web: TestClient, recorded: Services) -> None:
    page = web.get("/duplicates?kind=near", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert len(re.findall(r'type="checkbox" name="image"', page.text)) == GROUPED
    assert page.text.count('class="largest"') == 3
    assert "As of" in page.text
    assert "2 images with too little structure" in page.text
    assert "Near copies" in web.get("/duplicates", headers={"accept": "text/html"}).text
    badge = web.get("/", params={"q": f"nearly:{ids(recorded)['third.png']}"}, headers={"accept": "text/html"}).text
    assert badge.count(f"one of {EACH + 1} alike") == EACH + 1
    assert "One of each picture" in badge
    assert web.get("/duplicates?kind=near&archive=99", headers={"accept": "text/html"}).status_code == 404


def test_nothing_recorded_is_said(services: Services) -> None:
    assert services.duplicates.near_page().items == []
    assert list(services.duplicates.near_rows()) == []
    with pytest.raises(ConflictError, match="no image was recorded"):
        services.duplicates.find_near()


def test_the_client_lists_near_copies(recorded: Services, web: TestClient) -> None:
    assert callable(Client.near_copies)
    assert callable(Client.find_near_copies)
    assert web.get("/v1/duplicates/near").status_code == 200

"""Searches by what files say: filters, order, facets, the page, exports."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.services.export import write_rows
from ramq.services.index import make_builder
from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import metadata, metadata_search
from storage.search.views import SearchQuery
from tests.metadata_archive import FIJI, GRAZ, VIENNA, work, worker, write_pictures
from tests.told_by_files import exif, jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def made(services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Worker]:
    write_pictures(tmp_path / "photos")
    with worker(services, monkeypatch) as made:
        work(services, made, services.jobs.create(str(tmp_path / "photos")))
        yield made


@pytest.fixture
def told(services: Services, made: Worker) -> Services:
    return services


@pytest.fixture
def client(told: Services) -> TestClient:
    return TestClient(create_app(told), base_url="http://localhost", follow_redirects=False)


def found(services: Services, q: str, **more: Any) -> set[str]:
    query = services.search.read(SearchQuery(limit=100, **more), q, is_strict=True)
    return {hit.key.partition("/")[2][0] for hit in services.search.page(query).items}


@pytest.mark.parametrize(
    ("q", "keys"),
    [
        ("taken:2023", "bcd"),
        ("taken:2023-05", "bc"),
        ("taken:2023-05-01", "b"),
        ("taken:2023-05-01T18:30", "b"),
        ("taken:2022..2023-05", "abc"),
        ("taken:2023-06..", "d"),
        ("taken:..2022", "a"),
        ("taken:>2023-05-01", "cd"),
        ("taken:>=2023-05-01", "bcd"),
        ("taken:<2023", "a"),
        ("taken:<=2023-05-01", "ab"),
        ("taken:\uff1e2023-05-01", "cd"),
        ("-taken:2023", "aef"),
        ('camera:"NIKON D90"', "abf"),
        ("camera:nikon", "abf"),
        ("camera:d90 taken:2023", "b"),
        ("camera:iphone OR camera:canon", "cd"),
        ("lens:50mm", "b"),
        ("near:48.2,16.4,5km", "ab"),
        ("near:48.2,16.4,1km", ""),
        ("near:48.2085,16.3721", "ab"),
        ("near:47.07,15.44,500m", "c"),
        ("near:47.5,16,200km", "abc"),
        ("near:-17.7,-179.9,20km", "d"),
        ("keyword:dom", "a"),
        ("keyword:österreich", "c"),
        ("keyword:GRAZ", "c"),
        ("keyword:places", "c"),
        ("keyword:öster", ""),
        ("rating:5", "a"),
        ("rating:>=3", "ac"),
        ("rating:<5", "c"),
        ("rating:1..4", "c"),
        ("-rating:>=0", "bdef"),
    ],
)
def test_filters_find_what_files_say(told: Services, q: str, keys: str) -> None:
    assert found(told, q) == set(keys)


def test_every_filter_finds_the_same_before_and_after_a_publication(told: Services) -> None:
    builder = make_builder(told.settings, told.engine)
    with unit_of_work(told.engine) as session:
        generation_id = session.scalar(text("SELECT id FROM generation WHERE is_default AND stage = 'recognition'"))
    for publish in (False, True):
        if publish:
            assert builder.publish_new(generation_id, force=True) is not None
        assert found(told, "taken:2023 camera:nikon") == {"b"}
        assert [facet.count for facet in told.search.file_facets(SearchQuery()).taken] == [1, 3]


@pytest.mark.parametrize(
    "q",
    ["taken:may", "taken:2023-13", "taken:2024..2023", "taken:..", "taken:9999", "near:48.2", "near:91,0,1km",
     "near:1,1,30000km", "rating:good", "rating:7", "rating:>1..3", 'camera:" "', 'keyword:""'],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_with_an_example(told: Services, q: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(told, q)
    assert q.partition(":")[0] in str(caught.value)


def test_a_search_finds_what_was_committed_before_it(told: Services, made: Worker, tmp_path: Path) -> None:
    for _ in range(2):
        assert found(told, "taken:2023") == set("bcd")
        assert [f.count for f in told.search.file_facets(SearchQuery()).taken] == [1, 3]
    (tmp_path / "photos/2023/g.jpg").write_bytes(jpeg(exif("2023:01:01 00:00:00"), color="pink"))
    (tmp_path / "photos/2023/b.jpg").write_bytes(jpeg(exif("2021:01:01 00:00:00"), color="red"))
    work(told, made, told.jobs.create(str(tmp_path / "photos")))
    assert found(told, "taken:2023") == set("cdg")
    assert [(f.label, f.count) for f in told.search.file_facets(SearchQuery()).taken] == [
        ("2021", 1),
        ("2022", 1),
        ("2023", 3),
    ]


def test_hits_are_in_the_order_in_which_they_were_taken(told: Services) -> None:
    def order(sort: str, limit: int) -> str:
        keys, cursor = "", None
        while True:
            page = told.search.page(SearchQuery(sort=sort, limit=limit, cursor=cursor))
            keys += "".join(hit.key.partition("/")[2][0] for hit in page.items)
            assert page.total == 6
            cursor = page.next_cursor
            if cursor is None:
                return keys

    for limit in (1, 2, 5, 100):
        assert order("taken", limit)[:4] == "dcba"
        assert order("taken-asc", limit)[:4] == "abcd"
        assert set(order("taken", limit)[4:]) == set("ef")
    other = told.search.page(SearchQuery(limit=1)).next_cursor
    with pytest.raises(UsageError, match="cursor"):
        told.search.page(SearchQuery(sort="taken", limit=1, cursor=other))
    with pytest.raises(UsageError, match="unknown order"):
        told.search.page(SearchQuery(sort="size"))


def test_equal_dates_come_once_each(told: Services, made: Worker, tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"photos/s{number}.jpg").write_bytes(jpeg(exif("2020:02:02 02:02:02"), size=(64, 48 + number)))
    work(told, made, told.jobs.create(str(tmp_path / "photos")))
    query = told.search.read(SearchQuery(sort="taken", limit=2), "taken:2020")
    seen: list[int] = []
    while True:
        page = told.search.page(query)
        seen += [hit.image_id for hit in page.items]
        if page.next_cursor is None:
            break
        query = query.after(page.next_cursor)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 7


def test_hits_are_counted_by_year_month_and_day(told: Services) -> None:
    def facets(q: str) -> Any:
        return told.search.file_facets(told.search.read(SearchQuery(), q))

    everything = facets("")
    assert (everything.step, everything.undated) == ("year", 2)
    assert [(f.label, f.count, f.query) for f in everything.taken] == [
        ("2022", 1, "taken:2022"),
        ("2023", 3, "taken:2023"),
    ]
    year = facets("taken:2023")
    assert (year.step, [(f.label, f.count) for f in year.taken]) == ("month", [("2023-05", 2), ("2023-11", 1)])
    month = facets("taken:2023-05")
    assert (month.step, [(f.label, f.count) for f in month.taken]) == ("day", [("2023-05-01", 1), ("2023-05-20", 1)])
    assert {f.label: f.count for f in everything.cameras} == {"NIKON D90": 3, "Apple iPhone 12": 1, "Canon EOS 5D": 1}
    assert everything.cameras[0].count == 3
    assert [(f.label, f.count) for f in everything.folders] == [("2022/", 1), ("2023/", 3), ("none/", 2)]
    assert [f.count for f in everything.archives] == [6]
    for facet in (*everything.taken, *everything.cameras, *everything.folders, *everything.archives):
        assert len(found(told, facet.query)) == facet.count


def test_the_api_gives_what_files_say(client: TestClient) -> None:
    answer = client.get("/v1/search", params={"q": "taken:2023", "sort": "taken", "limit": 2}).json()
    assert [item["taken_at"] for item in answer["items"]] == ["2023-11-02T12:00:00", "2023-05-20T08:00:00"]
    image = client.get(f"/v1/images/{answer['items'][1]['image_id']}").json()["metadata"]
    assert (image["camera"], image["keywords"], image["rating"]) == ("Canon EOS 5D", ["Österreich", "Places|Graz"], 3)
    files = client.get("/v1/tags", params={"q": "taken:2023"}).json()["files"]
    assert files["step"] == "month"
    assert files["taken"][0] == {"label": "2023-05", "count": 2, "query": "taken:2023-05"}
    assert client.get("/v1/search", params={"sort": "size"}).status_code == 422


def test_the_page_has_a_timeline_whose_bars_narrow(client: TestClient) -> None:
    page = client.get("/", headers={"accept": "text/html"}).text
    assert 'aria-label="Images by the year in which they were taken"' in page
    assert 'href="/?q=taken%3A2023"' in page
    narrowed = client.get("/", params={"q": "taken:2023"}, headers={"accept": "text/html"}).text
    assert 'href="/?q=taken%3A2023-05"' in narrowed
    ordered = client.get("/", params={"sort": "taken-asc"}, headers={"accept": "text/html"}).text
    assert ordered.index("2022-12-31 23:59") < ordered.index("2023-05-01 18:30")
    assert "oldest first" in ordered


def test_the_picture_s_page_says_it_apart_from_what_ramq_says(client: TestClient, told: Services) -> None:
    page = client.get(f"/images/{told.images.find('2023/c.jpg')}", headers={"accept": "text/html"}).text
    section = page.partition('id="in-file-title"')[2].partition("</section>")[0]
    assert "2023-05-20 08:00:00 (local time)" in section
    assert 'href="/?q=camera%3A%22Canon+EOS+5D%22"' in section
    assert 'href="/?q=keyword%3A%C3%96sterreich"' in section
    assert "3 of 5" in section
    silent = client.get(f"/images/{told.images.find('none/e.jpg')}", headers={"accept": "text/html"}).text
    assert "in-file-title" not in silent


def test_exports_have_a_column_for_each_fact(told: Services) -> None:
    files = {}
    for format_ in ("jsonl", "csv", "parquet"):
        made_by, hits = told.search.export(told.search.read(SearchQuery(), "prefix:2023/c OR prefix:none/e"))
        file = io.BytesIO()
        write_rows(hits, format_, file, made_by, told=told.metadata.views)
        files[format_] = file.getvalue()
    rows = [json.loads(line) for line in files["jsonl"].splitlines()]
    by_key = {row["key"]: row for row in rows}
    graz, silent = by_key["2023/c.jpg"], by_key["none/e.jpg"]
    assert (graz["taken_at"], graz["camera"], graz["rating"]) == ("2023-05-20T08:00:00", "Canon EOS 5D", 3)
    assert (graz["latitude"], graz["longitude"]) == pytest.approx(GRAZ, abs=1e-5)
    assert (silent["taken_at"], silent["keywords"]) == (None, [])
    cells = {row["key"]: row for row in csv.DictReader(io.StringIO(files["csv"].decode()))}
    assert cells["2023/c.jpg"]["keywords"] == r"Österreich|Places\|Graz"
    table = parquet.read_table(io.BytesIO(files["parquet"])).to_pylist()
    assert {row["key"]: row["taken_at"] for row in table} == {"2023/c.jpg": "2023-05-20T08:00:00", "none/e.jpg": None}


def test_places_are_found_by_cells_as_without_them(told: Services) -> None:
    for north, east in (VIENNA, GRAZ, FIJI, (0.0, 0.0), (89.9, 0.0), (-90.0, 179.99), (48.0, -179.999)):
        for km in (0.1, 5.0, 700.0, 20_000.0):
            with unit_of_work(told.engine) as session:
                moment, ids = metadata_search.near(north, east, km).images(session)
                assert moment.is_public
                views = metadata.views(
                    session, [hit.image_id for hit in told.search.page(SearchQuery(limit=100)).items]
                )
            near = {
                image_id
                for image_id, view in views.items()
                if view.latitude is not None
                and view.longitude is not None
                and metadata.distance_km((north, east), (view.latitude, view.longitude)) <= km
            }
            assert set(ids.tolist()) == near


def test_the_box_completes_fields_and_cameras(client: TestClient) -> None:
    assert "camera:" in client.get("/suggest", params={"q": "cam"}).text
    options = client.get("/suggest", params={"q": "taken:2023 camera:d"}).text
    assert "NIKON D90" in options
    assert "Canon EOS 5D" in options
    assert "iPhone" not in options

"""Keywords beside searches by them: plain words, moved files, exports, sidecars, older databases."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.cli.named_images import image_ids
from ramq.services.export import write_rows
from ramq.services.sidecars import SidecarPlace, write_sidecars
from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.results import keyword_pairs, metadata, moves
from storage.results.metadata import MetadataRow
from storage.search.views import SearchQuery
from tests import metadata_archive
from tests.metadata_archive import work, worker
from tests.services.recognised import CAT, settings_for
from workers import ending
from workers.noting import note_words

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.search.views import Hit, HitPage

pytestmark = pytest.mark.services


def give(services: Services, key: str, *words: str) -> int:
    image_id = services.images.find(key)
    services.keywords.go_on(services.keywords.begin([image_id], add=words).id)
    return image_id


def describe(services: Services, key: str, **facts: object) -> int:
    """Write what a file says, as a worker does that reads it."""
    image_id = services.images.find(key)
    with unit_of_work(services.engine) as session:
        version = session.scalar(text("SELECT version FROM image WHERE id = :id"), {"id": image_id})
        metadata.write(session, [MetadataRow(image_id, version, facts)], job_id=1)
    return image_id


@pytest.fixture
def photos(recognised_engine: Engine, tmp_path: Path) -> Services:
    """Services with photographs whose vectors texts can be compared with."""
    return Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)


def page(services: Services, q: str) -> HitPage:
    return services.search.page(services.search.read(SearchQuery(limit=100, relevance=0), q))


def test_plain_words_find_keywords_titles_and_descriptions_first_and_the_notes_say_so(photos: Services) -> None:
    given = give(photos, "coffee.png", "Grandma's birthday")
    titled = describe(photos, "chelsea.png", title="The birthday cake", keywords=["Oma"])
    described = describe(photos, "rocket.jpg", description="A long day. Then: Grandma\u2019s birthday party, at last!")
    found = page(photos, "grandmas birthday")
    assert {hit.image_id for hit in found.items[:2]} == {given, described}
    sources = {hit.image_id: [(one.source, one.text) for one in hit.told] for hit in found.items}
    assert sources[given] == [("person", "Grandma's birthday")]
    assert [source for source, _ in sources[described]] == ["description"]
    assert sources[titled] == []
    assert [hit.why.is_told for hit in found.items if hit.why][:4] == [True, True, False, False]
    assert "also stand in names, keywords, titles or descriptions of 2 images, which come first" in found.notes[-1].text
    both = page(photos, "a cake for the oma")
    assert both.items[0].image_id == titled, "one word is in the title, another one in a keyword"
    assert {one.source for one in both.items[0].told} == {"title", "keyword"}
    nothing = page(photos, "zeppelin")
    assert nothing.notes == ()


def test_plain_words_follow_what_people_change(photos: Services) -> None:
    image_id = give(photos, "coffee.png", "小猫 聚会")
    assert page(photos, "小猫").items[0].image_id == image_id
    photos.keywords.go_on(photos.keywords.begin_undo(1).id)
    assert page(photos, "小猫").notes == ()
    assert page(photos, "the").notes == (), "a word that is in every text names nothing"


def test_words_of_an_older_database_are_found_once_a_worker_has_noted_them(photos: Services) -> None:
    image_id = describe(photos, "chelsea.png", title="Dampfschiff", keywords=["!!!"])
    with unit_of_work(photos.engine) as session:
        session.execute(text("UPDATE metadata SET tokens = NULL, xid = pg_current_xact_id()"))
    assert page(photos, "dampfschiff").notes == ()
    note_words(photos.engine, lambda: False)
    assert page(photos, "dampfschiff").items[0].image_id == image_id
    with unit_of_work(photos.engine) as session:
        assert metadata.note_words(session, 10) == 0


def test_a_moved_file_keeps_its_keywords_and_gets_those_of_its_new_place(
    told: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = give(told, "2023/c.jpg", "kept")
    folder = tmp_path / "photos"
    (folder / "2023/c.jpg").rename(folder / "2022/moved.jpg")
    with worker(told, monkeypatch) as made:
        with monkeypatch.context() as paused:
            paused.setattr(moves, "settle", lambda *_: moves.Settled(0, None))
            work(told, made, told.jobs.create(str(folder)))
        fresh = told.images.find("2022/moved.jpg")
        assert told.keywords.words([fresh]) == {}, "a copy does not inherit"
        told.keywords.go_on(told.keywords.begin([fresh, image_id], add=["of both"]).id)
        told.keywords.go_on(told.keywords.begin([fresh], add=["new"]).id)
        with unit_of_work(told.engine) as session:
            session.execute(text("UPDATE job SET state = 'running', looked_for_moves = false WHERE id = 2"))
        assert ending.finish_jobs(told.engine) == [2]
    assert told.images.find("2022/moved.jpg") == image_id
    assert told.keywords.words([image_id, fresh]) == {image_id: ["kept", "of both", "new"]}
    told.keywords.go_on(told.keywords.begin_undo(2).id)
    assert told.keywords.words([image_id]) == {image_id: ["kept", "new"]}


def test_exports_have_what_people_gave_apart_from_what_files_say(told: Services) -> None:
    give(told, "2023/c.jpg", "=trip", "Österreich")
    files = {}
    for format_ in ("jsonl", "csv", "parquet", "coco"):
        made_by, hits = told.search.export(told.search.read(SearchQuery(), "prefix:2023/c", is_strict=True))
        file = io.BytesIO()
        write_rows(hits, format_, file, made_by, told=told.metadata.views)
        files[format_] = file.getvalue()
    row = json.loads(files["jsonl"])
    assert (row["given_keywords"], row["keywords"]) == (["=trip", "Österreich"], ["Österreich", "Places|Graz"])
    [cells] = csv.DictReader(io.StringIO(files["csv"].decode()))
    assert (cells["given_keywords"], cells["keywords"]) == ("'=trip|Österreich", "Österreich|Places\\|Graz")
    [table] = parquet.read_table(io.BytesIO(files["parquet"])).to_pylist()
    assert table["given_keywords"] == ["=trip", "Österreich"]
    assert json.loads(files["coco"])["images"][0]["given_keywords"] == ["=trip", "Österreich"]


def test_sidecars_have_what_people_gave_and_lose_it_again(told: Services, tmp_path: Path) -> None:
    give(told, "2023/c.jpg", "trip", "Places|Austria|Graz")
    out = tmp_path / "sidecars"
    out.mkdir()

    def write() -> str:
        _, hits = told.search.export(told.search.read(SearchQuery(), "prefix:2023/c", is_strict=True))
        write_sidecars(hits, SidecarPlace(out, (), told.settings.s3, told.engine), fail)
        return (out / "2023/c.jpg.xmp").read_text()

    def fail(_hit: Hit, why: str) -> None:
        raise AssertionError(why)

    packet = write()
    for word in ("trip", "Places", "Austria", "Graz"):
        assert f"<rdf:li>{word}</rdf:li>" in packet
    assert "<rdf:li>Places|Austria|Graz</rdf:li>" in packet
    told.keywords.go_on(told.keywords.begin_undo(1).id)
    assert "trip" not in write()


def test_hits_on_the_page_mark_from_where_a_keyword_is(told: Services) -> None:
    give(told, "2022/a.jpg", "österreich")
    client = TestClient(create_app(told), base_url="http://localhost")
    shown = client.get("/", params={"q": "keyword:Österreich"}, headers={"accept": "text/html"}).text
    assert 'title="keyword in the file"' in shown
    assert "Keyword in the file: " in shown
    assert 'title="keyword that a person gave"' in shown
    assert metadata_archive.PICTURES.keys() >= {"2022/a.jpg", "2023/c.jpg"}


def test_facets_count_keywords_of_files_and_people_together(told: Services) -> None:
    def facets(q: str = "") -> dict[str, tuple[int, str]]:
        found = told.search.file_facets(told.search.read(SearchQuery(), q)).keywords
        assert [each.count for each in found] == sorted((each.count for each in found), reverse=True)
        return {each.label: (each.count, each.query) for each in found}

    assert facets() == {
        "Dom": (1, "keyword:dom"),
        "Graz": (1, "keyword:graz"),
        "Places": (1, "keyword:places"),
        "Places|Graz": (1, "keyword:places|graz"),
        "Österreich": (1, "keyword:österreich"),
    }
    give(told, "2023/c.jpg", "österreich", "Trip")
    give(told, "2022/a.jpg", "österreich", "two words")
    now = facets()
    assert now["Österreich"] == (2, "keyword:österreich")
    assert now["two words"] == (1, 'keyword:"two words"')
    assert facets("keyword:trip")["Österreich"] == (1, "keyword:österreich")
    for count, query in now.values():
        assert told.search.page(told.search.read(SearchQuery(), query, is_strict=True)).total == count
    told.keywords.go_on(told.keywords.begin_undo(2).id)
    assert facets()["Österreich"][0] == 1
    assert "two words" not in facets()
    client = TestClient(create_app(told), base_url="http://localhost")
    files = client.get("/v1/tags").json()["files"]["keywords"]
    assert {"label": "Trip", "count": 1, "query": "keyword:trip"} in files
    assert "<h2>Keywords</h2>" in client.get("/", headers={"accept": "text/html"}).text


def test_the_pictures_of_a_keyword_can_be_named_where_images_are(told: Services) -> None:
    ids = [give(told, key, "our logo") for key in ("2022/a.jpg", "2023/b.jpg")]
    assert image_ids(told, ["keyword:Our Logo", str(ids[0]), "2023/c.jpg"], None)[:2] == ids
    with pytest.raises(NotFoundError, match="no image has the keyword 'nothing' from a person"):
        image_ids(told, ["keyword:nothing"], None)


def test_the_box_completes_keywords_of_people_and_of_files(told: Services) -> None:
    give(told, "2022/a.jpg", "Grand hotel", "graz")
    client = TestClient(create_app(told), base_url="http://localhost")
    options = client.get("/suggest", params={"q": "taken:2023 keyword:GR"}).text
    assert all(word in options for word in ("Grand hotel", "graz"))
    assert "keyword:&#34;Grand hotel&#34;" in options
    assert "Dom" not in options
    assert "Grand hotel" in client.get("/suggest", params={"q": "keyword:hot"}).text


def test_undoing_gives_a_tag_back_as_people_had_left_it(photos: Services) -> None:
    ids = [photos.images.find(name) for name in ("coffee.png", "rocket.jpg", "chelsea.png")]
    photos.corrections.tag(ids[:1], remove=[CAT], by="ann")
    photos.corrections.tag(ids[2:], add=[CAT], by="ann")
    act = photos.keywords.begin(ids, add=[CAT.upper(), "mine"], with_tags=True, by="ben")
    photos.keywords.go_on(act.id)

    def said() -> list[list[tuple[bool, str]]]:
        views = [photos.images.get(image_id).corrections for image_id in ids]
        return [[(one.is_present, one.said_by) for one in view] for view in views]

    assert said() == [[(True, "ben")], [(True, "ben")], [(True, "ann")]]
    photos.corrections.tag(ids[1:2], remove=[CAT], by="cid")
    photos.keywords.go_on(photos.keywords.begin_undo(act.id).id)
    assert said() == [[(False, "ann")], [(False, "cid")], [(True, "ann")]]
    assert photos.keywords.words(ids) == {}


def test_a_page_does_not_wait_for_many_keywords_and_a_thread_reads_them(
    told: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyword_pairs, "FEW", -2)  # before it is analysed, a table has -1 rows
    query = SearchQuery()

    def shown() -> list[str]:
        files = told.search.page_with_facets(query, 10).files
        assert files is not None
        return [each.label for each in files.keywords]

    with told.search.region_warmer.running():
        deadline = time.monotonic() + 60
        while not shown():
            assert time.monotonic() < deadline
        assert "Dom" in shown()
    assert "Dom" in [each.label for each in told.search.file_facets(query).keywords]

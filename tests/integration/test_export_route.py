"""``GET /v1/export``: all hits of a search as one file."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet

from tests.services.recognised import CAT, PHOTOGRAPHS
from tests.services.web import services_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

ALL = PHOTOGRAPHS + 1


def test_every_format_has_every_image_of_the_archive(client: TestClient) -> None:
    answers = {name: client.get("/v1/export", params={"format": name}) for name in ("jsonl", "csv", "parquet", "coco")}

    assert {answer.status_code for answer in answers.values()} == {200}
    assert [answer.headers["content-disposition"].rpartition("filename=")[2] for answer in answers.values()] == [
        '"ramq.jsonl"', '"ramq.csv"', '"ramq.parquet"', '"ramq.json"',
    ]  # fmt: skip
    keys = [json.loads(line)["key"] for line in answers["jsonl"].text.splitlines()]
    assert len(keys) == len(set(keys)) == ALL
    rows = list(csv.DictReader(io.StringIO(answers["csv"].text)))
    assert [row["key"] for row in rows] == keys
    assert {"camera", "taken_at", "keywords"} <= set(rows[0]), "what files say"
    table = parquet.read_table(io.BytesIO(answers["parquet"].content))
    assert table["key"].to_pylist() == keys
    coco = json.loads(answers["coco"].text)
    assert sorted(image["file_name"].rpartition("/")[2] for image in coco["images"]) == sorted(
        key.rpartition("/")[2] for key in keys
    )


def test_only_the_hits_of_the_search_are_sent(client: TestClient) -> None:
    [line] = client.get("/v1/export", params={"tag": CAT}).text.splitlines()
    assert json.loads(line)["key"] == "chelsea.png"
    ranked = client.get("/v1/export", params={"q": "a cup of coffee", "relevance": 0}).text.splitlines()
    assert json.loads(ranked[0])["key"] == "coffee.png"
    assert client.get("/v1/export", params={"tag": CAT, "not": CAT}).text == ""


def test_vectors_are_a_column_where_there_is_a_place_for_them(client: TestClient) -> None:
    width = services_of(client).generations.list()[0].vector_size
    body = client.get("/v1/export", params={"format": "parquet", "vectors": "text"}).content
    vectors = parquet.read_table(io.BytesIO(body))["vector"].to_pylist()
    assert {len(vector) for vector in vectors} == {width}

    refused = client.get("/v1/export", params={"format": "csv", "vectors": "text"})
    assert refused.status_code == 422
    assert "csv has no place for vectors; choose one of jsonl, parquet" in refused.json()["detail"]


@pytest.mark.parametrize("asked", [{"format": "xlsx"}, {"limit": 5}, {"cursor": "x"}, {"vectors": "nothing"}])
def test_what_an_export_does_not_take_is_refused(client: TestClient, asked: dict[str, str | int]) -> None:
    assert client.get("/v1/export", params=asked).status_code == 422


def test_head_answers_without_a_body_and_leaves_no_export_running(client: TestClient) -> None:
    for _ in range(10):  # more than are sent at the same time
        answer = client.head("/v1/export", params={"format": "csv"})
        assert (answer.status_code, answer.content) == (200, b"")


def test_the_page_offers_the_hits_as_files(client: TestClient) -> None:
    page = client.get("/", params={"q": f"tag:{CAT}"}).text
    assert "/v1/export?q=" in page
    link = page.partition('href="/v1/export?')[2].partition('"')[0].replace("&amp;", "&")
    assert link.endswith("format=csv")
    rows = list(csv.DictReader(io.StringIO(client.get(f"/v1/export?{link}").text)))
    assert [row["key"] for row in rows] == ["chelsea.png"]

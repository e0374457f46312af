"""An export that is sent while images are erased is whole, without images that were gone before their turn."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from ramq.services import search
from storage.batches import batched
from storage.search.views import SearchQuery
from tests.services.recognised import PHOTOGRAPHS
from tests.services.web import services_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

EACH = 4
READ = {
    "jsonl": lambda body: [json.loads(line)["image_id"] for line in body.splitlines()],
    "csv": lambda body: [int(row["image_id"]) for row in csv.DictReader(io.StringIO(body.decode()))],
    "parquet": lambda body: parquet.read_table(io.BytesIO(body))["image_id"].to_pylist(),
    "coco": lambda body: [image["id"] for image in json.loads(body)["images"]],
}


@pytest.mark.parametrize(
    "asked",
    [
        {"format": "jsonl"},
        {"format": "csv", "text": True},
        {"format": "parquet", "vectors": "text"},
        {"format": "jsonl", "vectors": "text", "text": True},
        {"format": "coco"},
    ],
)
def test_images_that_are_erased_meanwhile_are_left_out_and_break_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """The first batch loses images after it was read, the second before its turn, and the last one as a whole."""
    services = services_of(client)
    every = services.search.image_ids(services.search.read(SearchQuery(), ""))
    assert len(every) == PHOTOGRAPHS + 1 > 3 * EACH
    gone = [*every[1:3], *every[EACH : EACH + 2], *every[-2:]]
    read, calls = services._search_of_database.hits, []

    def read_and_erase(*args: Any) -> Any:
        hits = read(*args)
        if not calls:
            services.erasures.delete(gone)
        calls.append(None)
        return hits

    monkeypatch.setattr(services._search_of_database, "hits", read_and_erase)
    monkeypatch.setattr(search, "batched", lambda found, _: batched(found, EACH))
    answer = client.get("/v1/export", params=asked)
    assert answer.status_code == 200
    found = READ[asked["format"]](answer.content)
    left = [image_id for image_id in every if image_id not in gone]
    assert len(calls) > 3
    assert len(found) == len(set(found))
    assert set(left) <= set(found) <= {*left, *every[1:3]}, "what was read before it was erased may be there"

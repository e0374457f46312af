"""Search by similarity: to an image of the archive or a picture, alone and with a text beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from sqlalchemy import text

from ramq.services.query_models import QueryModels
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import generations
from storage.results.packing import unpack_vectors
from storage.search.views import SearchQuery
from tests.services.recognised import PHOTOGRAPHS

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI
    from numpy.typing import NDArray
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

TEXT = "a cup of coffee"
OTHERS = PHOTOGRAPHS  # all but the one that is asked for; one photograph is there twice


@pytest.fixture
def services(client: TestClient) -> Services:
    return cast("Services", cast("FastAPI", client.app).state.services)


def _vectors(services: Services) -> dict[int, NDArray[np.float32]]:
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text("SELECT image_id, v, vector_size FROM vector JOIN generation ON id = generation_id")
        )
        return {row.image_id: unpack_vectors(row.v, row.vector_size)[0] for row in rows}


def test_a_text_beside_an_image_ranks_by_the_middle_of_both(services: Services, client: TestClient) -> None:
    cat = services.images.find("chelsea.png")
    vectors = _vectors(services)
    with unit_of_work(services.engine) as session:
        generation = generations.default(session)
    assert generation is not None
    middle = services.search._models.encode_text(TEXT, generation) + vectors[cat]
    expected = {number: float(v @ middle / np.linalg.norm(middle)) for number, v in vectors.items() if number != cat}

    page = services.search.page(SearchQuery(text=TEXT, like=cat, limit=500))

    assert {hit.image_id: hit.score for hit in page.items} == pytest.approx(expected, abs=2e-3)
    assert [hit.score for hit in page.items] == sorted((hit.score for hit in page.items), reverse=True)
    assert page.total == len(page.items) == OTHERS
    assert page.items[0].key == "coffee.png"
    by_api = client.get("/v1/search", params={"q": TEXT, "like": cat, "limit": 500}).json()
    assert [item["image_id"] for item in by_api["items"]] == [hit.image_id for hit in page.items]
    [place] = by_api["items"][0]["why"]["spaces"]
    assert (place["space"], place["of"], place["rank"]) == ("text", "both", 1)
    assert by_api["items"][0]["why"]["similarity"] is None


def test_pages_of_a_text_beside_an_image_do_not_overlap(services: Services) -> None:
    query = SearchQuery(text=TEXT, like=services.images.find("chelsea.png"), limit=4)
    page = services.search.page(query)
    seen = [hit.image_id for hit in page.items]
    while page.next_cursor:
        page = services.search.page(query.after(page.next_cursor))
        seen += [hit.image_id for hit in page.items]

    assert len(seen) == len(set(seen)) == OTHERS


def test_a_text_beside_a_picture_finds_what_is_like_both(client: TestClient, archive: Path) -> None:
    picture = (archive / "chelsea.png").read_bytes()
    found = client.post("/v1/search/image", params={"q": TEXT, "limit": 2}, content=picture).json()["items"]

    assert {item["key"] for item in found} == {"chelsea.png", "coffee.png"}
    assert found[0]["score"] < 1


def test_a_picture_and_an_image_of_the_archive_are_too_much(services: Services, archive: Path) -> None:
    picture = (archive / "chelsea.png").read_bytes()
    with pytest.raises(UsageError, match="by a picture and by one of the archive"):
        services.search.by_image(picture, SearchQuery(like=1))


def test_a_model_that_cannot_be_loaded_is_told_in_a_line(services: Services, archive: Path) -> None:
    services.search._models = QueryModels(services.settings.model_copy(update={"device": "cuda:9"}))
    with pytest.raises(UsageError, match="cuda:9"):
        services.search.by_image((archive / "chelsea.png").read_bytes(), SearchQuery())

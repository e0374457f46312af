"""Searches for similar pictures learn from pictures of which a person said "not this"."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import generations, looks
from storage.search.ranking import NOT_THIS
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.recognised import CAT
from tests.services.spaces import make_space
from tests.services.web import assert_problem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def found(ramq: Services, query: SearchQuery) -> list[int]:
    return [hit.image_id for hit in ramq.search.page(query).items]


def vectors_in(ramq: Services, space: str) -> dict[int, NDArray[np.float32]]:
    ids = found(ramq, SearchQuery(limit=100))
    with unit_of_work(ramq.engine) as session:
        if space == "text":
            serving = generations.default(session)
            index = ramq._search_of_database._index()
            vectors = {i: index.vector_of(session, serving.id, i) for i in ids if serving}
        else:
            own = generations.default(session, space)
            vectors = {i: looks.vector_of(session, own.id, i) for i in ids if own}
    return {image_id: vector for image_id, vector in vectors.items() if vector is not None}


def expected(vectors: dict[int, NDArray[np.float32]], like: int, unlike: tuple[int, ...]) -> list[int]:
    """The order from its description."""
    query = vectors[like] - NOT_THIS * np.mean([vectors[i] for i in unlike], axis=0) if unlike else vectors[like]
    return sorted((i for i in vectors if i not in {like, *unlike}), key=lambda i: (-float(vectors[i] @ query), i))


def fused(*rankings: list[int]) -> list[int]:
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, image_id in enumerate(ranking, 1):
            scores[image_id] = scores.get(image_id, 0) + 1 / (60 + rank)
    return sorted(scores, key=lambda image_id: (-round(scores[image_id], 12), image_id))


@pytest.mark.parametrize("space", ["text", "siglip", "text,siglip"])
def test_a_search_turns_away_from_what_is_not_meant(ramq: Services, worker: Worker, space: str) -> None:
    make_space(ramq, worker, "siglip")
    vectors = [vectors_in(ramq, name) for name in space.split(",")]
    cat = ramq.images.find("chelsea.png")
    query = SearchQuery(like=cat, space=space, limit=100)
    order = found(ramq, query)
    assert order == fused(*(expected(each, cat, ()) for each in vectors))
    for count in (1, 2, 3):
        unlike = tuple(order[1 : count + 1])
        page = ramq.search.page(replace(query, unlike=unlike))
        assert [hit.image_id for hit in page.items] == fused(*(expected(each, cat, unlike) for each in vectors))
        assert page.total == len(order) - count
        counted = ramq.search.facets(replace(query, unlike=unlike), 500)
        assert {facet.name: facet.count for facet in counted} == {
            facet.name: facet.count for facet in ramq.search.facets(SearchQuery(unlike=unlike), 500)
        }
        # Pages of it are its own.
        first = ramq.search.page(replace(query, unlike=unlike, limit=4))
        rest = found(ramq, replace(query, unlike=unlike, cursor=first.next_cursor))
        assert [hit.image_id for hit in first.items] + rest == [hit.image_id for hit in page.items]
        with pytest.raises(UsageError, match="cursor does not belong to this search"):
            ramq.search.page(replace(query, cursor=first.next_cursor))
        exported = [hit.image_id for hit in ramq.search.export(replace(query, unlike=unlike))[1]]
        assert exported == [hit.image_id for hit in page.items]


def test_an_image_without_a_vector_in_a_space_is_left_out_and_turns_nothing_there(
    ramq: Services, worker: Worker
) -> None:
    cat, cup = ramq.images.find("chelsea.png"), ramq.images.find("coffee.png")
    make_space(ramq, worker, "siglip")
    with unit_of_work(ramq.engine) as session:
        looks.erase(session, [cup])
    order = found(ramq, SearchQuery(like=cat, space="siglip", limit=100))
    assert cup not in order
    assert found(ramq, SearchQuery(like=cat, unlike=(cup,), space="siglip", limit=100)) == order


def test_a_picture_of_ones_own_and_a_text_beside_an_image_learn_too(ramq: Services) -> None:
    cat = ramq.images.find("chelsea.png")
    picture = ramq.images.content(cat)
    before = [hit.image_id for hit in ramq.search.by_image(picture, SearchQuery(limit=100)).items]
    after = [hit.image_id for hit in ramq.search.by_image(picture, SearchQuery(limit=100, unlike=(before[1],))).items]
    vectors = vectors_in(ramq, "text")
    assert before[0] == after[0] == cat
    assert after[1:] == expected(vectors, cat, (before[1],))
    mixed = SearchQuery(text="a cup of coffee", like=cat, space="text", limit=100)
    turned = replace(mixed, unlike=(before[1],))
    assert before[1] not in found(ramq, turned)
    scores = [{hit.image_id: hit.score for hit in ramq.search.page(each).items} for each in (mixed, turned)]
    assert any(abs(scores[0][image_id] - score) > 1e-3 for image_id, score in scores[1].items())


def test_without_an_image_to_be_like_they_are_only_left_out(ramq: Services) -> None:
    every = found(ramq, SearchQuery(limit=100))
    assert found(ramq, SearchQuery(limit=100, unlike=(every[0], every[2]))) == [every[1], *every[3:]]
    by_text = SearchQuery(text=CAT, relevance=0, limit=100)
    scores = {hit.image_id: hit.score for hit in ramq.search.page(by_text).items}
    left = {hit.image_id: hit.score for hit in ramq.search.page(replace(by_text, unlike=(every[0],))).items}
    assert left == {image_id: score for image_id, score in scores.items() if image_id != every[0]}


def test_it_can_be_written_in_a_query_an_address_and_a_command(
    ramq: Services, client: TestClient, recognised_engine: Engine
) -> None:
    cat, cup = ramq.images.find("chelsea.png"), ramq.images.find("coffee.png")
    order = found(ramq, SearchQuery(like=cat, unlike=(cup,), limit=100))
    for asked in (
        {"q": f"like:{cat} -like:{cup}"},
        {"like": cat, "q": f"NOT like:{cup}"},
        {"like": cat, "not_like": [cup, cup], "strict": True},
        {"q": f"like:{cat} -like:{cup}", "not_like": cup},
    ):
        answer = client.get("/v1/search", params=asked | {"limit": 100})
        assert [item["image_id"] for item in answer.json()["items"]] == order, asked
        assert answer.json()["notes"] == []
    assert_problem(client.get("/v1/search", params={"like": cat, "not_like": 0}), 422, "invalid-request")
    assert_problem(
        client.get("/v1/search", params={"like": cat, "not_like": list(range(1, 22))}), 422, "invalid-request"
    )
    with pytest.raises(UsageError, match="at most 20 images"):
        ramq.search.page(SearchQuery(like=cat, unlike=tuple(range(1, 22))))
    # As typed by a person, an image that is not there is left out with a note, and never searched as words.
    answer = client.get("/v1/search", params={"q": f"like:{cat} -like:987654", "limit": 100}).json()
    [note] = answer["notes"]
    assert note["text"] == "-like:987654 excludes nothing. There is no image 987654."
    assert cup in [item["image_id"] for item in answer["items"]]
    # An address that was kept works after one of its images was deleted.
    assert found(ramq, SearchQuery(like=cat, unlike=(cup, 987654), limit=100)) == order

    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(ramq.settings.data_dir),
        "COLUMNS": "300",
    }
    command = ["search", "--like", "chelsea.png", "--not-like", "coffee.png", "--limit", "100"]
    done = run_here(command, environment)
    assert done.returncode == 0, done.stderr
    assert "coffee.png" not in done.stdout
    assert [int(line.split()[0]) for line in done.stdout.splitlines() if line.split()[0].isdecimal()] == order
    missing = run_here(["search", "--like", "chelsea.png", "--not-like", "no.png"], environment)
    assert missing.returncode == 2

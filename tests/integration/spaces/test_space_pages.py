"""Pages of searches by the vectors of spaces: their cursors and totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ram_core.spaces.tiny import write_tiny_tower
from storage.search.views import SearchQuery
from tests.services.recognised import CAT
from tests.services.spaces import FURTHER, make_space, space_worker

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

TEXT = "a cat beside a cup of coffee"


def test_a_cursor_is_valid_for_the_same_vectors_alone(ramq: Services, worker: Worker, client: TestClient) -> None:
    make_space(ramq, worker, "siglip")
    make_space(ramq, worker, "look")
    first, second = ramq.images.find("chelsea.png"), ramq.images.find("coffee.png")

    def page(**asked: object) -> tuple[int, dict[str, Any]]:
        answer = client.get("/v1/search", params={"limit": 3, "relevance": 0, **asked})
        return answer.status_code, answer.json()

    cursor = page(like=first, space="siglip")[1]["next_cursor"]
    assert page(like=first, space="siglip", cursor=cursor)[0] == 200
    for other in (
        {"like": first, "space": "look"},
        {"like": second, "space": "siglip"},
        {"q": TEXT, "space": "siglip"},
        {"q": TEXT},
        {"like": first, "space": "siglip,look"},
    ):
        status, told = page(**other, cursor=cursor)
        assert (status, told["type"]) == (422, "urn:ramq:problem:usage")
        assert "begin with the first page" in told["detail"]
    assert page(tag=CAT, cursor=cursor)[0] == 422
    by_tag = page()[1]["next_cursor"]
    assert page(cursor=by_tag)[0] == 200
    assert page(q=TEXT, cursor=by_tag)[0] == 422

    fused = page(q=TEXT, space="siglip,text")[1]["next_cursor"]
    write_tiny_tower(FURTHER["siglip"], ramq.settings.models_path, seed=5)
    with space_worker(ramq) as another:
        job = make_space(ramq, another, "siglip")
    assert page(q=TEXT, space="siglip,text", cursor=fused)[0] == 200
    assert job.generation_id is not None
    ramq.stages.use(job.generation_id)
    for asked, former in (({"like": first, "space": "siglip"}, cursor), ({"q": TEXT, "space": "siglip,text"}, fused)):
        status, told = page(**asked, cursor=former)
        assert (status, "another generation is in use now" in told["detail"]) == (422, True)
        assert page(**asked)[0] == 200


def test_fused_spaces_that_have_some_images_say_how_many_are_below(ramq: Services, worker: Worker) -> None:
    make_space(ramq, worker, "siglip", query=SearchQuery(prefix="c"))
    make_space(ramq, worker, "clip", query=SearchQuery(prefix="c"))
    some = sum(hit.key.startswith("c") for hit in ramq.search.page(SearchQuery(limit=100)).items)
    page = ramq.search.page(SearchQuery(text=TEXT, space="siglip,clip", relevance=1))
    assert (page.items, page.total, page.below) == ([], 0, some)


def test_a_page_of_a_text_has_a_total(ramq: Services) -> None:
    whole = ramq.search.page(SearchQuery(text="coffee", relevance=0.5, limit=100))
    assert whole.total is not None
    assert whole.total > 2
    page = ramq.search.page(SearchQuery(text="coffee", relevance=0.5, limit=1))
    assert (page.total, page.below) == (whole.total, whole.below)

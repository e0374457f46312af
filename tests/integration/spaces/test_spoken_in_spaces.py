"""What people said of tags counts in every space, alone and fused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from storage.search.views import SearchQuery
from tests.services.recognised import CAT
from tests.services.spaces import make_space

if TYPE_CHECKING:
    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

TEXT = "an Egyptian cat that sleeps"


@pytest.mark.parametrize("space", ["siglip", "text,siglip"])
def test_a_text_agrees_with_what_people_said_in_each_space(ramq: Services, worker: Worker, space: str) -> None:
    make_space(ramq, worker, "siglip")
    every = SearchQuery(text=TEXT, space=space, relevance=0, limit=100)
    order = [hit.image_id for hit in ramq.search.page(every).items]
    first, *_, last = order
    ramq.corrections.tag([first], remove=[CAT])
    ramq.corrections.tag([last], add=[CAT])
    hits = ramq.search.page(every).items
    assert [hit.image_id for hit in (hits[0], hits[-1])] == [last, first]
    assert {hit.image_id for hit in hits} == set(order)
    assert hits[0].why is not None
    assert hits[0].why.added == [CAT]
    assert hits[-1].why is not None
    assert hits[-1].why.removed == [CAT]
    # The first one of two pages is that of one, and the cutoff leaves out what a person removed, and nothing added.
    page = ramq.search.page(replace(every, limit=3))
    following = ramq.search.page(replace(every, limit=100, cursor=page.next_cursor))
    assert [hit.image_id for hit in (*page.items, *following.items)] == [hit.image_id for hit in hits]
    cut = {hit.image_id for hit in ramq.search.page(replace(every, relevance=0.95)).items}
    assert last in cut
    assert first not in cut


def test_a_text_beside_an_image_leaves_what_a_person_removed_for_the_end(ramq: Services) -> None:
    cat, cup = (ramq.images.find(name) for name in ("chelsea.png", "coffee.png"))
    query = SearchQuery(text=CAT, like=cup, space="text", limit=100)
    assert cat in [hit.image_id for hit in ramq.search.page(query).items][:-1]
    ramq.corrections.tag([cat], remove=[CAT])
    page = ramq.search.page(query)
    assert page.items[-1].image_id == cat
    assert page.total == len(page.items)
    parts = [ramq.search.page(replace(query, limit=5))]
    while parts[-1].next_cursor:
        parts.append(ramq.search.page(replace(query, limit=5, cursor=parts[-1].next_cursor)))
    assert [hit.image_id for part in parts for hit in part.items] == [hit.image_id for hit in page.items]

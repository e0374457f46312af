"""After a deletion nothing in the history of keywords tells of the images, and the verification looks there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.results import keywords
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from ramq.wiring import Services

pytestmark = pytest.mark.services


@pytest.fixture
def ids(told: Services) -> list[int]:
    """The numbers of six images, ascending."""
    return sorted(hit.image_id for hit in told.search.page(SearchQuery(limit=100)).items)


def by_search(services: Services, q: str, *, add: str = "", remove: str = "") -> int:
    query = services.search.read(SearchQuery(), q, is_strict=True)
    words = {"add": [add] if add else [], "remove": [remove] if remove else []}
    act = services.keywords.begin_for_all(query, asked=q, by="ann", **words)
    return services.keywords.go_on(act.id).id


def by_name(services: Services, image_ids: list[int], **words: list[str]) -> int:
    return services.keywords.go_on(services.keywords.begin(image_ids, by="ann", **words).id).id


def test_acts_that_changed_nothing_or_were_undone_are_erased_with_their_words_and_searches(
    told: Services, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = told.images.find("2023/c.jpg")
    by_search(told, "prefix:2023/c.jpg", add="secret one")
    by_search(told, "prefix:2023/c.jpg", add="secret one")
    by_search(told, "prefix:2023/c.jpg", remove="secret two")
    undone = by_search(told, "prefix:2023/c.jpg", add="secret three")
    told.keywords.go_on(told.keywords.begin_undo(undone, "ann").id)
    with monkeypatch.context() as patched:
        patched.setattr(keywords, "MAX_OF_IMAGE", 1)
        assert told.keywords.act(by_search(told, "prefix:2023/c.jpg", add="secret four")).full == 1
    unfinished = told.keywords.begin([secret], add=["secret five"]).id
    both = by_search(told, "prefix:2023", add="shared")
    removal = by_search(told, "prefix:2023", remove="shared")
    report = told.erasures.delete([secret])
    assert told.erasures.verify(report.deletion_id).is_clean
    assert [(act.id, act.query) for act in told.keywords.history().items] == [(removal, None), (both, None)]
    with pytest.raises(NotFoundError):
        told.keywords.go_on(unfinished)
    page = TestClient(create_app(told), base_url="http://localhost").get("/keywords", headers={"accept": "text/html"})
    assert "secret" not in page.text
    assert "prefix:" not in page.text


def test_acts_on_other_images_stay_with_their_searches(told: Services, ids: list[int]) -> None:
    act = by_search(told, "prefix:2022", add="kept")
    told.erasures.delete([told.images.find("2023/c.jpg")])
    [view] = told.keywords.history().items
    assert (view.id, view.query) == (act, "prefix:2022")


def test_an_act_that_is_still_to_be_done_on_an_erased_image_goes_on_with_the_others(
    told: Services, ids: list[int]
) -> None:
    act = told.keywords.begin(ids[:3], add=["trip"])
    report = told.erasures.delete(ids[:1])
    assert told.erasures.verify(report.deletion_id).is_clean
    assert told.keywords.go_on(act.id).state == "done"
    assert told.keywords.words(ids) == {ids[1]: ["trip"], ids[2]: ["trip"]}


@pytest.mark.parametrize(
    ("table", "left"),
    [
        (
            "keyword_act",
            """INSERT INTO keyword_act (added, removed, said_by, finished_at)
               VALUES ('{x}', '{}', 'ann', '2020-01-01')""",
        ),
        (
            "keyword_part",
            """WITH act AS (
                   INSERT INTO keyword_act (added, removed, said_by) VALUES ('{x}', '{}', 'ann') RETURNING id
               )
               INSERT INTO keyword_part (act_id, number, image_ids)
               SELECT act.id, 0, part.image_ids FROM act, deletion_part AS part""",
        ),
    ],
)
def test_the_verification_finds_what_the_history_still_tells(
    told: Services, ids: list[int], table: str, left: str
) -> None:
    report = told.erasures.delete(ids[:1])
    with unit_of_work(told.engine) as session:
        session.execute(text(left))
    found = {trace.place: trace.left for trace in told.erasures.verify(report.deletion_id).traces if trace.left}
    assert found == {f"table {table}": 1}


def test_moving_a_file_forgets_no_acts(told: Services, ids: list[int]) -> None:
    from storage.results import erasures  # noqa: PLC0415

    act = by_name(told, ids[1:2], add=["undone"])
    told.keywords.go_on(told.keywords.begin_undo(act, "ben").id)
    with unit_of_work(told.engine) as session:
        erasures.erase(session, ids[:1], forgets_names=False)
    assert [view.state for view in told.keywords.history().items] == ["undone"]

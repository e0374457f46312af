"""Of several acts on one image and word the one that began last counts, also if it changed nothing when it was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import keyword_acts
from storage.results.keyword_acts import ActSpec
from storage.search.views import SearchQuery
from tests.services.recognised import CAT, settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services


@pytest.fixture
def ids(told: Services) -> list[int]:
    """The numbers of six images, ascending."""
    return sorted(hit.image_id for hit in told.search.page(SearchQuery(limit=100)).items)


@pytest.fixture
def photos(recognised_engine: Engine, tmp_path: Path) -> Services:
    """Services with photographs that have tags."""
    return Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)


def act(services: Services, image_ids: list[int], *, by: str = "ann", **more: object) -> int:
    return services.keywords.go_on(services.keywords.begin(image_ids, by=by, **more).id).id  # type: ignore[arg-type]


def undo(services: Services, act_id: int, by: str = "ann") -> None:
    services.keywords.go_on(services.keywords.begin_undo(act_id, by).id)


def test_the_same_word_of_the_same_person_stays_when_the_first_act_is_undone(told: Services, ids: list[int]) -> None:
    first = act(told, ids[:1], add=["trip"])
    second = act(told, ids[:1], add=["Trip"])
    again = act(told, ids[:1], add=["Trip"])
    assert [told.keywords.act(each).changed for each in (first, second, again)] == [1, 1, 0]
    undo(told, first)
    undo(told, second)
    assert told.keywords.words(ids[:1]) == {ids[0]: ["Trip"]}


@pytest.mark.parametrize("which", ["add", "remove"])
def test_an_older_act_that_goes_on_later_does_not_beat_a_newer_one(told: Services, ids: list[int], which: str) -> None:
    if which == "remove":
        act(told, ids[:1], add=["trip"])
    other = {"add": "remove", "remove": "add"}[which]
    older = told.keywords.begin(ids[:1], by="ben", **{which: ["trip"]})  # type: ignore[arg-type]
    newer = act(told, ids[:1], by="cid", **{other: ["TRIP"]})
    before = told.keywords.words(ids[:1])
    assert told.keywords.go_on(older.id).state == "done"
    assert told.keywords.words(ids[:1]) == before
    undo(told, newer)
    assert told.keywords.words(ids[:1]) == ({ids[0]: ["trip"]} if which == "add" else {})


def test_an_act_that_is_being_planned_does_not_beat_a_newer_one_either(told: Services, ids: list[int]) -> None:
    with unit_of_work(told.engine) as session:
        older = keyword_acts.begin(session, ActSpec(["trip"], [], "ben"), [ids[:1]])
        newer = act(told, ids[:1], remove=["trip"])
    assert older < newer
    told.keywords.go_on(older)
    assert told.keywords.words(ids[:1]) == {}
    undo(told, newer)
    assert told.keywords.words(ids[:1]) == {ids[0]: ["trip"]}


def test_a_renaming_of_a_word_that_is_not_there_without_an_undone_act_has_no_effect(
    told: Services, ids: list[int]
) -> None:
    act(told, ids[:1], add=["A1"])
    renames = [("A1", "B1"), ("B1", "A1"), ("A1", "a1")]
    done = [told.keywords.go_on(told.keywords.begin_rename(old, new).id).id for old, new in renames]
    assert told.keywords.words(ids[:1]) == {ids[0]: ["a1"]}
    undo(told, done[1])
    assert told.keywords.words(ids[:1]) == {ids[0]: ["B1"]}
    assert [one.word for one in told.images.get(ids[0]).keywords] == ["B1"]


def test_removing_a_word_that_is_nowhere_keeps_nothing(told: Services, ids: list[int]) -> None:
    act(told, ids[:2], add=["trip"])
    act(told, ids, remove=["trip", "nowhere"])
    with unit_of_work(told.engine) as session:
        rows = session.execute(text("SELECT count(*) FROM keyword_said WHERE NOT is_present")).scalar()
    assert rows == 2


def test_a_word_keeps_its_place_among_the_others_when_it_is_said_again(told: Services, ids: list[int]) -> None:
    act(told, ids[:1], add=["b"])
    act(told, ids[:1], add=["a"])
    act(told, ids[:1], add=["b"], by="ben")
    assert told.keywords.words(ids[:1]) == {ids[0]: ["b", "a"]}


def corrected(services: Services, image_id: int) -> list[tuple[bool, str]]:
    return [(one.is_present, one.said_by) for one in services.images.get(image_id).corrections]


def test_a_tag_that_somebody_confirms_stays_when_the_act_that_added_it_is_undone(photos: Services) -> None:
    ids = [photos.images.find(name) for name in ("coffee.png", "rocket.jpg")]
    first = act(photos, ids, add=[CAT], with_tags=True)
    photos.corrections.tag(ids[:1], add=[CAT], by="ben")
    assert [corrected(photos, each) for each in ids] == [[(True, "ben")], [(True, "ann")]]
    undo(photos, first)
    assert [corrected(photos, each) for each in ids] == [[(True, "ben")], []]


def test_what_the_author_says_of_the_tag_itself_stays_too(photos: Services) -> None:
    image = photos.images.find("coffee.png")
    first = act(photos, [image], add=[CAT], with_tags=True)
    photos.corrections.tag([image], add=[CAT], by="ann")
    undo(photos, first)
    assert corrected(photos, image) == [(True, "ann")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("was_removed", [False, True])
def test_a_tag_that_two_acts_added_stays_until_both_are_undone(
    photos: Services, order: tuple[int, int], was_removed: bool
) -> None:
    image = photos.images.find("coffee.png")
    if was_removed:
        photos.corrections.tag([image], remove=[CAT], by="cid")
    acts = [act(photos, [image], by=by, add=[CAT], with_tags=True) for by in ("ann", "ben")]
    assert [photos.keywords.act(each).changed for each in acts] == [1, 0]
    undo(photos, acts[order[0]])
    assert corrected(photos, image) == [(True, ("ann", "ben")[order[1]])]
    undo(photos, acts[order[1]])
    assert corrected(photos, image) == ([(False, "cid")] if was_removed else [])


def test_a_tag_that_was_reset_does_not_come_back(photos: Services) -> None:
    image = photos.images.find("coffee.png")
    act(photos, [image], add=[CAT], with_tags=True)
    photos.corrections.tag([image], reset=[CAT])
    second = act(photos, [image], add=[CAT], with_tags=True)
    undo(photos, second)
    assert corrected(photos, image) == []


def test_characters_that_nobody_sees_make_no_other_keyword(told: Services, ids: list[int]) -> None:
    typed = ["tr\u00adip", "\u2764\ufe0f", "a\u200db", "\u202ebad"]
    act(told, ids[:1], add=typed)
    act(told, ids[1:2], add=["trip", "\u2764", "ab", "bad"])
    assert sorted(told.keywords.words(ids[:1])[ids[0]]) == sorted(typed), "what was typed is kept"
    for word in ("trip", "t\u200brip", "\u2764", "ab", "bad"):
        query = told.search.read(SearchQuery(limit=9), f'keyword:"{word}"', is_strict=True)
        assert sorted(hit.image_id for hit in told.search.page(query).items) == ids[:2], ascii(word)
    assert [one.images for one in told.keywords.list().items] == [2, 2, 2, 2]
    assert [one.images for one in told.keywords.list("\u200btri").items] == [2]
    act(told, ids[:2], remove=["trip"])
    assert len(told.keywords.words(ids[:1])[ids[0]]) == 3
    flags = ["\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e007f"]
    act(told, ids[2:3], add=flags)
    assert len(told.keywords.words(ids[2:3])[ids[2]]) == 2
    with pytest.raises(UsageError, match="that can be seen"):
        told.keywords.begin(ids, add=["\u3164"])


def test_the_page_shows_direction_marks(told: Services, ids: list[int]) -> None:
    act(told, ids[:1], add=["\u202etrip", "\U0001f469\u200d\U0001f680"])
    client = TestClient(create_app(told), base_url="http://localhost")
    page = client.get("/keywords", params={"beginning": "\u202etr"}, headers={"accept": "text/html"}).text
    assert "Keywords that begin with “\\u202etr”" in page
    every = client.get("/keywords", headers={"accept": "text/html"}).text
    assert '<option value="trip">' in every
    assert '<option value="\U0001f469\u200d\U0001f680">' in every
    assert "\u202e" not in every

"""Acts on keywords that were undone, and are redone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from storage.search.views import SearchQuery
from tests.integration.keywords.test_keyword_acts import give, take, undo, words

if TYPE_CHECKING:
    from ramq.wiring import Services
    from storage.results.keyword_acts import ActView

pytestmark = pytest.mark.services


def redo(services: Services, act: ActView, by: str = "bob") -> ActView:
    return services.keywords.go_on(services.keywords.begin_redo(act.id, by).id)


@pytest.fixture
def ids(told: Services) -> list[int]:
    """The numbers of six images, ascending."""
    return sorted(hit.image_id for hit in told.search.page(SearchQuery(limit=100)).items)


def test_a_redone_act_has_its_old_place_among_the_others(told: Services, ids: list[int]) -> None:
    act = give(told, ids[:4], "dog")
    undo(told, act)
    take(told, ids[:1], "dog", by="cid")  # said while nobody gave the word
    give(told, ids[1:2], "Dog", by="cid")
    done = redo(told, act)
    assert (done.state, done.undone_by, done.redone_by, done.said_by) == ("done", None, "bob", "ann")
    assert (done.seen, done.images, done.changed) == (4, 4, 2)
    assert [words(told, each) for each in ids[:5]] == [[], ["Dog"], ["dog"], ["dog"], []]
    assert done.state_in_words == "done, redone by bob"
    with pytest.raises(UsageError, match="is not undone"):
        told.keywords.begin_redo(act.id)
    undo(told, act)
    assert [words(told, each) for each in ids[:5]] == [[], ["Dog"], [], [], []]


def test_what_was_not_finished_is_finished_when_it_is_redone(
    told: Services, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 2)
    act = told.keywords.go_on(told.keywords.begin(ids, add=["dog"], by="ann").id, seconds=0)
    assert (act.state, act.seen) == ("unfinished", 2)
    undo(told, act)
    assert [words(told, each) for each in ids] == [[]] * 6
    done = redo(told, act)
    assert (done.state, done.seen, done.changed) == ("done", 6, 6)
    assert [words(told, each) for each in ids] == [["dog"]] * 6


def test_an_act_that_an_earlier_version_undid_is_refused(told: Services, ids: list[int]) -> None:
    act = give(told, ids[:2], "dog")
    undo(told, act)
    with unit_of_work(told.engine) as session:
        session.execute(text("DELETE FROM keyword_part"))
    with pytest.raises(ConflictError, match="do it anew"):
        told.keywords.begin_redo(act.id)


def test_erased_images_are_left_out_of_what_is_redone(told: Services, ids: list[int]) -> None:
    act = give(told, ids[:2], "dog")
    undo(told, act)
    told.erasures.delete([ids[0]])
    done = redo(told, act)
    assert (done.state, done.changed) == ("done", 1)
    assert told.keywords.words(ids) == {ids[1]: ["dog"]}
    undo(told, act)
    told.erasures.delete([ids[1]])
    assert told.keywords.history().items == []

"""Keywords that people give images: acts, what an image has after them, and their undoing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.results import keyword_acts, keywords
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from ramq.wiring import Services
    from storage.results.keyword_acts import ActView

pytestmark = pytest.mark.services


def give(services: Services, ids: list[int], *words: str, by: str = "ann", **more: object) -> ActView:
    return services.keywords.go_on(services.keywords.begin(ids, add=words, by=by, **more).id)  # type: ignore[arg-type]


def take(services: Services, ids: list[int], *words: str, by: str = "bob") -> ActView:
    return services.keywords.go_on(services.keywords.begin(ids, remove=words, by=by).id)


def undo(services: Services, act: ActView, by: str = "ann") -> ActView:
    return services.keywords.go_on(services.keywords.begin_undo(act.id, by).id)


def words(services: Services, image_id: int) -> list[str]:
    found = [view.word for view in services.images.get(image_id).keywords]
    assert found == services.keywords.words([image_id]).get(image_id, [])
    return found


def found(services: Services, q: str) -> list[int]:
    query = services.search.read(SearchQuery(limit=100), q, is_strict=True)
    return sorted(hit.image_id for hit in services.search.page(query).items)


@pytest.fixture
def ids(told: Services) -> list[int]:
    """The numbers of six images, ascending."""
    return sorted(hit.image_id for hit in told.search.page(SearchQuery(limit=100)).items)


def test_keywords_are_found_and_shown_as_typed_with_who_and_when(told: Services, ids: list[int]) -> None:
    act = give(told, ids[:2], "Straße  am See", "Cafe\u0301")
    assert (act.state, act.images, act.seen, act.changed, act.said_by) == ("done", 2, 2, 2, "ann")
    assert words(told, ids[0]) == ["Cafe\u0301", "Straße am See"]
    [first, _] = told.images.get(ids[0]).keywords
    assert (first.said_by, first.act_id) == ("ann", act.id)
    for q in ("keyword:café", "keyword:CAFÉ", 'keyword:"strasse am see"', 'keyword:" straße am  SEE"'):
        assert found(told, q) == ids[:2], q
    assert found(told, "keyword:see") == []
    assert found(told, "-keyword:café") == ids[2:]
    [hit] = told.search.page(told.search.read(SearchQuery(limit=1), "keyword:café", is_strict=True)).items
    assert (hit.keywords, [(one.source, one.text) for one in hit.told]) == (
        ("Cafe\u0301", "Straße am See"),
        [("person", "Cafe\u0301")],
    )


def test_what_files_say_is_found_by_the_same_filter_and_told_apart(told: Services) -> None:
    graz, vienna = told.images.find("2023/c.jpg"), told.images.find("2022/a.jpg")
    give(told, [vienna], "österreich")
    query = told.search.read(SearchQuery(limit=100), "keyword:Österreich", is_strict=True)
    sources = {hit.image_id: [(one.source, one.text) for one in hit.told] for hit in told.search.page(query).items}
    assert sources == {graz: [("keyword", "Österreich")], vienna: [("person", "österreich")]}


def test_levels_of_a_hierarchy_are_found(told: Services, ids: list[int]) -> None:
    give(told, ids[:1], "Places|Europe|Linz")
    assert found(told, "keyword:linz") == found(told, 'keyword:"places|europe|linz"') == ids[:1]


def test_an_undone_act_leaves_what_was_before_it_and_what_others_did_since(told: Services, ids: list[int]) -> None:
    give(told, ids[:1], "before", by="cid")
    act = give(told, ids, "dog", "before")
    give(told, ids[1:3], "Dog", by="bob")
    take(told, ids[3:4], "dog", by="bob")
    give(told, ids[4:5], "later", by="bob")
    done = undo(told, act, by="cid")
    assert (done.state, done.undone_by) == ("undone", "cid")
    assert done.undone_at is not None
    assert [words(told, each) for each in ids] == [["before"], ["Dog"], ["Dog"], [], ["later"], []]
    assert found(told, "keyword:dog") == ids[1:3]
    with pytest.raises(UsageError, match="cid has undone the change"):
        told.keywords.begin_undo(act.id)


def test_an_undone_removal_gives_back_what_it_removed_alone(told: Services, ids: list[int]) -> None:
    give(told, ids[:2], "Dog")
    removal = take(told, ids, "DOG")
    assert (removal.images, removal.changed) == (6, 2)
    give(told, ids[1:2], "dog", by="cid")
    undo(told, removal)
    assert [words(told, each) for each in ids[:3]] == [["Dog"], ["dog"], []]
    assert [view.said_by for view in told.images.get(ids[1]).keywords] == ["cid"]


def test_acts_undone_in_any_order_leave_nothing(told: Services, ids: list[int]) -> None:
    acts = [
        give(told, ids, "a", "b"),
        take(told, ids[:3], "a"),
        give(told, ids[2:], "a", by="cid"),
        take(told, ids, "b"),
    ]
    for act in (acts[1], acts[3], acts[0], acts[2]):
        undo(told, act)
    assert {image_id: words(told, image_id) for image_id in ids} == {image_id: [] for image_id in ids}
    with unit_of_work(told.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM keyword_said")) == 0


def test_a_repeated_act_changes_nothing(told: Services, ids: list[int]) -> None:
    give(told, ids[:1], "dog")
    assert give(told, ids[:1], "dog").changed == 0
    assert take(told, ids[:1], "cat").changed == 0


def test_a_keyword_is_renamed_on_all_images_that_have_it_and_the_renaming_undone(
    told: Services, ids: list[int]
) -> None:
    give(told, ids[:3], "brige")
    give(told, ids[2:4], "bridge", by="bob")
    act = told.keywords.go_on(told.keywords.begin_rename("Brige", "bridge", "cid").id)
    assert (act.is_rename, act.images, act.changed) == (True, 3, 3)
    assert found(told, "keyword:bridge") == ids[:4]
    assert found(told, "keyword:brige") == []
    undo(told, act)
    assert [words(told, each) for each in ids[:4]] == [["brige"], ["brige"], ["brige", "bridge"], ["bridge"]]
    spelled = told.keywords.go_on(told.keywords.begin_rename("brige", "BRIGE").id)
    assert (spelled.removed, words(told, ids[0])) == ([], ["BRIGE"])
    with pytest.raises(NotFoundError, match="no image has the keyword 'tower'"):
        told.keywords.begin_rename("tower", "towers")


def test_an_act_for_a_search_is_for_what_it_found_when_it_began(told: Services, ids: list[int]) -> None:
    query = told.search.read(SearchQuery(), "taken:2023", is_strict=True)
    act = told.keywords.begin_for_all(query, add=["year"], asked="taken:2023", by="ann")
    assert (act.state, act.images, act.seen, act.query) == ("unfinished", 3, 0, "taken:2023")
    told.erasures.delete([told.images.find("2023/d.jpg")])
    assert told.keywords.go_on(act.id).changed == 2
    with pytest.raises(UsageError, match="finds no image"):
        told.keywords.begin_for_all(told.search.read(SearchQuery(), "taken:1900", is_strict=True), add=["x"])


def test_an_interrupted_act_has_done_whole_parts_and_is_continued_or_undone(
    told: Services, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 2)
    monkeypatch.setattr(keyword_acts, "IMAGES_AT_ONCE", 2)

    def stop(_act: ActView) -> None:
        raise KeyboardInterrupt

    acts = [told.keywords.begin(ids, add=[word]) for word in ("one", "two")]
    for act in acts:
        with pytest.raises(KeyboardInterrupt):
            told.keywords.go_on(act.id, progress=stop)
        assert (told.keywords.act(act.id).state, told.keywords.act(act.id).seen) == ("unfinished", 2)
    assert found(told, "keyword:one") == ids[:2]
    seen: list[int] = []
    whole = told.keywords.go_on(acts[0].id, progress=lambda act: seen.append(act.seen))
    assert (whole.state, seen) == ("done", [4, 6])
    told.keywords.begin_undo(acts[1].id)
    assert told.keywords.go_on(acts[1].id).state == "undone"
    assert words(told, ids[0]) == ["one"]
    step = told.keywords.go_on(told.keywords.begin_undo(acts[0].id).id, seconds=0)
    assert step.state == "undoing"
    assert told.keywords.go_on(acts[0].id).state == "undone"
    assert found(told, "keyword:one") == []


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (["  "], "at least one letter"),
        (["x" * 201], "at most 200 characters"),
        (["\ufdfa" * 60], "at most 200 characters"),
        (["a\x00b"], "control characters"),
        (["a\ud800"], "control characters"),
        ([f"w{number}" for number in range(51)], "at most 50 keywords at once"),
        ([], "no keyword is given"),
    ],
)
def test_what_cannot_be_a_keyword_is_refused_with_a_reason(told: Services, typed: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        told.keywords.begin([1], add=typed)


def test_an_image_takes_so_many_keywords(told: Services, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywords, "MAX_OF_IMAGE", 2)
    give(told, ids[:1], "a", "b")
    act = give(told, ids[:2], "b", "c")
    assert (act.changed, act.full) == (1, 1)
    assert (words(told, ids[0]), words(told, ids[1])) == (["a", "b"], ["b", "c"])


def test_images_that_do_not_exist_are_refused(told: Services) -> None:
    with pytest.raises(NotFoundError, match="no image 999"):
        told.keywords.begin([999], add=["dog"])
    with pytest.raises(NotFoundError, match="no change of keywords 7"):
        told.keywords.go_on(7)


def test_keywords_are_counted_and_acts_listed(told: Services, ids: list[int]) -> None:
    give(told, ids[:3], "Dog")
    give(told, ids[3:4], "dogma", "cat")
    page = told.keywords.list(limit=2)
    assert [(one.word, one.images) for one in page.items] == [("Dog", 3), ("cat", 1)]
    assert [one.word for one in told.keywords.list(limit=2, offset=int(page.next_cursor or 0)).items] == ["dogma"]
    assert [one.word for one in told.keywords.list("DOG").items] == ["Dog", "dogma"]
    history = told.keywords.history(limit=1)
    assert [act.added for act in history.items] == [["dogma", "cat"]]
    assert [act.added for act in told.keywords.history(before=int(history.next_cursor or 0)).items] == [["Dog"]]


def test_an_erased_image_loses_its_keywords_and_the_acts_that_were_about_it_alone(
    told: Services, ids: list[int]
) -> None:
    give(told, ids[:1], "private")
    give(told, ids[:2], "shared")
    report = told.erasures.delete(ids[:1])
    assert report.keywords == 1
    assert told.erasures.verify(report.deletion_id).is_clean
    assert [act.added for act in told.keywords.history().items] == [["shared"]]
    assert [one.word for one in told.keywords.list().items] == ["shared"]


def test_acts_at_once_on_the_same_images_lose_nothing(told: Services, ids: list[int]) -> None:
    acts = [told.keywords.begin(ids, add=[f"w{number}", "all"], by=f"person {number}") for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda act: told.keywords.go_on(act.id), acts))
    assert {act.state for act in done} == {"done"}
    assert set(words(told, ids[0])) == {"all", *(f"w{number}" for number in range(8))}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda act: told.keywords.go_on(told.keywords.begin_undo(act.id).id), acts[:7]))
    assert [set(words(told, image_id)) for image_id in ids] == [{"w7", "all"}] * 6
    undo(told, acts[7])
    assert words(told, ids[0]) == []


def test_an_act_that_several_processes_carry_out_is_done_once(
    told: Services, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 1)
    act = told.keywords.begin(ids, add=["once"])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: told.keywords.go_on(act.id), range(4)))
    done = told.keywords.act(act.id)
    assert (done.state, done.seen, done.changed) == ("done", 6, 6)

"""Whatever people do and undo, an image has the keywords that it would have without the acts that were undone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from ramq.wiring import Services

pytestmark = pytest.mark.services

WORDS = ("A", "a", "B")


@dataclass
class Act:
    """An act as a person would describe it. ``done``: the images it came to."""

    give: list[str]
    remove: list[str]
    images: list[int]
    only_with: str | None = None
    done: list[int] = field(default_factory=list)
    is_undone: bool = False


def words_of(acts: list[Act], image: int) -> dict[str, str]:
    """Go through all acts from the first to the last, as if those that were undone had never been."""
    has: dict[str, str] = {}
    for act in acts:
        if act.is_undone or image not in act.done:
            continue
        if act.only_with is not None and act.only_with.lower() not in has:
            continue
        for word in act.remove:
            has.pop(word.lower(), None)
        for word in act.give:
            has[word.lower()] = word
    return has


KINDS = (
    "give",
    "give",
    "give",
    "remove",
    "both",
    "rename",
    "rename",
    "remove everywhere",
    "undo",
    "undo",
    "redo",
    "redo",
    "continue",
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(WORDS),
        st.sampled_from(WORDS),
        st.integers(1, 3),
        st.sampled_from(("ann", "ben")),
        st.booleans(),
    ),
    min_size=12,
    max_size=25,
)


def begin(services: Services, step: tuple[str, str, str, int, str, bool], images: list[int], acts: list[Act]) -> int:
    """Begin an act, and note it in the model, too. Return its number."""
    kind, word, other, chosen, who, _ = step
    some = [image for number, image in enumerate(images) if chosen & (1 << number)]
    holding = [image for image in images if word.lower() in words_of(acts, image)]
    same = word.lower() == other.lower()
    if kind == "rename":
        begun = services.keywords.begin_rename(word, other, who)
        acts.append(Act([other], [] if same else [word], holding, only_with=word))
    elif kind == "remove everywhere":
        begun = services.keywords.begin_removal([word], who)
        acts.append(Act([], [word], holding))
    else:
        give = [] if kind == "remove" else [word]
        remove = [word] if kind == "remove" else [other] if kind == "both" and not same else []
        begun = services.keywords.begin(some, add=give, remove=remove, by=who)
        acts.append(Act(give, remove, some))
    return begun.id


def go_on(services: Services, step: tuple[str, str, str, int, str, bool], act: Act, number: int) -> None:
    """Undo, redo or continue an act, if that is possible, and note it in the model, too."""
    kind, *_, who, is_whole = step
    if kind == "undo" and not act.is_undone:
        services.keywords.go_on(services.keywords.begin_undo(number, who).id)
        act.is_undone = True
    elif kind == "redo" and act.is_undone:
        done = services.keywords.go_on(services.keywords.begin_redo(number, who).id)
        assert (done.state, done.seen, done.redone_by) == ("done", done.images, who)
        act.is_undone, act.done = False, act.images
    elif kind not in {"undo", "redo"} and not act.is_undone:
        # Not whole: the next image only.
        act.done = act.images if is_whole else act.images[: len(act.done) + 1]
        services.keywords.go_on(number, seconds=None if is_whole else 0)


def test_undoing_takes_an_act_out_of_the_history_and_redoing_puts_it_back(
    told: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 1)
    images = sorted(hit.image_id for hit in told.search.page(SearchQuery(limit=2)).items)

    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(steps=STEPS)
    def check(steps: list[tuple[str, str, str, int, str, bool]]) -> None:
        with unit_of_work(told.engine) as session:
            session.execute(text("TRUNCATE keyword, keyword_said, keyword_part, keyword_act"))
        acts: list[Act] = []
        numbers: list[int] = []
        for step in steps:
            if step[0] not in {"undo", "redo", "continue"}:
                try:
                    numbers.append(begin(told, step, images, acts))
                except NotFoundError:  # no image has the word that shall be renamed
                    assert not any(step[1].lower() in words_of(acts, image) for image in images)
                    continue
                at = len(acts) - 1
            elif acts:
                at = max(len(acts) - 1 - step[3], 0)
            else:
                continue
            go_on(told, step, acts[at], numbers[at])
            expected = {image: words for image in images if (words := list(words_of(acts, image).values()))}
            assert {image: sorted(words) for image, words in told.keywords.words(images).items()} == {
                image: sorted(words) for image, words in expected.items()
            }

    check()

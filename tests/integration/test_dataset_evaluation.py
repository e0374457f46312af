"""Two generations on the held-out pictures of a data set: before, after, per tag, with pictures that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.dataset_views import BuildRequest
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.results import generations
from storage.results.vocabularies import VocabularySpec
from tests.datasets import MadeUp, work
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

DOG, CAT = range(2)
NAMES = ("dog", "cat", "lawn")


@pytest.fixture
def made_up(engine: Engine) -> MadeUp:
    return MadeUp(engine, NAMES)


@pytest.fixture
def services(made_up: MadeUp, tmp_path: Path) -> Services:
    return Services(settings_for(tmp_path / "data"), made_up.engine, None, is_reachable=False)


def another(services: Services, told: dict[int, Sequence[int]]) -> int:
    """A generation with a vocabulary that has the tags in another order, and a further one."""
    names = ("kitten", *reversed(NAMES))
    with unit_of_work(services.engine) as session:
        generation_id = generations.ensure(
            session,
            generations.GenerationSpec("other", "lite", "0" * 64, "squash", "tags", 16),
            VocabularySpec("other", "own", names, [None] * len(names), [0.5] * len(names)),
        )
        for image_id, tags in told.items():
            ids = sorted(names.index(NAMES[tag]) for tag in tags)
            session.execute(
                text(
                    """INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, captioner, width,
                           height) VALUES (:image, :generation, 1, 'v', :tags, :scores, 'none', 1, 1)"""
                ),
                {"image": image_id, "generation": generation_id, "tags": ids, "scores": [8000] * len(ids)},
            )
    return generation_id


def held_out(services: Services, made_up: MadeUp) -> list[int]:
    """A data set whose labels are those of the first generation: dog, cat in turn. Return its held-out images."""
    images = made_up.add([f"{number}.jpg" for number in range(60)], [[number % 2] for number in range(60)])
    version = work(services, services.datasets.build("pets", BuildRequest(sources=["file:///made-up"], validation=0.5)))
    return [image for image in images if services.datasets.picture(version, image).is_validation]


def test_a_table_says_which_generation_is_right_and_where(services: Services, made_up: MadeUp) -> None:
    images = held_out(services, made_up)
    assert len(images) > 10
    truth = {image: [(image - 1) % 2] for image in images}
    dogs = [image for image, tags in truth.items() if tags == [DOG]]
    cats = [image for image, tags in truth.items() if tags == [CAT]]
    wrong, lost = cats[0], dogs[0]
    other = another(services, truth | {wrong: [DOG, CAT], lost: []})
    found = services.dataset_evaluation.compare("pets", made_up.generation_id, other)
    assert (found.images, found.without_record, found.labels, found.by_people) == (len(images), 0, len(images), 0)
    assert [tag.name for tag in found.tags] == ["dog", "cat"]
    dog, cat = found.tags
    assert (dog.images, dog.before.assigned, dog.before.hits) == (len(dogs), len(dogs), len(dogs))
    assert (dog.after.assigned, dog.after.hits, dog.better, dog.worse) == (len(dogs), len(dogs) - 1, 0, 2)
    assert dog.before.average_precision == 1
    assert dog.after.average_precision is not None
    assert dog.after.average_precision < 1
    told = {(each.image_id, each.is_assigned, each.is_better) for each in dog.examples}
    assert told == {(wrong, True, False), (lost, False, False)}
    assert all(each.uri.startswith("file:///made-up/") for each in dog.examples)
    assert (cat.better, cat.worse, cat.examples) == (0, 0, [])
    assert found.before == 1
    assert found.after == pytest.approx((1 + dog.after.average_precision) / 2)
    back = services.dataset_evaluation.compare("pets", other, made_up.generation_id, limit=1, examples=1)
    assert [(tag.name, tag.better, tag.worse, len(tag.examples)) for tag in back.tags] == [("dog", 2, 0, 1)]


def test_what_people_said_can_be_compared_alone(services: Services, made_up: MadeUp) -> None:
    images = held_out(services, made_up)
    cat, dog, *rest = (image for image in reversed(images))
    services.corrections.tag([cat], add=["lawn"])
    own = NAMES[(dog - 1) % 2]
    services.corrections.tag([dog], remove=[own])
    work(services, services.datasets.correct("pets"))
    other = another(services, {image: [2] if image == cat else [] for image in images})
    found = services.dataset_evaluation.compare("pets", made_up.generation_id, other, by_people=True)
    assert found.labels == found.by_people == 2
    [lawn] = [tag for tag in found.tags if tag.name == "lawn"]
    assert (lawn.images, lawn.before.hits, lawn.after.hits, lawn.better, lawn.worse) == (1, 0, 1, 1, 0)
    [gone] = [tag for tag in found.tags if tag.name == own]
    assert (gone.images, gone.before.assigned, gone.after.assigned, gone.better) == (0, 1, 0, 1)
    assert gone.before.average_precision is None
    assert lawn.after.average_precision is None, "any order of a single picture is right"
    assert (found.before, found.after) == (None, None)
    assert len(rest) > 5


def test_pictures_that_one_generation_lacks_are_left_out_and_said(services: Services, made_up: MadeUp) -> None:
    images = held_out(services, made_up)
    other = another(services, {image: [DOG] for image in images[1:]})
    found = services.dataset_evaluation.compare("pets", made_up.generation_id, other)
    assert (found.images, found.without_record) == (len(images) - 1, 1)
    empty = another(services, {})
    assert empty == other
    with pytest.raises(UsageError, match="with itself"):
        services.dataset_evaluation.compare("pets", other, other)
    with pytest.raises(NotFoundError):
        services.dataset_evaluation.compare("pets", other, 99)
    with pytest.raises(NotFoundError):
        services.dataset_evaluation.compare("birds", 1, other)


def test_nothing_to_compare_is_an_error(services: Services, made_up: MadeUp) -> None:
    held_out(services, made_up)
    other = another(services, {})
    with pytest.raises(UsageError, match="no held-out picture"):
        services.dataset_evaluation.compare("pets", made_up.generation_id, other)

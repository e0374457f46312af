"""Generations side by side, on photographs that a real worker recognised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ram_core.modeling.tiny import write_tiny_models
from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.results import generations
from storage.results.vocabularies import VocabularySpec
from storage.search.views import SearchQuery
from tests.services.recognised import CAT, make_worker, recognise
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

FEWER = 5


def add_generation(services: Services, *, images: int | None = None, fingerprint: str = "another") -> int:
    """A second generation with the first one's results for so many images (None: all), whose cats are mutts."""
    with unit_of_work(services.engine) as session:
        names, names_zh, thresholds = zip(
            *session.execute(text("SELECT name, name_zh, threshold FROM tag WHERE vocabulary_id = 1 ORDER BY id")),
            strict=True,
        )
        generation_id = generations.ensure(
            session,
            generations.GenerationSpec(fingerprint, "lite", "0" * 64, "squash", "tags", 384),
            VocabularySpec(
                fingerprint, "own", ["mutt" if name == CAT else name for name in names], names_zh, thresholds
            ),
        )
        values = {"id": generation_id, "limit": images}
        session.execute(
            text(
                """INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, caption, captioner,
                       width, height)
                   SELECT image_id, :id, job_id, version, tags, scores, caption, captioner, width, height
                   FROM record WHERE generation_id = 1 ORDER BY image_id LIMIT :limit"""
            ),
            values,
        )
        session.execute(
            text(
                """INSERT INTO vector (image_id, generation_id, v)
                   SELECT image_id, :id, v FROM vector WHERE generation_id = 1 ORDER BY image_id LIMIT :limit"""
            ),
            values,
        )
    return generation_id


def count(services: Services, table: str, generation_id: int) -> int:
    with unit_of_work(services.engine) as session:
        statement = text(f"SELECT count(*) FROM {table} WHERE generation_id = :id")
        return int(session.scalar(statement, {"id": generation_id}) or 0)


def serving(services: Services) -> int:
    [state] = [state for state in services.generations.list() if state.is_default]
    return state.id


# Which one serves -----------------------------------------------------------------------------------------------------


def test_the_first_generation_serves_and_a_second_one_does_not(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services)
    first, second = services.generations.list()
    assert (first.is_default, second.is_default, second.id) == (True, False, other)
    assert first.images == second.images == count(services, "record", 1)
    assert not any(state.is_former for state in (first, second))


def test_a_switch_changes_what_search_speaks_of_and_a_rollback_changes_it_back(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services)
    assert client.post(f"/v1/generations/{other}/use").json()["is_default"] is True
    assert [hit["key"] for hit in client.get("/v1/search", params={"tag": "mutt"}).json()["items"]] == ["chelsea.png"]
    assert_problem(client.get("/v1/search", params={"tag": CAT}), 422, "unknown-tag")

    assert client.post("/v1/generations/rollback").json()["id"] == 1
    assert [hit["key"] for hit in client.get("/v1/search", params={"tag": CAT}).json()["items"]] == ["chelsea.png"]
    assert [state.is_former for state in services.generations.list()] == [False, True]
    services.generations.rollback()
    assert serving(services) == other


def test_a_generation_with_fewer_images_serves_only_when_forced(client: TestClient) -> None:
    services = services_of(client)
    all_images = count(services, "record", 1)
    other = add_generation(services, images=FEWER)
    problem = assert_problem(client.post(f"/v1/generations/{other}/use"), 409, "conflict")
    assert f"has recorded {FEWER} images" in problem["detail"]
    assert f"is in use, {all_images}" in problem["detail"]
    assert serving(services) == 1
    assert client.post(f"/v1/generations/{other}/use", json={"force": True}).status_code == 200
    assert serving(services) == other
    # Back to more images, and by a rollback to fewer: that one is not asked.
    services.generations.use(1)
    assert services.generations.rollback().id == other


def test_using_what_serves_already_changes_nothing(client: TestClient) -> None:
    services = services_of(client)
    services.generations.use(1)
    assert serving(services) == 1
    with pytest.raises(ConflictError, match="ramq generations use"):
        services.generations.rollback()


def test_a_generation_that_is_not_there_cannot_serve(client: TestClient) -> None:
    problem = assert_problem(client.post("/v1/generations/99/use"), 404, "not-found")
    assert "generations: 1" in problem["detail"]
    assert_problem(client.post("/v1/generations/99999/use"), 422, "invalid-request")


# Comparing ------------------------------------------------------------------------------------------------------------


def test_a_comparison_tells_what_was_gained_and_lost_and_where(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services)
    [cat] = [hit["image_id"] for hit in client.get("/v1/search", params={"tag": CAT}).json()["items"]]
    found = client.get("/v1/generations/compare", params={"a": 1, "b": other}).json()
    images = count(services, "record", 1)
    assert (found["images_a"], found["images_b"], found["images_both"]) == (images, images, images)
    assert found["images_changed"] == 1
    changes = {change["name"]: change for change in found["tags"]}
    assert (changes["mutt"]["gained"], changes["mutt"]["gained_images"], changes["mutt"]["is_in_a"]) == (
        1,
        [cat],
        False,
    )
    assert (changes[CAT]["lost"], changes[CAT]["lost_images"], changes[CAT]["is_in_b"]) == (1, [cat], False)
    assert all(
        not change["gained"] and not change["lost"] for name, change in changes.items() if name not in {"mutt", CAT}
    )


def test_a_comparison_can_be_narrowed_to_an_archive(client: TestClient, archive: Path) -> None:
    other = add_generation(services_of(client))
    whole = client.get("/v1/generations/compare", params={"a": 1, "b": other}).json()
    same = client.get("/v1/generations/compare", params={"a": 1, "b": other, "archive": str(archive)}).json()
    assert same == whole
    part = client.get("/v1/generations/compare", params={"a": 1, "b": other, "archive": f"{archive}/odd"}).json()
    assert part["images_both"] == 1
    assert_problem(
        client.get("/v1/generations/compare", params={"a": 1, "b": other, "archive": "/nowhere"}), 404, "not-found"
    )


def test_a_generation_is_not_compared_with_itself_or_with_nothing(client: TestClient) -> None:
    services = services_of(client)
    with pytest.raises(UsageError, match="give two generations"):
        services.generations.compare(1, 1)
    with pytest.raises(NotFoundError, match="no generation 7"):
        services.generations.compare(1, 7)


# Dropping -------------------------------------------------------------------------------------------------------------


def test_a_dropped_generation_is_gone_and_the_other_one_is_whole(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services)
    before = count(services, "record", 1)
    report = client.delete(f"/v1/generations/{other}").json()
    assert (report["records"], report["vectors"]) == (before, before)
    assert [state.id for state in services.generations.list()] == [1]
    assert (count(services, "record", other), count(services, "vector", other)) == (0, 0)
    assert count(services, "record", 1) == before
    assert_problem(client.post(f"/v1/generations/{other}/use"), 404, "not-found")
    assert_problem(client.delete(f"/v1/generations/{other}"), 404, "not-found")


def test_the_generation_that_serves_is_not_dropped(client: TestClient) -> None:
    problem = assert_problem(client.delete("/v1/generations/1"), 409, "conflict")
    assert "serves search" in problem["detail"]


def test_a_generation_with_an_open_job_is_not_dropped(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services)
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE job SET generation_id = :id, state = 'paused'"), {"id": other})
    with pytest.raises(ConflictError, match="1 open job"):
        services.generations.drop(other)
    assert count(services, "record", other) > 0


def test_a_generation_that_was_dropped_can_be_made_again_and_is_no_rollback(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services)
    services.generations.use(other)
    services.generations.use(1)
    services.generations.drop(other)
    with pytest.raises(ConflictError, match="before"):
        services.generations.rollback()
    assert add_generation(services, images=FEWER) == other
    again = services.generations.list()[1]
    assert (again.id, again.images, again.is_default, again.is_former) == (other, FEWER, False, False)


def test_a_worker_recognises_again_what_was_dropped_under_it(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    other = add_generation(services)
    services.generations.use(other)
    worker = make_worker(services)
    first = services.jobs.create(str(archive))
    while not services.jobs.get(first.id).is_over:
        worker.work()
    services.generations.drop(1)
    second = services.jobs.create(str(archive))
    while not services.jobs.get(second.id).is_over:
        worker._planner.go_on(lambda: False)  # as the thread beside a started worker does: the model is loaded already
        worker.work()
    worker.leave()
    view = services.jobs.get(second.id)
    assert (view.state, view.done) == ("done", count(services, "record", other))
    assert count(services, "record", 1) == view.done


# Side by side ---------------------------------------------------------------------------------------------------------


def test_a_job_on_a_new_model_runs_while_the_old_one_serves(
    make_client: Callable[..., TestClient], archive: Path, tmp_path: Path
) -> None:
    write_tiny_models("ram_plus", tmp_path)
    services = services_of(make_client(models_dir=tmp_path, captioner="none"))
    before = {hit.image_id: hit.tags for hit in services.search.page(SearchQuery(limit=100)).items}
    job = services.jobs.create(str(archive), model="ram_plus")
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
        during = {hit.image_id: hit.tags for hit in services.search.page(SearchQuery(limit=100)).items}
        assert during == before
    worker.leave()
    assert services.jobs.get(job.id).done == len(before)
    old, new = services.generations.list()
    assert (old.images, new.images, new.model, new.is_default) == (len(before), len(before), "ram_plus", False)
    services.generations.use(new.id)
    after = services.search.page(SearchQuery(limit=100)).items
    assert {hit.image_id for hit in after} == set(before)
    assert any(tag.name.startswith("tag ") for hit in after for tag in hit.tags)
    report = services.generations.drop(old.id)
    assert report.records == len(before)
    assert {hit.image_id for hit in services.search.page(SearchQuery(limit=100)).items} == set(before)


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_shows_generations_and_what_changed(client: TestClient) -> None:
    other = add_generation(services_of(client))
    page = client.get("/generations", params={"a": 1, "b": other, "archive": ""}).text
    assert "From generation 1 to generation 2" in page
    assert CAT in page
    assert 'aria-current="page">Model versions' in page


def test_the_page_switches_asks_before_it_drops_and_says_why_it_refuses(client: TestClient) -> None:
    services = services_of(client)
    other = add_generation(services, images=FEWER)
    refused = client.post(f"/generations/{other}/use")
    assert refused.status_code == 409
    assert f"has recorded {FEWER} images" in refused.text
    assert f"Use generation {other} anyway" in refused.text
    assert client.post(f"/generations/{other}/use", data={"force": "true"}).status_code == 303
    assert serving(services) == other
    assert client.post("/generations/rollback").status_code == 303
    assert serving(services) == 1
    asked = client.post(f"/generations/{other}/drop")
    assert f"erases everything that generation {other} recorded" in asked.text
    assert count(services, "record", other) == FEWER
    assert client.post(f"/generations/{other}/drop", data={"sure": "true"}).status_code == 303
    assert count(services, "record", other) == 0
    assert client.post("/generations/1/drop", data={"sure": "true"}).status_code == 409
    assert client.post("/generations/rollback").status_code == 409


def test_the_page_says_what_cannot_be_compared(client: TestClient) -> None:
    answer = client.get("/generations", params={"a": 1, "b": 1})
    assert answer.status_code == 422
    assert "give two generations" in answer.text


def test_recognising_again_with_the_same_model_makes_no_new_generation(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    assert recognise(services, str(archive)).done == 0
    assert [state.id for state in services.generations.list()] == [1]

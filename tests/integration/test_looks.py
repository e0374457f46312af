"""How images look: the stage ``look`` with the weights of lite, its index, and searches for images like one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.spaces import load_image_encoder
from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.index.garbage import collect_garbage
from storage.results import generations, looks
from storage.search.views import SearchQuery
from tests.services.null_worker import load_null
from tests.services.recognised import make_worker
from workers.pipeline import model_holder
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


@pytest.fixture
def ramq(client: TestClient) -> Services:
    return cast("Services", cast("FastAPI", client.app).state.services)


@pytest.fixture
def worker(ramq: Services) -> Iterator[Worker]:
    folder = ramq.settings.models_path
    holder = ModelHolder(
        ramq.engine,
        ModelOptions("cpu", folder, ramq.settings.cache_path),
        None,
        StageHolder(StageOptions("cpu", folder), ["look"]),
    )
    made = make_worker(ramq, holder)
    yield made
    made.leave()


def work(ramq: Services, worker: Worker, query: SearchQuery | None = None) -> JobView:
    [job] = ramq.stages.start("look", query or SearchQuery())
    while not (now := ramq.jobs.get(job.id)).is_over:
        worker.work()
    return now


def recorded(ramq: Services) -> dict[int, str]:
    return {hit.image_id: hit.key for hit in ramq.search.page(SearchQuery(limit=100)).items}


def generation(ramq: Services) -> int:
    with unit_of_work(ramq.engine) as session:
        found = generations.default(session, looks.STAGE)
        assert found is not None
        return found.id


def alike(ramq: Services, image_id: int, **more: object) -> list[int]:
    return [hit.image_id for hit in ramq.search.page(SearchQuery(like=image_id, limit=100, **more)).items]  # type: ignore[arg-type]


def test_images_are_ordered_by_how_they_look(
    ramq: Services, worker: Worker, client: TestClient, tmp_path: Path
) -> None:
    keys = recorded(ramq)
    first = ramq.images.find("chelsea.png")
    before = alike(ramq, first)
    assert ramq.search.page(SearchQuery(like=first)).space == "text"
    done = work(ramq, worker)
    assert (done.done, done.failed) == (len(keys), 0)
    assert (work(ramq, worker).done, "look" in {event.stage for event in ramq.images.get(first).history}) == (0, True)
    builder = make_builder(ramq.settings, ramq.engine)
    encoder = load_image_encoder("lite")
    [archive] = ramq.archives.names()
    folder = archive.uri.removeprefix("file://")
    pixels = []
    for key in keys.values():
        with Image.open(f"{folder}/{key}") as image:
            pixels.append(encoder.preprocessing(image))
    vectors = dict(zip(keys, encoder.encode(np.stack(pixels)), strict=True))
    order = sorted((i for i in keys if i != first), key=lambda i: -float(vectors[i] @ vectors[first]))
    for publish in (False, True):
        if publish:
            assert builder.publish_new(generation(ramq), force=True) is not None
            assert builder.verify(generation(ramq)) == []
        page = ramq.search.page(SearchQuery(like=first, limit=100))
        found = {hit.image_id: hit.score for hit in page.items}
        assert page.space == "look"
        assert page.total == len(keys) - 1
        for image_id, score in found.items():
            assert score == pytest.approx(float(vectors[image_id] @ vectors[first]), abs=0.03), keys[image_id]
        assert next(iter(found)) == order[0]
    assert alike(ramq, first, space="text") == before
    assert alike(ramq, first) != before
    answer = client.get("/v1/search", params={"like": first, "limit": 3})
    assert answer.json()["space"] == "look"
    assert client.get("/v1/search", params={"like": first, "space": "text"}).json()["space"] == "text"
    assert client.get("/v1/search", params={"like": first, "space": "smell"}).status_code == 422
    named = ramq.search.page(SearchQuery(like=first, tags=("Egyptian cat",))).items
    assert {hit.image_id for hit in named} < set(keys)
    facets = client.get("/v1/tags", params={"like": first}).json()["items"]
    assert facets
    shown = client.get(f"/images/{first}").text
    assert f"/images/{order[0]}" in shown


def test_what_cannot_be_compared_is_told(ramq: Services, worker: Worker) -> None:
    first = ramq.images.find("chelsea.png")
    with pytest.raises(NotFoundError, match="no image has a vector in the space look yet: run `ramq look`"):
        alike(ramq, first, space="look")
    with pytest.raises(UsageError, match="there is no space 'smell': use text, look, siglip, clip or dino"):
        alike(ramq, first, space="smell")
    work(ramq, worker, SearchQuery(prefix="coffee"))
    with pytest.raises(
        NotFoundError, match=f"image {first} has no vector in the space look yet: run `ramq look --model lite`"
    ):
        alike(ramq, first, space="look")
    assert ramq.search.page(SearchQuery(like=first)).space == "text"
    with pytest.raises(UsageError, match="look cannot compare texts; spaces that can: text"):
        ramq.search.page(ramq.search.read(SearchQuery(space="look"), "a cat"))


def test_erasing_an_image_leaves_nothing_of_how_it_looks(ramq: Services, worker: Worker) -> None:
    work(ramq, worker)
    builder = make_builder(ramq.settings, ramq.engine)
    builder.publish_new(generation(ramq), force=True)
    first, other = list(recorded(ramq))[:2]
    report = ramq.erasures.delete([first], by="local")
    assert report.looks == 1
    assert first not in alike(ramq, other)
    for each in ramq.index.generations():
        builder.compact(each, purge=True)
    collect_garbage(ramq.engine, builder.store, grace_seconds=-1)
    assert ramq.erasures.verify(report.deletion_id).is_clean
    dropped = ramq.stages.drop(generation(ramq))
    assert dropped.records == len(recorded(ramq))
    with unit_of_work(ramq.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM look")) == 0
    assert ramq.search.page(SearchQuery(like=other)).space == "text"


def test_one_job_recognises_and_the_next_looks_at_the_same_pictures(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (60 * number, 90, 120)).save(folder / f"{number}.png")
    monkeypatch.setattr(model_holder, "load_model", load_null)
    job = services.jobs.create(str(folder), stages=["look"])
    models = services.settings.models_path
    options = ModelOptions("cpu", models, services.settings.cache_path)
    worker = make_worker(
        services, ModelHolder(services.engine, options, None, StageHolder(StageOptions("cpu", models), ["look"]))
    )
    while not all(one.is_over for one in services.jobs.list().items):
        worker.work()
    worker.leave()
    assert {one.stage: one.done for one in services.jobs.list().items} == {"recognition": 3, "look": 3}
    assert services.jobs.get(job.id).done == 3

"""Spaces of towers: several in one archive, each with its own generation, index and erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.spaces import load_image_encoder
from ram_core.spaces.tiny import write_tiny_tower
from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.index.garbage import collect_garbage
from storage.index.selection import Selection
from storage.results import generations, looks
from storage.results.spaces import SPACES
from storage.search.views import SearchQuery
from tests.services.recognised import make_worker
from workers.pipeline.model_holder import ModelHolder, ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

FURTHER = {"siglip": "siglip2-base", "clip": "clip-vit-base-patch32-laion2b", "dino": "dinov2-base"}


@pytest.fixture
def ramq(client: TestClient) -> Services:
    services = cast("Services", cast("FastAPI", client.app).state.services)
    for tower in FURTHER.values():
        write_tiny_tower(tower, services.settings.models_path)
    return services


@pytest.fixture
def worker(ramq: Services) -> Iterator[Worker]:
    folder = ramq.settings.models_path
    holder = ModelHolder(
        ramq.engine,
        ModelOptions("cpu", folder, ramq.settings.cache_path),
        None,
        StageHolder(StageOptions("cpu", folder), SPACES),
    )
    made = make_worker(ramq, holder)
    yield made
    made.leave()


def work(ramq: Services, worker: Worker, space: str, model: str | None = None) -> JobView:
    [job] = ramq.stages.start(space, SearchQuery(), model=model)
    while not (now := ramq.jobs.get(job.id)).is_over:
        worker.work()
    assert now.failed == 0
    return now


def serving(ramq: Services, space: str) -> int:
    with unit_of_work(ramq.engine) as session:
        found = generations.default(session, space)
        assert found is not None
        return found.id


def stored(ramq: Services, generation_id: int) -> dict[int, bytes]:
    with unit_of_work(ramq.engine) as session:
        rows = session.execute(
            text("SELECT image_id, v FROM look WHERE generation_id = :id ORDER BY 1"), {"id": generation_id}
        )
        return {row.image_id: row.v for row in rows}


def test_each_space_has_its_own_vectors_and_index(ramq: Services, worker: Worker) -> None:
    keys = {hit.image_id: hit.key for hit in ramq.search.page(SearchQuery(limit=100)).items}
    for space in SPACES:
        assert work(ramq, worker, space).done == len(keys)
    assert work(ramq, worker, "dino").done == 0
    own = {space: serving(ramq, space) for space in SPACES}
    assert len(set(own.values())) == len(SPACES)
    assert {one.stage: one.model for one in ramq.stages.generations() if one.stage in own} == {
        "look": "lite",
        **FURTHER,
    }
    [archive] = ramq.archives.names()
    folder = archive.uri.removeprefix("file://")
    builder = make_builder(ramq.settings, ramq.engine)
    for space, model in FURTHER.items():
        encoder = load_image_encoder(model, models_dir=ramq.settings.models_path)
        pixels = []
        for key in keys.values():
            with Image.open(f"{folder}/{key}") as image:
                pixels.append(encoder.preprocessing(image))
        expected = dict(zip(keys, encoder.encode(np.stack(pixels)), strict=True))
        with unit_of_work(ramq.engine) as session:
            for image_id, vector in expected.items():
                found = looks.vector_of(session, own[space], image_id)
                assert found is not None
                assert float(found @ vector) > 0.99
        assert builder.publish_new(own[space], force=True) is not None
        assert builder.verify(own[space]) == []
        with unit_of_work(ramq.engine) as session:
            view = ramq.index.reader().view(session, own[space])
            assert Selection.of(view, None).ids().tolist() == sorted(keys)


def test_one_model_may_serve_two_spaces(ramq: Services, worker: Worker) -> None:
    work(ramq, worker, "dino")
    work(ramq, worker, "look", FURTHER["dino"])
    assert stored(ramq, serving(ramq, "dino")) == stored(ramq, serving(ramq, "look"))
    assert serving(ramq, "dino") != serving(ramq, "look")


def test_erasing_reaches_every_space(ramq: Services, worker: Worker) -> None:
    for space in ("look", "siglip"):
        work(ramq, worker, space)
    builder = make_builder(ramq.settings, ramq.engine)
    for space in ("look", "siglip"):
        builder.publish_new(serving(ramq, space), force=True)
    images = list(stored(ramq, serving(ramq, "siglip")))
    report = ramq.erasures.delete(images[:1], by="local")
    assert report.looks == 2
    for space in ("look", "siglip"):
        assert list(stored(ramq, serving(ramq, space))) == images[1:]
    assert not ramq.erasures.verify(report.deletion_id).is_clean
    for each in ramq.index.generations():
        builder.compact(each, purge=True)
    collect_garbage(ramq.engine, builder.store, grace_seconds=-1)
    assert ramq.erasures.verify(report.deletion_id).is_clean


def test_dropping_a_generation_leaves_the_other_spaces(ramq: Services, worker: Worker) -> None:
    for space in ("look", "siglip"):
        work(ramq, worker, space)
    kept = stored(ramq, serving(ramq, "look"))
    assert ramq.stages.drop(serving(ramq, "siglip")).records == len(kept)
    assert stored(ramq, serving(ramq, "look")) == kept
    with unit_of_work(ramq.engine) as session:
        assert generations.default(session, "siglip") is None
        assert session.scalar(text("SELECT count(*) FROM look")) == len(kept)


def test_a_space_takes_a_folder_with_a_tower_of_its_kind(ramq: Services, worker: Worker) -> None:
    write_tiny_tower("dinov3-base", ramq.settings.models_path)
    work(ramq, worker, "dino", "dinov3-base")
    assert {one.model for one in ramq.stages.generations() if one.stage == "dino"} == {"dinov3-base"}
    for wrong in ("siglip2-base", "lite", "../lite", ""):
        with pytest.raises(UsageError, match=r"unknown model .* of dino; choose one of dinov2-base"):
            ramq.stages.estimate("dino", SearchQuery(), model=wrong or ".")

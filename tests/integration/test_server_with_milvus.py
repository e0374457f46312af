"""The web application where the index is in Milvus."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.results import generations, looks
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from storage.results.records import Provenance
from storage.search.views import SearchQuery
from tests.vector_archive import SIZE, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services


def test_everybody_who_asks_for_likeness_is_answered_from_milvus(
    make_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = make_client(index_url=(tmp_path / "milvus.db").as_uri().replace("file:", "milvus+file:"))
    services = cast("Services", cast("FastAPI", client.app).state.services)
    images = sorted(hit.image_id for hit in services.search.page(SearchQuery(limit=100)).items)
    vectors = unit_vectors(len(images), np.random.default_rng(3))
    with unit_of_work(services.engine) as session:
        recognised = generations.default(session)
        assert recognised is not None
        own = generations.ensure_of_stage(session, StageSpec("look", "look", "lite", "", "", "look", SIZE))
        rows = [looks.LookRow(i, "1", packed) for i, packed in zip(images, pack_vectors(vectors), strict=True)]
        looks.write_looks(session, rows, Provenance(1, own, "none"))
    builder = make_builder(services.settings, services.engine)
    for generation_id in (recognised.id, own):
        builder.publish_new(generation_id, force=True)

    nearest = [images[place] for place in np.argsort(-(vectors @ vectors[2])).tolist()]
    answer = client.get("/v1/search", params={"like": images[2], "limit": 4}).json()
    assert answer["space"] == "look"
    assert [item["image_id"] for item in answer["items"]] == nearest[1:5]
    counted = {status.stage: (status.vectors_indexed, status.delta) for status in services.index.status()}
    assert counted == {"recognition": (len(images), 0), "look": (len(images), 0)}

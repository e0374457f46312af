"""The vectors of regions where the index of images is in Milvus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.database import unit_of_work
from storage.index import selection
from storage.results import generations, regions
from storage.results.crops import CropsRow, FoundCrop, write_crops
from storage.results.generations import StageSpec
from storage.results.packing import pack_vectors
from storage.results.records import Provenance
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search.views import SearchQuery
from tests.vector_archive import unit_vectors

if TYPE_CHECKING:
    from storage.index.milvus.builder import MilvusBuilder
    from storage.index.milvus.reader import MilvusIndex
    from storage.search.search import Search
    from tests.archive_model import ArchiveModel

pytestmark = pytest.mark.services


def test_vectors_of_regions_are_in_files_beside_it(
    archive: ArchiveModel,
    builder: MilvusBuilder,
    index: MilvusIndex,
    search: Search,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = sorted(archive.facts)
    archive.record(0, images)
    vectors = unit_vectors(len(images), np.random.default_rng(1))
    with unit_of_work(archive.engine) as session:
        located = generations.ensure_of_stage(session, StageSpec("locate", "boxes", "boxes", "", ""))
        spec = StageSpec("crops", "crops", "lite", "", "", "tags", vectors.shape[1])
        cropped = generations.ensure_of_stage(session, spec)
        box = (0.1, 0.1, 0.5, 0.5)
        rows = [RegionsRow(image_id, "1", [FoundRegion("dog", 0.9, box)], is_cut=False) for image_id in images]
        regions.write_regions(session, rows, Provenance(1, located, "none"))
        packed = pack_vectors(vectors)
        made = [
            CropsRow(image_id, "1", None, [FoundCrop("dog", box, v, [], [])])
            for image_id, v in zip(images, packed, strict=True)
        ]
        write_crops(session, made, Provenance(1, cropped, "none"))
    for generation_id in (archive.generations[0], cropped):
        builder.publish_new(generation_id, force=True)
        builder.compact(generation_id)
    assert f"generation-{cropped}" in builder.store.place.names("")
    with unit_of_work(archive.engine) as session:
        status = index.status(session, cropped)
        assert (status.stage, status.segments, status.vectors_indexed) == ("crops", 1, len(images))
        nearest = np.argsort(-(vectors @ vectors[3]))
        page = search.page(session, SearchQuery(like_region=(images[3], 1)))
        assert [hit.image_id for hit in page.items] == [images[place] for place in nearest[:20].tolist()]
        narrowed = search.page(session, SearchQuery(like_region=(images[3], 1), archive=str(archive.archives[0].id)))
        found = {hit.image_id for hit in search.page(session, SearchQuery(archive=str(archive.archives[0].id))).items}
        assert {hit.image_id for hit in narrowed.items} == found
        monkeypatch.setattr(selection, "MOST_LISTED", 0)  # then the images of the nearest regions are tested instead
        tested = search.page(session, SearchQuery(like_region=(images[3], 1), archive=str(archive.archives[0].id)))
        assert tested == narrowed
        monkeypatch.setattr(selection, "MOST_TESTED", 30)
        tested = search.page(session, SearchQuery(like_region=(images[3], 1), archive=str(archive.archives[0].id)))
        near = {images[place] for place in nearest[:30].tolist()}
        assert [hit for hit in narrowed.items if hit.image_id in near] == tested.items
        assert tested.total is None
    assert builder.verify(cropped) == []
    builder.rebuild(cropped)
    assert builder.verify(cropped) == []
    assert builder.collect_garbage() == 0

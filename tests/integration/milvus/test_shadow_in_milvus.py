"""A shadow in Milvus, beside an index of segments and beside another one in the same Milvus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from storage.database import unit_of_work
from storage.index.erasure_check import in_shadow
from storage.index.file_storage import FolderStorage
from storage.index.milvus.builder import MilvusBuilder
from storage.index.milvus.reader import INDEX, SHADOW, MilvusIndex, collections_of
from storage.index.pointers import ShadowPointers
from storage.results import vectors as repository
from tests.search_checks import check

if TYPE_CHECKING:
    from pathlib import Path

    from storage.index.milvus.client import Milvus
    from storage.search.search import Search
    from tests.archive_model import ArchiveModel

pytestmark = pytest.mark.services


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "shadow")


@pytest.fixture
def shadow_builder(milvus: Milvus, archive: ArchiveModel, place: FolderStorage, tmp_path: Path) -> MilvusBuilder:
    pointers = ShadowPointers(place)
    cache = tmp_path / "shadow-cache"
    return MilvusBuilder(milvus, archive.engine, place, cache, min_rows=1, family=SHADOW, pointers=pointers)


@pytest.fixture
def shadow(milvus: Milvus, place: FolderStorage, tmp_path: Path) -> MilvusIndex:
    pointers = ShadowPointers(place, for_searches=True)
    return MilvusIndex(milvus, place, tmp_path / "shadow-reader", family=SHADOW, pointers=pointers)


def test_index_and_shadow_in_one_database_of_milvus_do_not_touch_each_other(
    archive: ArchiveModel,
    builder: MilvusBuilder,
    search: Search,
    shadow_builder: MilvusBuilder,
    shadow: MilvusIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = search.over(lambda: shadow)
    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts)[:40])
    builder.publish_new(generation_id, force=True)
    shadow_builder.publish_new(generation_id, force=True)
    archive.record(0, sorted(archive.facts)[40:])
    archive.delete(sorted(archive.facts)[:3])
    archive.correct(archive.some(archive.facts, 0.2))
    for each in (search, other):
        check(archive, each, 0)
    shadow_builder.publish_new(generation_id, force=True)
    shadow_builder.rebuild(generation_id)
    monkeypatch.setattr("storage.index.milvus.builder.GRACE_SECONDS", -1.0)
    assert builder.collect_garbage() == 0
    assert shadow_builder.collect_garbage() == 1, "only the collection of the shadow that was replaced"
    with unit_of_work(archive.engine) as session:
        identifier = repository.system_identifier(session)
    assert [list(collections_of(builder.milvus, identifier, family).values()) for family in (INDEX, SHADOW)] == [
        [(generation_id, 1)],
        [(generation_id, 2)],
    ]
    for each in (search, other):
        check(archive, each, 0)
    assert builder.verify(generation_id) == shadow_builder.verify(generation_id) == []


def test_deleted_images_are_looked_for_in_every_collection_of_the_shadow(
    archive: ArchiveModel, shadow_builder: MilvusBuilder, shadow: MilvusIndex
) -> None:
    generation_id = archive.generations[0]
    archive.record(0, sorted(archive.facts))
    shadow_builder.publish_new(generation_id, force=True)
    shadow_builder.rebuild(generation_id)  # the first collection stays for a while
    victims = np.array(sorted(archive.facts)[:3])
    archive.delete(victims.tolist())

    def left() -> list[int]:
        with unit_of_work(archive.engine) as session:
            return [trace.left for trace in in_shadow(session, shadow, victims)]

    assert left() == [3, 3]
    shadow_builder.compact(generation_id, purge=True)
    assert sorted(left()) == [0, 3]

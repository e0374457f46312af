"""Facets of archives and folders are the same with an index in Milvus as with one in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from storage.database import unit_of_work
from storage.index.file_storage import FolderStorage
from storage.index.index import Base, VectorIndex
from storage.search import file_facets
from storage.search.search import Search
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from pathlib import Path

    from storage.index.milvus.builder import MilvusBuilder
    from storage.index.milvus.reader import MilvusIndex
    from storage.search.views import FileFacet
    from tests.archive_model import ArchiveModel

pytestmark = pytest.mark.services


class Unpublished(VectorIndex):
    """All rows are newer than what is published."""

    def _base(self, *_: Any) -> Base:
        return Base()


def places(archive: ArchiveModel, search: Search, query: SearchQuery) -> tuple[list[FileFacet], list[FileFacet]]:
    with unit_of_work(archive.engine) as session:
        found = search.file_facets(session, query, 20)
    return found.archives, found.folders


def test_archives_and_folders_are_counted_as_by_an_index_in_files(
    archive: ArchiveModel, builder: MilvusBuilder, index: MilvusIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sorted(archive.facts)
    archive.record(0, ids[:30])
    builder.publish_new(archive.generations[0], force=True)
    archive.record(0, ids[30:])  # newer than what is published
    elsewhere = Search(lambda: index)
    plain = Unpublished(FolderStorage(tmp_path / "none"), tmp_path / "cache")
    here = Search(lambda: plain)
    queries = [SearchQuery(), SearchQuery(tags=("dog",)), SearchQuery(archive="1"), SearchQuery(prefix="a/")]
    for query in queries:
        found = places(archive, elsewhere, query)
        assert found == places(archive, here, query)
    assert places(archive, elsewhere, SearchQuery())[0]
    assert any(places(archive, elsewhere, query)[1] for query in queries)
    monkeypatch.setattr(file_facets, "MOST_REMOTE", 3)
    assert places(archive, elsewhere, SearchQuery()) == ([], [])

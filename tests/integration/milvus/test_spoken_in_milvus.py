"""A search by text over an index in Milvus agrees with what people said of the tags that the text names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.search.search import Search
from tests.spoken_checks import check_texts

if TYPE_CHECKING:
    from storage.index.milvus.builder import MilvusBuilder
    from storage.index.milvus.reader import MilvusIndex
    from tests.archive_model import ArchiveModel

pytestmark = pytest.mark.services


def test_texts_find_what_their_description_says(
    archive: ArchiveModel, builder: MilvusBuilder, index: MilvusIndex
) -> None:
    archive.record(0, list(archive.facts))
    for step in range(6):
        archive.correct(archive.some(archive.facts, 0.2))
        if step == 3:
            builder.publish_new(archive.generations[0], force=True)
    assert check_texts(archive, Search(lambda: index)) > 0

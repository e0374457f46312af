"""The reader of an index in Milvus. Published rows are in Milvus, newer rows come from PostgreSQL.

PostgreSQL says which collection is published, as it says which manifest is. The name of a collection contains this
number and the database's identifier, since transaction ids mean nothing in another database. So a collection is visible
as a whole or not at all, and nothing in Milvus has to be switched. Rows that a builder has written but not published
are newer than the watermark: PostgreSQL serves them, and the collection's rows of these images are ignored.

Indexes whose rows are not images but parts of them (``RowSource.rows_each``) are in files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from storage.index.index import Base, VectorIndex
from storage.index.milvus.collection import Collection
from storage.results import generations
from storage.results import vectors as repository
from storage.results.generation_views import IndexView
from storage.results.index_rows import source_of
from storage.results.vectors import Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.file_storage import FileStorage
    from storage.index.milvus.client import Milvus
    from storage.index.pointers import Pointers
    from storage.results.vectors import Head

INDEX, SHADOW = "ramq", "ramq_shadow"
"""How the names of collections begin, of the index and of a shadow of it. Both may be in one database of Milvus."""


def collection_name(system_identifier: str, generation_id: int, number: int, family: str = INDEX) -> str:
    """Return the name of a generation's collection."""
    return f"{family}_{system_identifier}_{generation_id}_{number}"


def collections_of(milvus: Milvus, system_identifier: str, family: str = INDEX) -> dict[str, tuple[int, int]]:
    """Return (generation, number) of each collection of a database, by name."""
    pattern = re.compile(rf"{family}_(\d+)_(\d+)_(\d+)")
    matches = {name: pattern.fullmatch(name) for name in milvus.collections()}
    return {
        name: (int(match[2]), int(match[3]))
        for name, match in matches.items()
        if match and match[1] == system_identifier
    }


class MilvusIndex(VectorIndex):
    """Searches the images of any generation. One per process; thread-safe.

    Args:
        milvus: the connection.
        place: storage of the index's other files.
        cache_dir: a local folder.
        family: ``INDEX`` or ``SHADOW``.
        pointers: see ``VectorIndex``.
        max_rows_bytes: see ``VectorIndex``.
    """

    def __init__(
        self,
        milvus: Milvus,
        place: FileStorage,
        cache_dir: Path,
        *,
        family: str = INDEX,
        pointers: Pointers = repository,
        max_rows_bytes: int | None = None,
    ) -> None:
        super().__init__(place, cache_dir, pointers=pointers, max_rows_bytes=max_rows_bytes)
        self.milvus = milvus
        self.family = family

    def check(self) -> None:
        """See ``VectorIndex``: Milvus answers, and is new enough."""
        super().check()
        self.milvus.check()

    def status(self, session: Session, generation_id: int) -> IndexView:
        """Compare the published index with the database. Raises ``NotFoundError``."""
        source = source_of(session, generation_id)
        if source.rows_each > 1:
            return super().status(session, generation_id)
        generation = generations.get(session, generation_id, stage=None)
        head = self.pointers.head(session, generation_id)
        base = self._base(session, generation_id, head, np.empty(0, dtype=np.int32))
        newest = Window(generation_id, base.watermark)
        ids = source.ids(session, newest)
        indexed = kept = 0
        if base.remote is not None:
            indexed = len(base.remote.select(None))
            kept = len(base.remote.without(np.union1d(ids, source.erased(session, newest))).select(None))
        return IndexView(
            generation_id=generation_id,
            stage=generation.stage,
            model=generation.model,
            manifest=head.pointer.manifest or None,
            segments=0 if base.remote is None else 1,
            listed_segments=0,
            lowest_recall=None,
            vectors_indexed=indexed,
            vectors_stored=kept + len(ids),
            delta=len(ids),
            bytes=0,
            published_at=head.pointer.published_at,
        )

    def count_of(self, name: str, image_ids: NDArray[np.int64]) -> int:
        """Return how many of these images a collection has."""
        self.milvus.load(name)
        nothing = np.empty(0, dtype=np.int64)
        return Collection(self.milvus, name, nothing.astype(np.int32), nothing).count_of(image_ids)

    def _base(self, session: Session, generation_id: int, head: Head, units: NDArray[np.int32]) -> Base:
        pointer = head.pointer
        if pointer.manifest == 0:
            return Base()
        if source_of(session, generation_id).rows_each > 1:
            return super()._base(session, generation_id, head, units)
        identifier = repository.system_identifier(session)
        name = collection_name(identifier, generation_id, pointer.manifest, self.family)
        if not self.milvus.has(name):
            return Base(damaged=(f"Milvus has no collection {name}",))
        self.milvus.load(name)
        return Base(pointer.watermark, remote=Collection(self.milvus, name, units, np.empty(0, dtype=np.int64)))

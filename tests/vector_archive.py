"""A made-up archive of vectors: what it should hold, in plain dictionaries, beside what the database and index hold."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from storage.database import unit_of_work
from storage.index.bitmaps import bitmap_of
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.index.selection import Selection
from storage.results import partitions
from storage.results import vectors as repository
from storage.results.packing import pack_vectors
from storage.results.spaces import TEXT
from storage.search.compared import Compared
from storage.tables import Archive, Generation, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


SIZE = 24

IMAGES = text(
    """
    INSERT INTO image (archive_id, key, version, size)
    SELECT :archive_id, n, '1', 1 FROM generate_series(0, :images - 1) AS n ORDER BY n
    """
)
"""One statement: two thousand objects of SQLAlchemy take longer than most of the tests."""

WRITE = text(
    """
    INSERT INTO vector (image_id, generation_id, v)
    SELECT image_id, :generation_id, v FROM unnest((:ids)::bigint[], (:packed)::bytea[]) AS new (image_id, v)
    ORDER BY image_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET v = excluded.v, xid = pg_current_xact_id()
    """
)


def unit_vectors(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ``count`` random unit vectors, rounded as the database rounds them."""
    vectors = rng.standard_normal((count, SIZE))
    rounded = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    return rounded.astype(np.float32)


def add_generation(engine: Engine, fingerprint: str = "made up") -> int:
    """Register a generation whose vectors have ``SIZE`` numbers."""
    with unit_of_work(engine) as session:
        vocabulary = Vocabulary(sha256=fingerprint, name="made up", size=0)
        session.add(vocabulary)
        session.flush()
        generation = Generation(
            fingerprint=fingerprint,
            model="lite",
            weights_sha256="",
            preprocessing="",
            vector_kind="",
            vector_size=SIZE,
            vocabulary_id=vocabulary.id,
        )
        session.add(generation)
        session.flush()
        partitions.ensure(session, generation.id)
        return generation.id


def write(session: Session, generation_id: int, ids: Iterable[int], vectors: NDArray[np.float32]) -> None:
    """Write vectors as the workers do."""
    session.execute(
        WRITE, {"generation_id": generation_id, "ids": [int(n) for n in ids], "packed": pack_vectors(vectors)}
    )


def a_fresh_index(tmp_path: Path) -> VectorIndex:
    """A reader beside the fixture ``index`` that has fetched nothing as yet."""
    return VectorIndex(FolderStorage(tmp_path / "index"), tmp_path / "another-cache")


def published(archive: VectorArchive) -> int:
    """Return the number of the manifest that searches read."""
    with unit_of_work(archive.engine) as session:
        return repository.head(session, archive.generation_id).pointer.manifest


class VectorArchive:
    """Images with vectors of one generation; every change is made in the database and in ``held``."""

    def __init__(self, engine: Engine, images: int = 2000, seed: int = 0) -> None:
        self.engine = engine
        self.rng = np.random.default_rng(seed)
        self.generation_id = add_generation(engine)
        self.held: dict[int, NDArray[np.float32]] = {}
        with unit_of_work(engine) as session:
            archive = Archive(uri="file:///made-up")
            session.add(archive)
            session.flush()
            session.execute(IMAGES, {"archive_id": archive.id, "images": images})
            self.images = list(session.execute(text("SELECT id FROM image ORDER BY id")).scalars())

    def under_another_generation(self) -> VectorArchive:
        """Return the same images as another generation sees them: without vectors as yet."""
        other = copy(self)
        other.generation_id, other.held = add_generation(self.engine, "another"), {}
        return other

    def write(self, ids: Sequence[int]) -> None:
        """Give these images new vectors, in one transaction."""
        vectors = unit_vectors(len(ids), self.rng)
        with unit_of_work(self.engine) as session:
            write(session, self.generation_id, ids, vectors)
        self.held.update(zip(ids, vectors, strict=True))

    def erase(self, ids: Sequence[int]) -> None:
        """Delete the vectors of these images."""
        with unit_of_work(self.engine) as session:
            repository.erase(session, ids)
        for image_id in ids:
            self.held.pop(image_id, None)

    def expected(self, query: NDArray[np.float32], k: int, allowed: Sequence[int] | None = None) -> list[int]:
        """Return what a search must find, by looking at every vector."""
        ids = np.array([n for n in self.held if allowed is None or n in set(allowed)], dtype=np.int64)
        if len(ids) == 0:
            return []
        scores = np.stack([self.held[int(n)] for n in ids]) @ query
        best: list[int] = ids[np.lexsort((ids, -scores))[:k]].tolist()
        return best

    def found(
        self, index: VectorIndex, query: NDArray[np.float32], k: int, allowed: Sequence[int] | None = None
    ) -> list[int]:
        """Return what the index finds."""
        with unit_of_work(self.engine) as session:
            ids, scores = nearest(index, session, self.generation_id, query, k, allowed)
        assert np.all(np.diff(scores) <= 0)
        found: list[int] = ids.tolist()
        return found

    def check(self, index: VectorIndex, queries: int = 3) -> None:
        """Compare searches with and without filters, near vectors held and near none, with brute force."""
        held = list(self.held)
        for _ in range(queries):
            query = unit_vectors(1, self.rng)[0]
            if held and self.rng.random() < 0.5:
                query = self.held[int(self.rng.choice(held))]
            query = query / np.linalg.norm(query)
            k = int(self.rng.choice([1, 10, 5000]))
            allowed = self.rng.choice(self.images, size=int(self.rng.integers(0, 300))).tolist()
            assert self.found(index, query, k) == self.expected(query, k)
            assert self.found(index, query, k, allowed) == self.expected(query, k, allowed)


def nearest(
    index: VectorIndex,
    session: Session,
    generation_id: int,
    query: NDArray[np.float32],
    k: int,
    allowed: Sequence[int] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return up to ``k`` (image ids, cosines) that the session's transaction finds, among the ``allowed`` images."""
    selection = Selection.of(index.view(session, generation_id), None)
    if allowed is not None:
        ids = np.unique(np.array(allowed, dtype=np.int64))
        chosen = tuple((part, bitmap_of(part.rows_of(ids).astype(np.uint32))) for part, _ in selection.parts)
        selection = replace(selection, parts=chosen, is_narrowed=True)
    return selection.nearest(query, k)


def as_text(vector: NDArray[np.float32] | None, names: NDArray[np.float32] | None = None) -> list[Compared]:
    """A search's text, of which only the vector is known; None: it has no text."""
    return [] if vector is None else [Compared(TEXT, "text", vector, names=names)]

"""What tests of data sets share: the work of workers in this process, and made-up recognised images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from storage.database import unit_of_work
from storage.index.feature_files import FeatureFiles
from storage.index.file_storage import open_storage
from storage.results import partitions
from storage.results.packing import pack_vectors
from storage.tables import Archive, Generation, Vocabulary
from workers.datasets.builder import DatasetBuilder
from workers.datasets.phase import Tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ramq.wiring import Services
    from storage.datasets.versions import VersionView


def worker_of(services: Services, owner: str = "one") -> DatasetBuilder:
    """What a worker does for data sets, to be called by the test."""
    storage = open_storage(services.settings.index_location)
    return DatasetBuilder(owner, Tools(services.engine, FeatureFiles(storage)))


def work(services: Services, version: VersionView) -> VersionView:
    """Do all tasks of a version, and return it."""
    worker = worker_of(services)
    while worker.step(lambda: False):
        pass
    return services.datasets.get(version.id)


class MadeUp:
    """An archive of images that no model has seen: records are written as they are wanted.

    Args:
        engine: an empty database.
        names: of the tags; each is assigned above a score of 0.5.
        size: of the vectors.
    """

    def __init__(self, engine: Engine, names: Sequence[str], size: int = 16) -> None:
        self.engine, self.size = engine, size
        with unit_of_work(engine) as session:
            vocabulary = Vocabulary(sha256="made up", name="made up", size=len(names))
            archive = Archive(uri="file:///made-up")
            session.add_all([vocabulary, archive])
            session.flush()
            session.execute(
                text(
                    """INSERT INTO tag (vocabulary_id, id, name, threshold)
                       SELECT :id, n - 1, name, 0.5
                       FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS t (name, n)"""
                ),
                {"id": vocabulary.id, "names": list(names)},
            )
            generation = Generation(
                fingerprint="made up",
                model="lite",
                weights_sha256="",
                preprocessing="",
                vector_kind="",
                vector_size=size,
                vocabulary_id=vocabulary.id,
                is_default=True,
            )
            session.add(generation)
            session.flush()
            partitions.ensure(session, generation.id)
            self.vocabulary_id, self.archive_id, self.generation_id = vocabulary.id, archive.id, generation.id

    def add(
        self,
        keys: Sequence[str],
        tags: Sequence[Sequence[int]],
        *,
        vectors: NDArray[np.float32] | None = None,
        contents: Sequence[bytes] | None = None,
        captions: Sequence[str | None] | None = None,
    ) -> list[int]:
        """Add images with records, and return their ids.

        Args:
            keys: their keys.
            tags: the ids of the tags of each, ascending.
            vectors: (N, size) unit vectors; by default random ones.
            contents: the SHA-256 of each; by default all differ.
            captions: written by a model.
        """
        if vectors is None:
            vectors = np.random.default_rng(len(keys)).standard_normal((len(keys), self.size)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with unit_of_work(self.engine) as session:
            ids = list(
                session.scalars(
                    text(
                        """INSERT INTO image (archive_id, key, version, size)
                           SELECT :archive_id, key, 'v', 1
                           FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS k (key, n)
                           ORDER BY n RETURNING id"""
                    ),
                    {"archive_id": self.archive_id, "keys": list(keys)},
                )
            )
            session.execute(
                text(
                    """
                    INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, caption, captioner,
                        width, height, sha256)
                    SELECT id, :generation_id, 1, 'v', CAST(tags AS smallint[]),
                        array_fill(9000::smallint, ARRAY[cardinality(CAST(tags AS smallint[]))]), caption, 'tag2text',
                        1, 1, sha256
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:tags AS text[]), CAST(:captions AS text[]),
                        CAST(:contents AS bytea[])) AS r (id, tags, caption, sha256)
                    """
                ),
                {
                    "generation_id": self.generation_id,
                    "ids": ids,
                    "tags": [f"{{{','.join(map(str, each))}}}" for each in tags],
                    "captions": list(captions or [None] * len(ids)),
                    "contents": list(contents or [b"%032d" % image_id for image_id in ids]),
                },
            )
            session.execute(
                text(
                    """INSERT INTO vector (image_id, generation_id, v)
                       SELECT id, :generation_id, v
                       FROM unnest(CAST(:ids AS bigint[]), CAST(:packed AS bytea[])) AS r (id, v)"""
                ),
                {"generation_id": self.generation_id, "ids": ids, "packed": pack_vectors(vectors)},
            )
        return ids

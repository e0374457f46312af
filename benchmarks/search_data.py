"""Made-up recognised images in any number, the same for the same number, and how they get into the database fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.database import driver_connection, unit_of_work
from storage.results import generations
from storage.results.generations import GenerationSpec
from storage.results.packing import pack_vectors
from storage.results.records import Provenance, RecordRow
from storage.results.vocabularies import VocabularySpec
from storage.tables import Archive, Job

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Engine

WIDTH, TAGS, TAGS_EACH = 512, 4585, 12
CHUNK = 20_000
DAYS = 10_000
"""Images are spread evenly over so many days before ``NEWEST``: a day is a ten-thousandth of them."""

NEWEST = np.datetime64("2026-01-01", "us")
_CLUSTERS, _LATENT = 5_000, 64
_POSTGRES_EPOCH = np.datetime64("2000-01-01", "us")
_KEY_BYTES = len("12/345/000012345678.jpg")
_ARRAY = np.dtype([("dimensions", ">i4"), ("flags", ">i4"), ("type", ">i4"), ("length", ">i4"), ("from", ">i4")])
_SMALLINT = 21  # its number in pg_type


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some images, numbered from ``first``.

    Attributes:
        vectors: (N, D) unit vectors, float16.
        tags: (N, TAGS_EACH) ascending.
        scores: (N, TAGS_EACH) in units of 1 / 10,000.
        days: (N,) before ``NEWEST``.
        archives: (N,) ids of the archives; None: all are in archive 1.
        folders: (N,) 0 to 96, with which the keys begin; None: by the ids.
    """

    first: int
    vectors: NDArray[np.float16]
    tags: NDArray[np.int16]
    scores: NDArray[np.int16]
    days: NDArray[np.int64]
    archives: NDArray[np.int32] | None = None
    folders: NDArray[np.int64] | None = None

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) ids of images."""
        return np.arange(self.first, self.first + len(self.vectors))

    @property
    def first_folders(self) -> list[int]:
        """N numbers with which the keys begin."""
        found: list[int] = (self.ids % 97 if self.folders is None else self.folders).tolist()
        return found


class Maker:
    """Makes images whose vectors lie in clusters of very different sizes, and whose tags are as uneven as words.

    The clusters are in a space of 64 dimensions, with noise in all of the vector's and a mean that is not zero, as
    trained encoders have it: neighbours are neither obvious nor arbitrary.

    Args:
        width: numbers in a vector.
    """

    def __init__(self, width: int = WIDTH) -> None:
        rng = np.random.default_rng(0)
        self._basis = rng.standard_normal((_LATENT, width)).astype(np.float32) / np.float32(np.sqrt(_LATENT))
        self._centres = rng.standard_normal((_CLUSTERS, _LATENT)).astype(np.float32)
        self._share = _zipf(_CLUSTERS, 0.7)
        self._tag_share = _zipf(TAGS - TAGS_EACH, 1.0)

    def chunk(self, number: int, count: int = CHUNK) -> Chunk:
        """Return the images of a chunk; ids are counted from 1."""
        rng = np.random.default_rng([1, number])
        tags = np.sort(rng.choice(TAGS - TAGS_EACH, (count, TAGS_EACH), p=self._tag_share), axis=1)
        steps = np.arange(TAGS_EACH)
        tags = np.maximum.accumulate(tags - steps, axis=1) + steps  # what came twice becomes its neighbour
        return Chunk(
            first=1 + number * CHUNK,
            vectors=self._vectors(rng, count).astype(np.float16),
            tags=tags.astype(np.int16),
            scores=rng.integers(5_000, 10_000, (count, TAGS_EACH)).astype(np.int16),
            days=rng.integers(0, DAYS, count),
        )

    def queries(self, count: int) -> NDArray[np.float32]:
        """Return unit vectors (``count``, D): half like held-out images, half as far from all as texts are."""
        rng = np.random.default_rng(2)
        queries = self._vectors(rng, count)
        noise = rng.standard_normal(queries.shape).astype(np.float32)
        queries[1::2] += (noise / np.linalg.norm(noise, axis=1, keepdims=True))[1::2]
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        return queries

    def _vectors(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        latent = self._centres[rng.choice(_CLUSTERS, count, p=self._share)]
        latent = latent + 0.7 * rng.standard_normal(latent.shape, dtype=np.float32)
        noise = 0.3 * rng.standard_normal((count, self._basis.shape[1]), dtype=np.float32)
        vectors = latent @ self._basis + noise + np.float32(0.5)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def prepare(engine: Engine, uri: str = "s3://made-up/", width: int = WIDTH) -> Provenance:
    """Register a generation of ``TAGS`` tags with vectors of ``width``, an archive at ``uri`` and its job."""
    names = [f"tag {number}" for number in range(TAGS)]
    vocabulary = VocabularySpec("made up", "made up", names, [None] * TAGS, [0.68] * TAGS)
    with unit_of_work(engine) as session:
        generation_id = generations.ensure(session, GenerationSpec("made up", "lite", "", "", "", width), vocabulary)
        archive = Archive(uri=uri)
        session.add(archive)
        session.flush()
        job = Job(
            archive_id=archive.id,
            source=archive.uri,
            prefix="",
            model="lite",
            captioner="none",
            priority=0,
            state="done",
        )
        session.add(job)
        session.flush()
        return Provenance(job.id, generation_id, "none")


def load(engine: Engine, chunk: Chunk, provenance: Provenance, *, with_records: bool = True) -> None:
    """Store the images of a chunk, and what was recognised in them unless that is not wanted."""
    ids = chunk.ids
    written = (NEWEST - chunk.days * np.timedelta64(1, "D") - _POSTGRES_EPOCH).astype(np.int64)
    keys = np.array(
        [f"{first:02}/{n % 997:03}/{n:012}.jpg" for first, n in zip(chunk.first_folders, ids.tolist(), strict=True)],
        dtype=f"S{_KEY_BYTES}",
    )
    archives = 1 if chunk.archives is None else chunk.archives
    images = {
        "id": (">i8", ids), "archive_id": (">i4", archives), "key": (f"S{_KEY_BYTES}", keys), "version": ("S1", b"1"),
        "size": (">i8", 200_000 + ids % 3_000_000), "modified_at": (">i8", written),
    }  # fmt: skip
    owned = {"image_id": (">i8", ids), "generation_id": (">i2", provenance.generation_id)}
    records = owned | {
        "job_id": (">i8", provenance.job_id), "version": ("S1", b"1"), "tags": _array_of(chunk.tags),
        "scores": _array_of(chunk.scores), "captioner": ("S4", b"none"), "width": (">i4", 640), "height": (">i4", 480),
    }  # fmt: skip
    packed = f"V{2 * chunk.vectors.shape[1]}"
    vectors = owned | {"v": (packed, chunk.vectors.view(packed)[:, 0])}
    with unit_of_work(engine) as session:
        tables: list[tuple[str, dict[str, Any]]] = [("image", images)]
        if with_records:
            tables += [("record", records), ("vector", vectors)]
        for table, columns in tables:
            with driver_connection(session).cursor() as cursor:
                names = ", ".join(columns)
                with cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT binary)") as copy:
                    copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
                    copy.write(_rows(columns, len(ids)))
                    copy.write(b"\xff\xff")


def record_rows(chunk: Chunk) -> list[RecordRow]:
    """Return what a worker would write of a chunk."""
    packed = pack_vectors(chunk.vectors.astype(np.float32))
    return [
        RecordRow(image_id, "1", tags, scores, None, 640, 480, vector)
        for image_id, tags, scores, vector in zip(
            chunk.ids.tolist(), chunk.tags.tolist(), chunk.scores.tolist(), packed, strict=True
        )
    ]


def _zipf(count: int, power: float) -> NDArray[np.float64]:
    share = 1 / np.arange(1, count + 1) ** power
    found: NDArray[np.float64] = share / share.sum()
    return found


def _array_of(numbers: NDArray[np.int16]) -> tuple[np.dtype[np.void], NDArray[np.void]]:
    """Return (N, K) numbers as N of Postgres' arrays: their dtype and themselves."""
    width = numbers.shape[1]
    element = np.dtype([("bytes", ">i4"), ("value", ">i2")])
    kind = np.dtype([("header", _ARRAY), ("elements", element, (width,))])
    arrays = np.zeros(len(numbers), dtype=kind)
    arrays["header"] = np.array((1, 0, _SMALLINT, width, 1), dtype=_ARRAY)
    arrays["elements"]["bytes"], arrays["elements"]["value"] = 2, numbers
    return kind, arrays


def _rows(columns: dict[str, tuple[Any, Any]], count: int) -> bytes:
    """Return rows in COPY's binary format; every column is of one width, behind which each value stands."""
    kinds = [(name, np.dtype(kind)) for name, (kind, _) in columns.items()]
    fields: list[tuple[str, Any]] = [("columns", ">i2")]
    for name, kind in kinds:
        fields += [(f"{name} bytes", ">i4"), (name, kind)]
    rows = np.zeros(count, dtype=np.dtype(fields))
    rows["columns"] = len(kinds)
    for name, kind in kinds:
        rows[f"{name} bytes"], rows[name] = kind.itemsize, columns[name][1]
    return rows.tobytes()

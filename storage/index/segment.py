"""A segment: an immutable FAISS index of some vectors and the image ids that belong to its rows.

FAISS checks nothing: it loads files with flipped bytes, maps files that are cut short, and reports success on a full
disk. So every file has its length and SHA-256 in ``segment.json``, whose own hash is the segment's name; and FAISS
never opens a file for writing, it hands its bytes to Python, which does notice.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import file_digest, sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from storage.index.manifest import FORMAT, DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

# Its type hints are those of the C++ classes, not of the Python layer that replaces their constructors.
faiss: Any = _faiss

EXACT = "SQfp16"
"""FAISS' factory string of the exact index: the vectors are float16 already, so nothing is lost and half is saved."""

INDEX_FILE = "vectors.faiss"
IDS_FILE = "ids.npy"
DESCRIPTION_FILE = "segment.json"

SELF_QUERIES = 10
"""Rows of a new segment that must find themselves before it is published."""


@dataclass(frozen=True, slots=True)
class Segment:
    """An opened segment. Safe to search from several threads.

    Attributes:
        ids: (N,) int64, ascending: the image of each row.
        index: a FAISS index of N rows, inner product.
    """

    ids: NDArray[np.int64]
    index: Any

    def rows_of(self, image_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of those of the images that are here. ``image_ids`` is ascending and without doubles."""
        if len(self.ids) == 0:
            return np.empty(0, dtype=np.intp)
        rows = np.searchsorted(self.ids, image_ids)
        rows[rows == len(self.ids)] = 0
        found: NDArray[np.intp] = rows[self.ids[rows] == image_ids]
        return found

    def search(
        self, query: NDArray[np.float32], k: int, selected: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, inner products), best first.

        Args:
            query: (D,).
            k: at least 1.
            selected: one bit per row, lowest first (``numpy.packbits(…, bitorder="little")``); None: all rows.
        """
        k = min(k, len(self.ids))
        if k == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        parameters = None
        if selected is not None:
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(selected))
        scores, rows = self.index.search(query[np.newaxis], k, params=parameters)
        found = rows[0] >= 0  # FAISS fills up with -1
        return self.ids[rows[0][found]], scores[0][found]


def build(chunks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]], vector_size: int) -> Segment:
    """Return an exact segment, in memory, of rows that come in ascending order of image id."""
    index = faiss.index_factory(vector_size, EXACT, faiss.METRIC_INNER_PRODUCT)
    ids = [np.empty(0, dtype=np.int64)]
    for chunk_ids, vectors in chunks:
        ids.append(chunk_ids)
        index.add(np.ascontiguousarray(vectors))
    return Segment(np.concatenate(ids), index)


def write(segment: Segment, folder: Path, *, generation_id: int, lo: int, hi: int) -> str:
    """Write a segment's files into an empty folder, durably, and check what can be read back.

    Returns:
        The segment's name.

    Raises:
        DamagedError: what was read back is not what was written.
        OSError: no space, no permission.
    """
    files = {
        IDS_FILE: _write_file(folder / IDS_FILE, lambda write: write(_npy(segment.ids))),
        INDEX_FILE: _write_file(
            folder / INDEX_FILE, lambda write: faiss.write_index(segment.index, faiss.PyCallbackIOWriter(write))
        ),
    }
    description = {
        "format": FORMAT,
        "generation_id": generation_id,
        "rows": len(segment.ids),
        "vector_size": segment.index.d,
        "index": EXACT,
        "metric": "inner_product",
        "lo": lo,
        "hi": hi,
        "faiss": faiss.__version__,
        "files": files,
    }
    data = json.dumps(description, sort_keys=True, indent=1).encode()
    _write_file(folder / DESCRIPTION_FILE, lambda write: write(data))
    sync_folder(folder)
    name = f"segment-{sha256(data).hexdigest()}"
    check_files(folder, name)
    _check_answers(open_segment(folder, name))
    return name


def check_files(folder: Path, name: str) -> None:
    """Compare length and SHA-256 of every file with what the name promises. Raises ``DamagedError``."""
    for file, facts in described(folder, name)["files"].items():
        path = folder / file
        try:
            if path.stat().st_size != facts["bytes"]:
                raise DamagedError(f"{path} has {path.stat().st_size} bytes, not {facts['bytes']}")
            with path.open("rb") as stream:
                found = file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
        if found != facts["sha256"]:
            raise DamagedError(f"{path} was changed: its SHA-256 is wrong")


def described(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of ``segment.json``. Raises ``DamagedError``."""
    path = folder / DESCRIPTION_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    if name != f"segment-{sha256(data).hexdigest()}":
        raise DamagedError(f"{path} was changed: its SHA-256 is not in the segment's name")
    description: dict[str, Any] = json.loads(data)
    if description["format"] != FORMAT:
        raise DamagedError(f"{path} was written by another version of ramq")
    return description


def open_segment(folder: Path, name: str) -> Segment:
    """Map a segment whose files have been checked. Raises ``DamagedError``."""
    description = described(folder, name)
    try:
        ids = np.load(folder / IDS_FILE, mmap_mode="r", allow_pickle=False)
        index = faiss.read_index(str(folder / INDEX_FILE), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, ValueError, RuntimeError) as error:
        raise DamagedError(f"{folder} cannot be opened: {error}") from error
    shape = (index.ntotal, index.d, len(ids))
    if shape != (description["rows"], description["vector_size"], description["rows"]):
        raise DamagedError(f"{folder} holds {shape}, not what it says")
    return Segment(ids, index)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _npy(ids: NDArray[np.int64]) -> bytes:
    stream = BytesIO()
    np.save(stream, ids, allow_pickle=False)
    return stream.getvalue()


def _write_file(path: Path, produce: Callable[[Callable[[bytes], None]], None]) -> dict[str, Any]:
    """Write what ``produce`` hands over, durably; return the length and hash of what it handed over."""
    digest = sha256()
    length = 0

    def write(data: bytes) -> None:
        nonlocal length
        digest.update(data)
        length += len(data)
        stream.write(data)

    with path.open("xb") as stream:
        produce(write)
        stream.flush()
        os.fsync(stream.fileno())
    return {"bytes": length, "sha256": digest.hexdigest()}


def _check_answers(segment: Segment) -> None:
    """Let a sample of rows look for themselves: an index can be intact and still give wrong answers."""
    total = len(segment.ids)
    for row in np.unique(np.linspace(0, total - 1, num=min(SELF_QUERIES, total), dtype=np.int64)):
        vector = segment.index.reconstruct(int(row))
        selected = np.packbits(np.arange(total) == row, bitorder="little")
        ids, scores = segment.search(vector, 1, None)
        own_ids, own_scores = segment.search(vector, 1, selected)
        # Equal pictures have equal vectors, so another image may come first, but none may be missed for a worse one.
        is_found = own_ids.tolist() == [segment.ids[row]] and abs(own_scores[0] - vector @ vector) < 1e-3
        if not is_found or len(ids) == 0 or scores[0] < own_scores[0] - 1e-4:
            raise DamagedError(f"image {segment.ids[row]} does not find itself in a new segment")

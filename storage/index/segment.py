"""A segment: an immutable part on disk, with columns and vectors of images in ascending order of image id.

FAISS checks nothing. It loads files with flipped bytes, maps truncated files, and reports success on a full disk.
Therefore every file has its length and SHA-256 in ``segment.json``, whose own hash is the segment's name. FAISS also
never writes a file: it passes the bytes to Python, which does notice errors.
"""

from __future__ import annotations

import json
import os
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.index.bitmaps import bitmap_of
from storage.index.column_file import map_columns, write_columns
from storage.index.manifest import FORMAT, DamagedError
from storage.index.part import Part
from storage.index.vectors import EXACT, Vectors, faiss, open_vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLUMNS_FILE = "columns.bin"
DESCRIPTION_FILE = "segment.json"

SELF_QUERIES = 10
"""Number of rows of a new segment that must find themselves before it is published."""

SELF_MISSES = 2
"""This many of them may be missed by a search by lists, which is not exact. A scan may miss none."""


def write(part: Part, folder: Path, *, generation_id: int, lo: int, hi: int) -> str:
    """Write a part's files durably into an empty folder, and check them by reading them back.

    Returns:
        The segment's name.

    Raises:
        DamagedError: the files read back differ from what was written.
        OSError: no space, no permission.
    """
    layout: dict[str, Any] = {}
    files = {
        COLUMNS_FILE: _write_file(folder / COLUMNS_FILE, lambda write: layout.update(write_columns(part.rows, write))),
        **{file: _write_file(folder / file, produce) for file, produce in part.vectors.files().items()},
    }
    description = {
        "format": FORMAT,
        "generation_id": generation_id,
        "rows": len(part.rows),
        "archives": {str(archive_id): count for archive_id, count in part.archive_counts().items()},
        "vector_size": part.vectors.vector_size,
        "index": EXACT,
        "coarse": part.vectors.facts(),
        "metric": "inner_product",
        "lo": lo,
        "hi": hi,
        "faiss": faiss.__version__,
        "columns": layout,
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
    """Compare length and SHA-256 of every file with the segment's name. Raises ``DamagedError``."""
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
        raise DamagedError(f"{path} was changed: its SHA-256 does not match the segment's name")
    description: dict[str, Any] = json.loads(data)
    if description["format"] != FORMAT:
        raise DamagedError(f"{path} was written by another version of ramq")
    return description


def open_segment(folder: Path, name: str) -> Part:
    """Map a segment whose files have been checked. Reads almost nothing. Raises ``DamagedError``."""
    description = described(folder, name)
    try:
        rows = map_columns(folder / COLUMNS_FILE, description["columns"])
        vectors = open_vectors(folder, description["coarse"])
    except (OSError, ValueError, RuntimeError) as error:
        raise DamagedError(f"{folder} cannot be opened: {error}") from error
    shape = (len(vectors), vectors.vector_size, len(rows))
    if shape != (description["rows"], description["vector_size"], description["rows"]):
        raise DamagedError(f"{folder} has {shape}, which contradicts its description")
    archives = {int(archive_id): count for archive_id, count in description["archives"].items()}
    return Part(rows, vectors, archives=archives)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_file(path: Path, produce: Callable[[Callable[[bytes], None]], None]) -> dict[str, Any]:
    """Write durably what ``produce`` passes on. Return its length and hash."""
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


def _check_answers(part: Part) -> None:
    """Search for a sample of rows: an index can be intact and still give wrong answers."""
    total = len(part.rows)
    scanned = Part(part.rows, Vectors(part.vectors.exact))
    missed = 0
    for row in np.unique(np.linspace(0, total - 1, num=min(SELF_QUERIES, total), dtype=np.int64)).tolist():
        vector = part.vector(row)
        own_rows, own_scores = scanned.nearest(vector, 1, bitmap_of(np.array([row], dtype=np.uint32)))
        _, scores = scanned.nearest(vector, 1)
        # Equal images have equal vectors, so another image may come first. But none may be missed for a worse one.
        is_found = own_rows.tolist() == [row] and abs(own_scores[0] - vector @ vector) < 1e-3
        if not is_found or len(scores) == 0 or scores[0] < own_scores[0] - 1e-4:
            raise DamagedError(f"image {part.rows.ids[row]} was not found by its own vector in a new segment")
        missed += bool(part.nearest(vector, 1)[1][0] < own_scores[0] - 1e-4)
    if missed > SELF_MISSES:
        raise DamagedError(f"{missed} of {SELF_QUERIES} images were not found by the lists of a new segment")

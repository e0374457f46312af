"""Published segments of made-up images, written without a database: what ``bench_cold`` searches.

The first segment is built as every other is. The further ones take over its lists and its tuning, since their images
come from the same distribution, and put each row into its list by its largest dimensions only. Building all of them in
the usual way would take most of an hour on two cores.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.search_data import CHUNK, NEWEST, TAGS, TAGS_EACH, WIDTH, Chunk, Maker
from storage.index.ann import with_lists
from storage.index.columns import columns, joined
from storage.index.part import Part
from storage.index.segment import described, open_segment, write
from storage.index.vectors import COARSE_FILE, ROWS_AT_ONCE, Tuning, Vectors, add_codes, exact_index, faiss
from storage.results.projection import RawRows, offsets_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIN_DIMENSIONS = 72
"""Somewhat more than the made-up images vary in, beyond noise."""

_ASSIGNED_UNITS = 6_800


def made(folder: Path, rows: int, each: int, width: int, distinct: int) -> Iterator[Path]:
    """Yield the folders of segments of ``each`` images, ``rows`` in all. One that is there is not made again.

    The first ``distinct`` are made. The others are copies of them in files of their own, of which nothing is in memory
    because another was read.
    """
    maker = Maker(width)
    known: list[Path] = []
    for number, start in enumerate(range(0, rows, each)):
        wanted = folder / f"{width}-{each}-{number}"
        found = list(wanted.glob("segment-*"))
        if not found and number >= distinct:
            shutil.rmtree(wanted, ignore_errors=True)
            copied = wanted / known[number % distinct].name
            found = [shutil.copytree(known[number % distinct], copied, copy_function=_copied)]
        elif not found:
            shutil.rmtree(wanted, ignore_errors=True)
            staged = wanted / "staged"
            staged.mkdir(parents=True)
            part = _part(maker, start, min(each, rows - start), known[0] if known else None)
            name = write(part, staged, generation_id=1, lo=number, hi=number + 1)
            found = [staged.rename(wanted / name)]
        known.append(found[0])
        yield found[0]


def _copied(source: str, target: str) -> None:
    """Copy a file and flush it: only what is on disk can be dropped from memory."""
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def opened(folder: Path) -> Part:
    """Open a segment that ``made`` made."""
    return open_segment(folder, folder.name)


def _part(maker: Maker, first: int, count: int, like: Path | None) -> Part:
    raw, exact = [], exact_index(WIDTH)
    for start in range(first, first + count, CHUNK):
        chunk = maker.chunk(start // CHUNK, min(CHUNK, first + count - start))
        if start == first:
            exact = exact_index(chunk.vectors.shape[1])
        raw.append(_raw(chunk))
        add_codes(exact, chunk.vectors)
    rows = columns(joined(raw), np.full(TAGS, _ASSIGNED_UNITS, dtype=np.int32), with_bitmaps=True)
    return Part(rows, with_lists(Vectors(exact)) if like is None else _listed_like(exact, like))


def _listed_like(exact: Any, like: Path) -> Vectors:
    """Return the vectors in the lists of another segment."""
    coarse = faiss.read_index(str(like / COARSE_FILE))
    coarse.reset()
    rotation, lists = coarse.chain.at(0), faiss.downcast_index(faiss.extract_index_ivf(coarse))
    centroids = faiss.downcast_index(lists.quantizer).reconstruct_n(0, lists.nlist)
    main = np.ascontiguousarray(np.linalg.svd(centroids, full_matrices=False)[2][:MAIN_DIMENSIONS].T)
    short = faiss.IndexFlatIP(MAIN_DIMENSIONS)
    short.add(np.ascontiguousarray(centroids @ main))
    for start in range(0, exact.ntotal, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, exact.ntotal - start)
        rotated = rotation.apply(exact.reconstruct_n(start, count))
        nearest = np.ascontiguousarray(short.search(np.ascontiguousarray(rotated @ main), 1)[1][:, 0])
        lists.add_core(count, faiss.swig_ptr(rotated), None, faiss.swig_ptr(nearest))
    coarse.ntotal = lists.ntotal
    return Vectors(exact, coarse, Tuning(**described(like, like.name)["coarse"]))


def _raw(chunk: Chunk) -> RawRows:
    count = len(chunk.ids)
    keys = [f"{n % 97:02}/{n % 997:03}/{n:012}.jpg".encode() for n in chunk.ids.tolist()]
    return RawRows(
        ids=chunk.ids,
        archives=np.ones(count, dtype=np.int32),
        jobs=np.ones(count, dtype=np.int64),
        modified=(NEWEST - chunk.days * np.timedelta64(1, "D")).astype(np.int64),
        sizes=200_000 + chunk.ids % 3_000_000,
        key_offsets=offsets_of(np.array([len(key) for key in keys])),
        key_bytes=np.frombuffer(b"".join(keys), dtype=np.uint8),
        tag_offsets=offsets_of(np.full(count, TAGS_EACH)),
        tags=chunk.tags.ravel(),
        scores=chunk.scores.ravel(),
    )

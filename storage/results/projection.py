"""The rows of an index, with all that a search needs of each, read by COPY. ``index_rows`` says from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.database import with_settings
from storage.errors import FatalError
from storage.results.packing import CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.vectors import Window

ROWS_PER_CHUNK = 20_000
"""Rows held in memory at a time when many are read."""

# From the chapter on COPY in PostgreSQL's manual: signature, flags and length of the extension; the end mark.
_HEADER_BYTES = 19
_TRAILER_BYTES = 2

# PostgreSQL's format of an array: dimensions, flags, element type. If it is not empty: length, lower bound, and the
# elements, each after its own length.
_ARRAY_HEADER_BYTES = 20
_ELEMENT_BYTES = 6

_EPOCH_MICROSECONDS = 946_684_800_000_000
"""From 1970 to 2000, where PostgreSQL's timestamps begin."""


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows as read, one chunk at a time: like ``Rows``, but in plain arrays without indexes.

    Attributes:
        ids, archives, jobs, modified, sizes: as in ``Rows``.
        key_offsets: (N + 1,): the key of row n is ``key_bytes[key_offsets[n] : key_offsets[n + 1]]``.
        key_bytes: UTF-8.
        tag_offsets: (N + 1,): the tags of row n are ``tags[tag_offsets[n] : tag_offsets[n + 1]]``, ascending.
        tags, scores: (M,).
    """

    ids: NDArray[np.int64]
    archives: NDArray[np.int32]
    jobs: NDArray[np.int64]
    modified: NDArray[np.int64]
    sizes: NDArray[np.int64]
    key_offsets: NDArray[np.int64]
    key_bytes: NDArray[np.uint8]
    tag_offsets: NDArray[np.int64]
    tags: NDArray[np.int16]
    scores: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp]) -> RawRows:
        """Return some of the rows, in the order of ``rows``."""
        key_offsets, key_places = taken(self.key_offsets, rows)
        tag_offsets, tag_places = taken(self.tag_offsets, rows)
        return RawRows(
            self.ids[rows],
            self.archives[rows],
            self.jobs[rows],
            self.modified[rows],
            self.sizes[rows],
            key_offsets,
            self.key_bytes[key_places],
            tag_offsets,
            self.tags[tag_places],
            self.scores[tag_places],
        )


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return where items of these lengths (N,) begin and end if they follow each other, (N + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def taken(offsets: NDArray[np.int64], rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of these rows when concatenated, and the positions to take their content from."""
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = offsets_of(lengths)
    places = np.arange(ends[-1], dtype=np.int64) + np.repeat(starts - ends[:-1], lengths)
    return ends, places


def rows(
    session: Session, query: str, window: Window, size: int, named: Callable[[int], str]
) -> Iterator[tuple[RawRows, NDArray[np.float16]]]:
    """Yield the rows of a window in ascending order of their ids, at most ``ROWS_PER_CHUNK`` at a time.

    Args:
        session: busy until the iterator ends.
        query: selects them: id, archive, job, modified, size, vector, key, tags, scores. Fields of constant length come
            first. PostgreSQL sends '-infinity' as the lowest number: ``rows.NO_DATE``.
        window: which rows.
        size: length of a vector.
        named: names a row by its id, for people.

    Yields:
        The rows, and their vectors as (N, ``size``).

    Raises:
        FatalError: a stored vector does not have ``size`` numbers.
    """
    head = _head(size)
    heads: list[bytes] = []
    tails: list[bytes] = []
    header = _HEADER_BYTES
    # A window has at most some million rows, whose ids are close to each other. Where there are many more, a join by
    # hashing reads all images and records, and writes most of them to temporary files.
    with (
        with_settings(session, enable_hashjoin="off", enable_mergejoin="off") as connection,
        connection.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)", window.values) as copy,  # of ``index_rows``
    ):
        for data in copy:  # the protocol sends one message per row; the header comes with the first
            row = memoryview(data)[header:]
            header = 0
            if len(row) <= _TRAILER_BYTES:
                continue
            if len(row) < head.itemsize:
                raise _wrong_size(window, size, named(int.from_bytes(row[6:14], "big")))
            heads.append(bytes(row[: head.itemsize]))
            tails.append(bytes(row[head.itemsize :]))
            if len(heads) == ROWS_PER_CHUNK:
                yield _decoded(heads, tails, head, window, named)
                heads, tails = [], []
    if heads:
        yield _decoded(heads, tails, head, window, named)


def _head(size: int) -> np.dtype[np.void]:
    """Return the layout of the front of a row. Each field follows its length."""
    fields: list[Any] = [("fields", ">i2")]
    for name, kind in [("id", ">i8"), ("archive", ">i4"), ("job", ">i8"), ("modified", ">i8"), ("size", ">i8")]:
        fields += [(f"{name}_bytes", ">i4"), (name, kind)]
    return np.dtype([*fields, ("vector_bytes", ">i4"), ("vector", CODE, (size,))])


def _decoded(
    heads: Sequence[bytes],
    tails: Sequence[bytes],
    head: np.dtype[np.void],
    window: Window,
    named: Callable[[int], str],
) -> tuple[RawRows, NDArray[np.float16]]:
    table = np.frombuffer(b"".join(heads), dtype=head)
    size = head["vector"].shape[0]
    wrong = np.flatnonzero(table["vector_bytes"] != size * CODE.itemsize)
    if len(wrong):
        raise _wrong_size(window, size, named(int(table["id"][wrong[0]])))
    data = np.frombuffer(b"".join(tails), dtype=np.uint8)
    key_starts = _starts(np.fromiter(map(len, tails), np.int64, count=len(tails))) + 4
    key_bytes = _numbers(data, key_starts - 4, ">i4")
    tag_starts = key_starts + key_bytes + 4
    tag_bytes = _numbers(data, tag_starts - 4, ">i4")
    counts = np.maximum(tag_bytes - _ARRAY_HEADER_BYTES, 0) // _ELEMENT_BYTES
    score_starts = tag_starts + tag_bytes + 4
    uneven = np.flatnonzero(_numbers(data, score_starts - 4, ">i4") != tag_bytes)
    if len(uneven):
        raise FatalError(
            f"{named(int(table['id'][uneven[0]]))} has more tags than scores, or fewer: delete the image with "
            "`ramq delete` and recognise it again"
        )
    modified = table["modified"].astype(np.int64)
    raw = RawRows(
        ids=table["id"].astype(np.int64),
        archives=table["archive"].astype(np.int32),
        jobs=table["job"].astype(np.int64),
        modified=np.where(modified == np.iinfo(np.int64).min, modified, modified + _EPOCH_MICROSECONDS),
        sizes=table["size"].astype(np.int64),
        key_offsets=offsets_of(key_bytes),
        key_bytes=data[_places(key_starts, key_bytes, 1)],
        tag_offsets=offsets_of(counts),
        tags=_elements(data, tag_starts, counts),
        scores=_elements(data, score_starts, counts),
    )
    return raw, table["vector"].astype(np.float16)


def _elements(data: NDArray[np.uint8], starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return the numbers of arrays that begin at ``starts``, one array after the other."""
    places = _places(starts + _ARRAY_HEADER_BYTES + 4, counts, _ELEMENT_BYTES)
    return _numbers(data, places, ">i2").astype(np.int16)


def _numbers(data: NDArray[np.uint8], places: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
    """Return the numbers at ``places``."""
    width = np.dtype(kind).itemsize
    found = data[places[:, np.newaxis] + np.arange(width)]
    numbers: NDArray[np.int64] = found.reshape(-1).view(kind).astype(np.int64)
    return numbers


def _places(starts: NDArray[np.int64], counts: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return ``counts[n]`` positions from each of ``starts``, ``step`` apart."""
    within = np.arange(counts.sum(), dtype=np.int64) - np.repeat(_starts(counts), counts)
    places: NDArray[np.int64] = np.repeat(starts, counts) + step * within
    return places


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(lengths) - lengths


def _wrong_size(window: Window, size: int, name: str) -> FatalError:
    return FatalError(
        f"the stored vector of {name} in generation {window.generation_id} does not have {size} numbers: "
        "delete the image with `ramq delete` and recognise it again"
    )

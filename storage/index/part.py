"""A part of the index: rows with all columns that a search needs, and which of the rows are live."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

from storage.index.bitmaps import bitmap_of, rows_in
from storage.index.columns import columns, joined, raw_rows
from storage.index.evaluate import ranges
from storage.index.vectors import Vectors, add_codes, build_vectors, exact_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from storage.index.rows import Rows
    from storage.results.projection import RawRows


@dataclass(frozen=True, slots=True)
class Part:
    """Rows and their vectors, immutable: a published segment, or newer rows in memory. Thread-safe.

    Attributes:
        rows: the columns.
        vectors: row by row.
        live: the live rows, neither replaced by a newer part nor erased; None: all of them. Must not be changed.
        archives: number of rows per archive, dead ones included; None: not counted.
    """

    rows: Rows
    vectors: Vectors
    live: BitMap | None = None
    archives: Mapping[int, int] | None = None

    @property
    def live_count(self) -> int:
        """Number of live rows."""
        return len(self.rows) if self.live is None else len(self.live)

    def rows_of(self, image_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of those images that are in this part. ``image_ids`` is ascending, without duplicates."""
        ids = self.rows.ids
        if len(ids) == 0:
            return np.empty(0, dtype=np.intp)
        rows = np.searchsorted(ids, image_ids)
        rows[rows == len(ids)] = 0
        found: NDArray[np.intp] = rows[ids[rows] == image_ids]
        return found

    def rows_of_images(self, image_ids: NDArray[np.int64], rows_each: int) -> NDArray[np.intp]:
        """Return the rows of images (ids, ascending) in an index in which an image has up to ``rows_each`` rows."""
        if rows_each == 1:
            return self.rows_of(image_ids)
        return ranges(self.rows.ids, image_ids, rows_each)

    def without(self, image_ids: NDArray[np.int64]) -> Part:
        """Return the part without these images (ascending ids)."""
        gone = self.rows_of(image_ids)
        if len(gone) == 0:
            return self
        live = BitMap(range(len(self.rows))) if self.live is None else self.live
        return replace(self, live=live - bitmap_of(gone.astype(np.uint32)))

    def archive_counts(self) -> Counter[int]:
        """Return the number of live rows per archive."""
        if self.archives is None:
            return _counted(self.rows.archives if self.live is None else self.rows.archives[rows_in(self.live)])
        counts = Counter(self.archives)
        if self.live is not None:
            dead = BitMap(range(len(self.rows))) - self.live
            counts.subtract(_counted(self.rows.archives[rows_in(dead)]))
        return counts

    def nearest(
        self, query: NDArray[np.float32], k: int, selected: BitMap | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (rows, inner products), best first, of the live rows that are ``selected`` (None: all).

        Args:
            query: (D,) of length 1.
            k: at least 1.
            selected: rows to choose from.
        """
        return self.vectors.search(query, k, self.live_among(selected))

    def live_among(self, selected: BitMap | None) -> BitMap | None:
        """Return the live rows that are ``selected`` (None: all), as a bitmap that must not be changed; None: all."""
        if selected is None or self.live is None:
            return self.live if selected is None else selected
        return selected & self.live

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the vector of a row as (D,)."""
        return self.vectors.vector(row)


def _counted(archives: NDArray[np.int32]) -> Counter[int]:
    ids, counts = np.unique(archives, return_counts=True)
    return Counter(dict(zip(ids.tolist(), counts.tolist(), strict=True)))


def build_part(
    chunks: Iterable[tuple[RawRows, NDArray[np.float16]]],
    vector_size: int,
    assigned_units: NDArray[np.int32],
    *,
    with_bitmaps: bool = False,
) -> Part:
    """Return a part, in memory, of rows and vectors (N, ``vector_size``) in ascending order of image id.

    Args:
        chunks: the rows.
        vector_size: D.
        assigned_units: (T,) the threshold of each tag of the vocabulary, in score units.
        with_bitmaps: whether it is for a file, see ``columns``.
    """
    raw, exact = [], exact_index(vector_size)
    for chunk, vectors in chunks:
        raw.append(chunk)
        add_codes(exact, vectors)
    return Part(columns(joined(raw), assigned_units, with_bitmaps=with_bitmaps), Vectors(exact))


def merge(parts: Sequence[Part]) -> Part:
    """Return one part, in memory, of the live rows of several. No two of them may have the same image."""
    chosen = [np.arange(len(part.rows)) if part.live is None else rows_in(part.live).astype(np.intp) for part in parts]
    raw = joined([raw_rows(part.rows).take(rows) for part, rows in zip(parts, chosen, strict=True)])
    codes = np.concatenate([part.vectors.codes(rows) for part, rows in zip(parts, chosen, strict=True)])
    order = np.argsort(raw.ids)
    units = parts[-1].rows.tags.assigned_units
    return Part(columns(raw.take(order), units, with_bitmaps=False), build_vectors(codes[order]))

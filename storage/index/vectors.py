"""The vectors of a part: find the rows nearest to a query. Knows rows only by number.

Every part has its vectors as float16, in the order of its rows. FAISS can scan them exactly, one after the other. A
small part needs no more. A large part also has a *coarse* index of about 90 bytes per vector (see ``ann``): lists of
neighbours (IVF) with one bit per dimension (RaBitQ). A search takes candidates from the lists nearest to the query, and
scores them again with the float16 vectors. So scores are exact, whichever way a row was found.

Sources: IVF, FAISS (arXiv 2401.08281, section 5.1); RaBitQ (arXiv 2405.12497).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from storage.index.bitmaps import bitmap_of, packed, rows_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pyroaring import BitMap

# Its type hints describe the C++ classes, not the Python layer that replaces their constructors.
faiss: Any = _faiss

EXACT = "SQfp16"
"""FAISS' factory string of the exact index. The vectors are float16 already, so it is lossless at half the size."""

EXACT_FILE = "vectors.faiss"
COARSE_FILE = "nearest.faiss"

ROWS_AT_ONCE = 20_000
"""Number of rows converted to float32 at a time while an index is built."""

TUNED_K = 10
"""The effort of a search is tuned for this many hits."""

DEPTH_POWER = 0.7
"""For ``n * TUNED_K`` hits, lists and candidates grow by ``n`` to this power, which keeps the recall."""

SCANNED_PER_CANDIDATE = 30
"""Scanning this many rows takes as long as finding one candidate by lists and scoring it."""

GATHERED_ROWS = 10_000
"""A selection of up to this many rows is scored row by row: exact, and no slower than by lists (1 to 2 ms)."""

GATHERED_SHARE = 16
"""So is a selection of up to one row in this many: a scan, which visits all rows, takes longer."""

GATHER_BLOCK = 2048
"""Rows gathered at a time. More do not fit the processor's cache: 30,000 took ten times as long per row."""

RANK_SPREAD = 2.0
"""Allowed standard deviations of the rank that the last of ``k`` selected rows has among all rows."""

DEEPER = 4
"""If that rank was not enough, this many times as many rows are searched for."""

QUERY_BITS = 8
"""Number of bits to which RaBitQ rounds the query."""

Found = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""(Row numbers, inner products), best first."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a coarse index was built, and how it is searched.

    Attributes:
        kind: FAISS' factory string.
        lists: number of lists.
        probes: number of lists to scan for the best ``TUNED_K``.
        candidates: number of rows from them that are scored again.
        recall: share of the true best ``TUNED_K`` that these two settings found, over sample queries.
        training_rows: number of rows that the lists were trained on.
        build_seconds: time for training, filling and measuring.
    """

    kind: str
    lists: int
    probes: int
    candidates: int
    recall: float
    training_rows: int
    build_seconds: float


@dataclass(frozen=True, slots=True)
class Vectors:
    """N rows. Immutable and thread-safe: the effort is an argument of a search, not a state.

    Attributes:
        exact: a FAISS ``IndexScalarQuantizer`` of all rows, float16, inner product.
        coarse: a FAISS index of the same rows, rotated, in lists; None for few rows.
        tuning: settings of ``coarse``; None without it.
    """

    exact: Any
    coarse: Any = None
    tuning: Tuning | None = None

    def __len__(self) -> int:
        return int(self.exact.ntotal)

    @property
    def vector_size(self) -> int:
        """D, the length of a vector."""
        return int(self.exact.d)

    def search(self, query: NDArray[np.float32], k: int, selected: BitMap | None = None) -> Found:
        """Return the best ``k`` rows, or all if there are fewer.

        The result is exact without a coarse index, for a selection of up to ``GATHERED_ROWS`` or one row in
        ``GATHERED_SHARE``, for a very large ``k``, and for a selection that excludes so many of the nearest rows that a
        scan is faster. Otherwise its recall is ``Tuning.recall``. The scores are always exact.

        Args:
            query: (D,).
            k: at least 1.
            selected: rows to choose from; None: all.

        Raises:
            ValueError: the query is not (D,).
        """
        if query.shape != (self.vector_size,):
            raise ValueError(f"the query must have the shape ({self.vector_size},), not {query.shape}")
        rows = len(self) if selected is None else len(selected)
        k = min(k, rows)
        if k == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        if selected is not None and rows <= max(GATHERED_ROWS, len(self) // GATHERED_SHARE):
            return self._best_among(rows_in(selected), query, k)
        found = None if self.tuning is None else self._look_up(query, k, selected, self.tuning)
        return self._scan(query, k, selected) if found is None else found

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the vector of a row as (D,)."""
        vector: NDArray[np.float32] = self.exact.reconstruct(row)
        return vector

    def codes(self, rows: NDArray[Any]) -> NDArray[np.float16]:
        """Return the vectors of some rows as (K, D)."""
        codes: NDArray[np.float16] = self._bytes()[rows].view(np.float16)
        return codes

    def files(self) -> dict[str, Callable[[Callable[[bytes], None]], None]]:
        """Return, for each file of the vectors, a function that passes on its bytes."""
        indexes = {EXACT_FILE: self.exact} | ({} if self.coarse is None else {COARSE_FILE: self.coarse})
        return {file: partial(_hand_over, index) for file, index in indexes.items()}

    def facts(self) -> dict[str, Any] | None:
        """Return the tuning for ``open_vectors``, ready for JSON; None without a coarse index."""
        return None if self.tuning is None else asdict(self.tuning)

    def _look_up(self, query: NDArray[np.float32], k: int, selected: BitMap | None, tuning: Tuning) -> Found | None:
        """Return the best ``k`` by lists; None if a scan is faster.

        The best of all rows are searched for, in a number at which ``k`` selected rows should be among them. If they
        are, they are the best of the selection, even if selection and query are correlated. If not, more are searched
        for.
        """
        rows = len(self) if selected is None else len(selected)
        share = rows / len(self)
        # Each row is selected with probability ``share``: mean and deviation of a negative binomial distribution.
        rank = (k + RANK_SPREAD * sqrt(k * (1 - share))) / share
        while True:
            depth = max(1.0, rank / TUNED_K) ** DEPTH_POWER
            candidates = int(tuning.candidates * depth)
            if candidates * SCANNED_PER_CANDIDATE > rows:
                return None
            lists = min(int(tuning.probes * depth), tuning.lists)
            near = faiss.IVFRaBitQSearchParameters(nprobe=lists, qb=QUERY_BITS)
            found, _ = _found(self.coarse, query, candidates, faiss.SearchParametersPreTransform(index_params=near))
            best, scores = self._best_among(found, query, ceil(rank))
            if selected is not None:
                is_selected = np.isin(best, rows_in(selected & bitmap_of(best.astype(np.uint32))))
                best, scores = best[is_selected], scores[is_selected]
            if len(best) >= k:
                return best[:k], scores[:k]
            rank *= DEEPER

    def _scan(self, query: NDArray[np.float32], k: int, selected: BitMap | None) -> Found:
        selector = None if selected is None else faiss.IDSelectorBitmap(packed(selected, len(self)))
        return _found(self.exact, query, k, None if selector is None else faiss.SearchParameters(sel=selector))

    def _best_among(self, rows: NDArray[Any], query: NDArray[np.float32], k: int) -> Found:
        """Return the best of these rows, scored by the same code that scans all of them."""
        codes = self._bytes()
        best_rows, best_scores = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
        for start in range(0, len(rows), GATHER_BLOCK):
            block = rows[start : start + GATHER_BLOCK]
            few = exact_index(self.vector_size)
            few.add_sa_codes(codes[block])
            places, scores = _found(few, query, min(k, len(block)), None)
            best_rows.append(block[places].astype(np.int64))
            best_scores.append(scores)
        found, scores = np.concatenate(best_rows), np.concatenate(best_scores)
        best = np.argsort(-scores, kind="stable")[:k]
        return found[best], scores[best]

    def _bytes(self) -> NDArray[np.uint8]:
        """Return all rows as (N, 2 D), a view of FAISS' memory. It is valid as long as the index."""
        width = 2 * self.vector_size
        if len(self) == 0:
            return np.empty((0, width), dtype=np.uint8)
        codes: NDArray[np.uint8] = faiss.rev_swig_ptr(self.exact.codes.data(), len(self) * width)
        return codes.reshape(-1, width)


def exact_index(vector_size: int) -> Any:
    """Return an empty exact index, to which rows are added."""
    return faiss.IndexScalarQuantizer(vector_size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def add_codes(exact: Any, codes: NDArray[np.float16]) -> None:
    """Add rows (N, D) to an exact index, which stores exactly these bytes."""
    exact.add_sa_codes(np.ascontiguousarray(codes).view(np.uint8))


def build_vectors(codes: NDArray[np.float16]) -> Vectors:
    """Return vectors (N, D), in memory, without a coarse index."""
    exact = exact_index(codes.shape[1])
    add_codes(exact, codes)
    return Vectors(exact)


def open_vectors(folder: Path, tuning: dict[str, Any] | None) -> Vectors:
    """Map files that have been checked. Reads only headers.

    Raises:
        RuntimeError: FAISS cannot read a file.
        ValueError: the files do not belong together.
    """
    exact = faiss.read_index(str(folder / EXACT_FILE), faiss.IO_FLAG_MMAP_IFC)
    if tuning is None:
        return Vectors(exact)
    coarse = faiss.read_index(str(folder / COARSE_FILE), faiss.IO_FLAG_MMAP_IFC)
    if (coarse.ntotal, coarse.d) != (exact.ntotal, exact.d):
        raise ValueError(f"{COARSE_FILE} has {coarse.ntotal} rows of {coarse.d}, expected {exact.ntotal} of {exact.d}")
    return Vectors(exact, coarse, Tuning(**tuning))


def _hand_over(index: Any, write: Callable[[bytes], None]) -> None:
    faiss.write_index(index, faiss.PyCallbackIOWriter(write))


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Make FAISS work in the calling thread only. The setting of other threads does not change.

    FAISS' threads wait for each other at every step. If other threads need the processors too, that costs far more than
    it gains: a search by lists, which takes 0.3 ms, took 30 ms.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _found(index: Any, query: NDArray[np.float32], k: int, parameters: Any) -> Found:
    with in_one_thread():
        scores, rows = index.search(query[np.newaxis], k, params=parameters)
    is_found = rows[0] >= 0  # FAISS pads with -1
    return rows[0][is_found], scores[0][is_found]

"""The vectors of a part: which rows are nearest to a query. Knows rows by number only.

Every part has its vectors as float16, in the order of its rows. FAISS scans them exactly, one after the other, which is
all that a small part needs. A large one also has a *coarse* index of some 90 bytes a vector (see ``ann``): lists of
neighbours (IVF), in each a bit per dimension (RaBitQ). A search takes candidates from the lists that are nearest to the
query and scores them again with the float16 vectors. So scores are exact, whichever way a row was found.

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

# Its type hints are those of the C++ classes, not of the Python layer that replaces their constructors.
faiss: Any = _faiss

EXACT = "SQfp16"
"""FAISS' factory string of the exact index: the vectors are float16 already, so nothing is lost and half is saved."""

EXACT_FILE = "vectors.faiss"
COARSE_FILE = "nearest.faiss"

ROWS_AT_ONCE = 20_000
"""Rows that are turned into float32 at a time while an index is built."""

TUNED_K = 10
"""The effort of a search is found for so many hits."""

DEPTH_POWER = 0.7
"""For ``n * TUNED_K`` hits, lists and candidates grow by ``n`` to this power, which keeps the recall."""

SCANNED_PER_CANDIDATE = 30
"""So many rows are scanned in the time that it takes to come to one candidate by way of lists and to score it."""

GATHERED_ROWS = 10_000
"""A selection of so few rows is scored row by row: exact, and no slower than by way of lists, 1 to 2 ms."""

GATHERED_SHARE = 16
"""So is one of one row in so many: a scan, which passes over all rows, takes longer."""

GATHER_BLOCK = 2048
"""Rows gathered at a time. More do not stay in the processor's cache: 30,000 at once took ten times as long a row."""

RANK_SPREAD = 2.0
"""Standard deviations that are allowed for, of the rank that the last of ``k`` selected rows has among all rows."""

DEEPER = 4
"""Where that rank was not enough, so many times as many of all rows are looked for."""

QUERY_BITS = 8
"""How finely RaBitQ rounds the query."""

Found = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""(Row numbers, inner products), best first."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a coarse index was made, and how it is searched.

    Attributes:
        kind: FAISS' factory string.
        lists: how many there are.
        probes: how many are looked into for the best ``TUNED_K``.
        candidates: how many rows from them are scored again.
        recall: share of the true best ``TUNED_K`` that were found with these two, over made-up queries.
        training_rows: how many the lists were learnt from.
        build_seconds: for learning, filling and measuring.
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
    """N rows. Immutable, and safe to search from several threads: effort is an argument of a search, not a state.

    Attributes:
        exact: a FAISS ``IndexScalarQuantizer`` of all rows, float16, inner product.
        coarse: a FAISS index of the same rows, rotated, in lists; None for few rows.
        tuning: of ``coarse``; None without it.
    """

    exact: Any
    coarse: Any = None
    tuning: Tuning | None = None

    def __len__(self) -> int:
        return int(self.exact.ntotal)

    @property
    def vector_size(self) -> int:
        """D, the numbers of one vector."""
        return int(self.exact.d)

    def search(self, query: NDArray[np.float32], k: int, selected: BitMap | None = None) -> Found:
        """Return the best ``k`` rows, fewer only if there are fewer.

        Exact without a coarse index, for a selection of up to ``GATHERED_ROWS`` or one row in ``GATHERED_SHARE``, for
        a very large ``k``, and where a selection leaves out so many of the nearest that a scan is faster; otherwise as
        good as ``Tuning.recall`` says.
        The scores are exact always.

        Args:
            query: (D,).
            k: at least 1.
            selected: rows that may be found; None: all of them.

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
        """Return, for each file that the vectors are kept in, what hands over its bytes."""
        indexes = {EXACT_FILE: self.exact} | ({} if self.coarse is None else {COARSE_FILE: self.coarse})
        return {file: partial(_hand_over, index) for file, index in indexes.items()}

    def facts(self) -> dict[str, Any] | None:
        """Return the tuning for ``open_vectors``, ready for JSON; None without a coarse index."""
        return None if self.tuning is None else asdict(self.tuning)

    def _look_up(self, query: NDArray[np.float32], k: int, selected: BitMap | None, tuning: Tuning) -> Found | None:
        """Return the best ``k`` by way of lists; None where a scan is faster.

        The best of all rows are looked for, so many that ``k`` selected ones should be among them. If they are, they
        are the best of the selection, whatever it has to do with the query; if not, more are looked for.
        """
        rows = len(self) if selected is None else len(selected)
        share = rows / len(self)
        # Where a row is selected with probability ``share``: the mean and deviation of a negative binomial.
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
        """Return all rows as (N, 2 D), where FAISS has them: they live as long as the index does."""
        width = 2 * self.vector_size
        if len(self) == 0:
            return np.empty((0, width), dtype=np.uint8)
        codes: NDArray[np.uint8] = faiss.rev_swig_ptr(self.exact.codes.data(), len(self) * width)
        return codes.reshape(-1, width)


def exact_index(vector_size: int) -> Any:
    """Return an empty exact index, to which rows are added."""
    return faiss.IndexScalarQuantizer(vector_size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def add_codes(exact: Any, codes: NDArray[np.float16]) -> None:
    """Add rows (N, D) to an exact index, which keeps these very bytes."""
    exact.add_sa_codes(np.ascontiguousarray(codes).view(np.uint8))


def build_vectors(codes: NDArray[np.float16]) -> Vectors:
    """Return vectors (N, D), in memory, without a coarse index."""
    exact = exact_index(codes.shape[1])
    add_codes(exact, codes)
    return Vectors(exact)


def open_vectors(folder: Path, tuning: dict[str, Any] | None) -> Vectors:
    """Map files that have been checked; nothing but headers is read.

    Raises:
        RuntimeError: FAISS cannot make sense of a file.
        ValueError: the files do not belong together.
    """
    exact = faiss.read_index(str(folder / EXACT_FILE), faiss.IO_FLAG_MMAP_IFC)
    if tuning is None:
        return Vectors(exact)
    coarse = faiss.read_index(str(folder / COARSE_FILE), faiss.IO_FLAG_MMAP_IFC)
    if (coarse.ntotal, coarse.d) != (exact.ntotal, exact.d):
        raise ValueError(f"{COARSE_FILE} has {coarse.ntotal} rows of {coarse.d}, not {exact.ntotal} of {exact.d}")
    return Vectors(exact, coarse, Tuning(**tuning))


def _hand_over(index: Any, write: Callable[[bytes], None]) -> None:
    faiss.write_index(index, faiss.PyCallbackIOWriter(write))


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Let FAISS work in the calling thread alone; what other threads may use stays as it is.

    Its threads wait for each other at every step. Where others want the processors too, that costs far more than they
    gain: a search by way of lists, which takes 0.3 ms, took 30.
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
    is_found = rows[0] >= 0  # FAISS fills up with -1
    return rows[0][is_found], scores[0][is_found]

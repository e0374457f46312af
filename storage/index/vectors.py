"""The vectors of a part: find the rows nearest to a query. Knows rows only by number.

Every part has its vectors as float16, in the order of its rows. FAISS can scan them exactly, one after the other. A
small part needs no more. A large part also has a *coarse* index of about 90 bytes per vector (see ``ann``): lists of
neighbours (IVF) with one bit per dimension (RaBitQ). A search takes candidates from the lists nearest to the query, and
scores them again with the float16 vectors. So scores are exact, whichever way a row was found.

Sources: IVF, FAISS (arXiv 2401.08281, section 5.1); RaBitQ (arXiv 2405.12497).
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from storage.index.bitmaps import packed, rows_in
from storage.index.by_lists import Found, look_up
from storage.index.mapped import MappedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
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

GATHERED_ROWS = 10_000
"""A selection of up to this many rows is scored row by row: exact, and no slower than by lists (1 to 2 ms)."""

GATHERED_SHARE = 16
"""So is a selection of up to one row in this many: a scan, which visits all rows, takes longer."""

GATHER_BLOCK = 2048
"""Rows gathered at a time. More do not fit the processor's cache: 30,000 took ten times as long per row."""

QUERY_BITS = 8
"""Number of bits to which RaBitQ rounds the query."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a coarse index was built, and how it is searched.

    Attributes:
        kind: FAISS' factory string.
        lists: number of lists.
        probes: number of lists to scan for the best ``by_lists.TUNED_K``.
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
class Mapped:
    """Where to read single rows and lists of vectors that are mapped.

    Attributes:
        exact: the file of the exact index. It ends with the rows.
        coarse: the file of the coarse index, which ends with the lists; None without one.
        list_starts: (L + 1,) where in it the lists begin, and where the last one ends.
    """

    exact: MappedFile
    coarse: MappedFile | None = None
    list_starts: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """N rows. Immutable and thread-safe: the effort is an argument of a search, not a state.

    Attributes:
        exact: a FAISS ``IndexScalarQuantizer`` of all rows, float16, inner product.
        coarse: a FAISS index of the same rows, rotated, in lists; None for few rows.
        tuning: settings of ``coarse``; None without it.
        mapped: where both are mapped from; None: they are in memory.
    """

    exact: Any
    coarse: Any = None
    tuning: Tuning | None = None
    mapped: Mapped | None = None

    def __len__(self) -> int:
        return int(self.exact.ntotal)

    @property
    def vector_size(self) -> int:
        """D, the length of a vector."""
        return int(self.exact.d)

    def search(
        self, query: NDArray[np.float32], k: int, selected: BitMap | None = None, *, by_lists: bool = True
    ) -> Found:
        """Return the best ``k`` rows, or all if there are fewer.

        The result is exact without a coarse index, for a selection of up to ``GATHERED_ROWS`` or one row in
        ``GATHERED_SHARE``, for a very large ``k``, and for a selection that excludes so many of the nearest rows that a
        scan is faster. Otherwise its recall is ``Tuning.recall``. The scores are always exact.

        Args:
            query: (D,).
            k: at least 1.
            selected: rows to choose from; None: all.
            by_lists: False: exact in every case.

        Raises:
            ValueError: the query is not (D,).
        """
        self._require_size(query)
        rows = len(self) if selected is None else len(selected)
        k = min(k, rows)
        if k == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        if selected is not None and self._is_gathered(selected):
            return self.best_among(rows_in(selected), query, k)
        found = look_up([(self, selected)], query, k) if by_lists and self.tuning is not None else None
        if found is not None:
            return found[0]
        if self.mapped is not None:
            # FAISS' own mapping has MADV_RANDOM too: a scan would wait for each page.
            self.mapped.exact.fetch_start(len(self.mapped.exact))
        selector = None if selected is None else faiss.IDSelectorBitmap(packed(selected, len(self)))
        return _found(self.exact, query, k, None if selector is None else faiss.SearchParameters(sel=selector))

    def is_looked_up(self, selected: BitMap | None) -> bool:
        """Return whether there are lists, and enough of these rows (None: all) to search by them."""
        return self.tuning is not None and not self._is_gathered(selected)

    @property
    def candidates(self) -> int:
        """Number of rows of the lists to score again for the best ``by_lists.TUNED_K``."""
        assert self.tuning is not None
        return self.tuning.candidates

    def near(self, query: NDArray[np.float32], depth: float) -> Found:
        """Return candidates from the lists nearest to ``query`` (D,), with estimated scores, best first.

        Args:
            query: (D,).
            depth: how many times as many lists and candidates as for the best ``by_lists.TUNED_K``.

        Raises:
            ValueError: the query is not (D,).
        """
        self._require_size(query)
        assert self.tuning is not None
        rotation, lists = self.coarse.chain.at(0), faiss.downcast_index(faiss.extract_index_ivf(self.coarse))
        probes = min(int(self.tuning.probes * depth), self.tuning.lists)
        with in_one_thread():
            rotated = rotation.apply(query[np.newaxis])
            nearness, nearest = lists.quantizer.search(rotated, probes)
            with self._fetched_lists(nearest[0]):
                return _scan_lists(lists, rotated, nearest, nearness, int(self.candidates * depth))

    def fetch(self, rows: NDArray[Any]) -> None:
        """Begin to read the vectors of these rows from disk, if that is where they are."""
        if self.mapped is not None:
            self.mapped.exact.fetch(*self._places(rows))

    def learn(self, disk_bytes: int) -> None:
        """Note how much was read from disk for rows that were fetched."""
        if self.mapped is not None:
            self.mapped.exact.learn(disk_bytes)

    def best_among(self, rows: NDArray[Any], query: NDArray[np.float32], k: int, *, is_fetched: bool = False) -> Found:
        """Return the best of these rows, scored by the same code that scans all of them.

        ``is_fetched``: the caller has called ``fetch`` for them, and will call ``learn``.
        """
        codes = self._bytes()
        best_rows, best_scores = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.float32)]
        for start in range(0, len(rows), GATHER_BLOCK):
            block = rows[start : start + GATHER_BLOCK]
            few = exact_index(self.vector_size)
            with nullcontext() if is_fetched else self._fetched(block):
                few.add_sa_codes(codes[block])
            places, scores = _found(few, query, min(k, len(block)), None)
            best_rows.append(block[places].astype(np.int64))
            best_scores.append(scores)
        found, scores = np.concatenate(best_rows), np.concatenate(best_scores)
        best = np.argsort(-scores, kind="stable")[:k]
        return found[best], scores[best]

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the vector of a row as (D,)."""
        vector: NDArray[np.float32] = self.exact.reconstruct(row)
        return vector

    def codes(self, rows: NDArray[Any]) -> NDArray[np.float16]:
        """Return the vectors of some rows as (K, D)."""
        with self._fetched(rows):
            codes: NDArray[np.float16] = self._bytes()[rows].view(np.float16)
        return codes

    def files(self) -> dict[str, Callable[[Callable[[bytes], None]], None]]:
        """Return, for each file of the vectors, a function that passes on its bytes."""
        indexes = {EXACT_FILE: self.exact} | ({} if self.coarse is None else {COARSE_FILE: self.coarse})
        return {file: partial(_hand_over, index) for file, index in indexes.items()}

    def facts(self) -> dict[str, Any] | None:
        """Return the tuning for ``open_vectors``, ready for JSON; None without a coarse index."""
        return None if self.tuning is None else asdict(self.tuning)

    def _require_size(self, query: NDArray[np.float32]) -> None:
        if query.shape != (self.vector_size,):
            raise ValueError(f"the query must have the shape ({self.vector_size},), not {query.shape}")

    def _is_gathered(self, selected: BitMap | None) -> bool:
        return selected is not None and len(selected) <= max(GATHERED_ROWS, len(self) // GATHERED_SHARE)

    def _places(self, rows: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
        """Return where rows begin in the mapped file, and how long each is."""
        assert self.mapped is not None
        width = 2 * self.vector_size
        return len(self.mapped.exact) - (len(self) - rows.astype(np.int64)) * width, width

    def _fetched(self, rows: NDArray[Any]) -> AbstractContextManager[None]:
        return nullcontext() if self.mapped is None else self.mapped.exact.fetched(*self._places(rows))

    def _fetched_lists(self, lists: NDArray[np.int64]) -> AbstractContextManager[None]:
        if self.mapped is None or self.mapped.coarse is None or self.mapped.list_starts is None:
            return nullcontext()
        starts = self.mapped.list_starts[lists]
        return self.mapped.coarse.fetched(starts, self.mapped.list_starts[lists + 1] - starts)

    def _bytes(self) -> NDArray[np.uint8]:
        """Return all rows as (N, 2 D): mapped for scattered reads, or a view of FAISS' memory, valid as long as it."""
        width = 2 * self.vector_size
        if self.mapped is not None:
            return self.mapped.exact.last(len(self), width)
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
    """Map files that have been checked. Reads only headers, and begins to read what every search needs.

    Raises:
        RuntimeError: FAISS cannot read a file.
        ValueError: the files do not belong together.
    """
    exact = faiss.read_index(str(folder / EXACT_FILE), faiss.IO_FLAG_MMAP_IFC)
    stored = MappedFile(folder / EXACT_FILE)
    if tuning is None:
        return Vectors(exact, mapped=Mapped(stored))
    listed = MappedFile(folder / COARSE_FILE)
    # Rotation and centroids come first. FAISS reads the former at once, page by page, and every search the latter.
    listed.fetch_start(np.dtype(np.float32).itemsize * exact.d * (exact.d + tuning["lists"]))
    coarse = faiss.read_index(str(folder / COARSE_FILE), faiss.IO_FLAG_MMAP_IFC)
    if (coarse.ntotal, coarse.d) != (exact.ntotal, exact.d):
        raise ValueError(f"{COARSE_FILE} has {coarse.ntotal} rows of {coarse.d}, expected {exact.ntotal} of {exact.d}")
    return Vectors(exact, coarse, Tuning(**tuning), Mapped(stored, listed, _list_starts(coarse, len(listed))))


def _list_starts(coarse: Any, file_bytes: int) -> NDArray[np.int64]:
    """Return where the lists begin in a file that ends with them, and its end: FAISS writes one behind the other."""
    lists = faiss.downcast_index(faiss.extract_index_ivf(coarse))
    size_of = lists.invlists.list_size
    sizes = [size_of(number) for number in range(lists.nlist)]
    ends = np.cumsum(np.array([0, *sizes], dtype=np.int64)) * (lists.code_size + np.dtype(np.int64).itemsize)
    starts: NDArray[np.int64] = file_bytes - ends[-1] + ends
    return starts


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
    return _without_padding(rows[0], scores[0])


def _scan_lists(
    lists: Any, query: NDArray[np.float32], nearest: NDArray[np.int64], nearness: NDArray[np.float32], k: int
) -> Found:
    """Return the best ``k`` rows of these lists (1, L), by estimated score."""
    # FAISS' own method for Python takes no parameters.
    scores, rows = np.empty((1, k), dtype=np.float32), np.empty((1, k), dtype=np.int64)
    arrays = [faiss.swig_ptr(array) for array in (nearest, nearness, scores, rows)]
    parameters = faiss.IVFRaBitQSearchParameters(nprobe=nearest.shape[1], qb=QUERY_BITS)
    lists.search_preassigned_c(1, faiss.swig_ptr(query), k, *arrays, False, parameters)
    return _without_padding(rows[0], scores[0])


def _without_padding(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Found:
    is_found = rows >= 0  # FAISS pads with -1
    return rows[is_found], scores[is_found]

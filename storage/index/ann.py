"""The vectors of a part: each one as it is, and, where they are many, a small index that says which of them to look at.

Every part has its vectors as float16, in the order of its rows. FAISS scans them exactly, one after the other, which is
all that a small part needs. A large one also has a *coarse* index of some 90 bytes a vector: lists of neighbours (IVF),
in each a bit per dimension (RaBitQ). A search takes some candidates from the lists that are nearest to the query and
scores them again with the float16 vectors, so that the scores of all ways to search are the same, bit by bit.

How many lists are looked into is not guessed: when a part is built, queries are made up from its own vectors, answered
both ways, and the effort is raised until the answers agree. What was measured is stored with the part.

Sources: IVF, FAISS (arXiv 2401.08281, section 5.1); RaBitQ (arXiv 2405.12497).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from math import isqrt, sqrt
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from ramq.kit.logs import get_logger
from storage.index.bits import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from pyroaring import BitMap

# Its type hints are those of the C++ classes, not of the Python layer that replaces their constructors.
faiss: Any = _faiss

EXACT = "SQfp16"
"""FAISS' factory string of the exact index: the vectors are float16 already, so nothing is lost and half is saved."""

EXACT_FILE = "vectors.faiss"
COARSE_FILE = "nearest.faiss"

FLAT_ROWS = 20_000
"""Up to so many rows are scanned: half a millisecond for vectors of 512, as long as a search by way of lists takes."""

LISTS_PER_ROOT = 4
"""Lists for N rows: 4 √N, as FAISS' guidelines have it; finding the lists then costs as much as looking into them."""

POINTS_PER_LIST = 40
ROUNDS = 6
"""Of k-means. 64 points and 10 rounds took twice as long, and the recall was the same within 0.01."""

QUERY_BITS = 8
"""How finely RaBitQ rounds the query."""

GATHERED_ROWS = 10_000
"""A selection of so few rows is scored row by row: exact, and no slower than by way of lists, 1 to 2 ms."""

GATHER_BLOCK = 2048
"""Rows gathered at a time. More do not stay in the processor's cache: 30,000 at once took ten times as long a row."""

DEEP_SHARE = 10
"""Whoever wants a tenth of all rows as candidates gets a scan."""

MEASURED_K = 10
ENOUGH_RECALL = 0.995
"""Of made-up queries; vectors that were held out fared up to 0.006 worse."""

MEASURING_QUERIES = 128

EFFORTS = ((16, 200), (32, 200), (64, 200), (64, 400), (128, 400), (128, 800), (256, 800), (512, 1600), (1024, 3200))
"""(Lists looked into, candidates scored again) for the best ``MEASURED_K``, until the recall is enough."""

CANDIDATES_PER_HIT = 4
"""Beyond ``MEASURED_K``, each hit more costs so many candidates more."""

WIDENED = 4
"""A selection that the nearest lists do not hold enough of is looked for in so many times more lists."""

CHUNK_ROWS = 65_536
_SEED = 20_240_521

Found = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""(Row numbers, inner products), best first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The coarse index that suits a number of rows; none without lists."""

    lists: int
    training_rows: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a coarse index was made, and how it is searched.

    Attributes:
        kind: FAISS' factory string.
        lists: how many there are.
        probes: how many are looked into for the best ``MEASURED_K``.
        candidates: how many rows from them are scored again.
        recall: share of the true best ``MEASURED_K`` that were found with these two, over made-up queries.
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
    """The vectors of a part. Immutable, and safe to search from several threads: effort is an argument, not a state.

    Attributes:
        exact: a FAISS ``IndexScalarQuantizer`` of all rows, float16, inner product.
        coarse: a FAISS index of the same rows, rotated, in lists; None for few rows.
        tuning: of ``coarse``; None without it.
    """

    exact: Any
    coarse: Any = None
    tuning: Tuning | None = None

    def __len__(self) -> int:
        rows: int = self.exact.ntotal
        return rows

    @property
    def vector_size(self) -> int:
        """Numbers in a vector."""
        size: int = self.exact.d
        return size

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the vector of a row as (D,)."""
        vector: NDArray[np.float32] = self.exact.reconstruct(row)
        return vector

    def search(self, query: NDArray[np.float32], k: int, selected: BitMap | None = None) -> Found:
        """Return the best ``k`` rows, fewer only if fewer are selected.

        Exact without a coarse index, for a selection of up to ``GATHERED_ROWS`` and for a very large ``k``; otherwise
        as good as ``Tuning.recall`` says. The scores are exact always.

        Args:
            query: (D,) float32.
            k: at least 1.
            selected: only these rows; None: all.
        """
        rows = len(self) if selected is None else len(selected)
        k = min(k, rows)
        if k == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        if selected is not None and rows <= GATHERED_ROWS:
            return self._best_among(np.frombuffer(selected.to_array(), dtype=np.uint32), query, k)
        selector = None if selected is None else faiss.IDSelectorBitmap(packed(selected, len(self)))
        if self.tuning is not None:
            candidates = self.tuning.candidates + CANDIDATES_PER_HIT * max(0, k - MEASURED_K)
            if candidates * DEEP_SHARE <= rows:
                near = self._candidates(self.tuning, query, candidates, k=k, rows=rows, selector=selector)
                return self._best_among(near, query, k)
        return _found(self.exact, query, k, None if selector is None else faiss.SearchParameters(sel=selector))

    def _candidates(
        self, tuning: Tuning, query: NDArray[np.float32], count: int, *, k: int, rows: int, selector: Any
    ) -> NDArray[np.int64]:
        """Return ``count`` rows among which the best ``k`` are."""
        # More hits lie in more lists, though not in as many times more; and among few selected rows the best are as
        # far away as if there were only those few.
        probes = int(tuning.probes * sqrt(max(1.0, k / MEASURED_K)) * (len(self) / rows))
        while True:
            near = faiss.IVFRaBitQSearchParameters(nprobe=min(probes, tuning.lists), qb=QUERY_BITS, sel=selector)
            found, _ = _found(self.coarse, query, count, faiss.SearchParametersPreTransform(index_params=near))
            if len(found) == count or probes >= tuning.lists:
                return found
            probes *= WIDENED

    def _best_among(self, rows: NDArray[Any], query: NDArray[np.float32], k: int) -> Found:
        """Return the best of these rows, scored by the same code that scans all of them."""
        codes = _codes(self.exact)
        found = []
        for start in range(0, len(rows), GATHER_BLOCK):
            block = rows[start : start + GATHER_BLOCK]
            few = exact_index(self.vector_size)
            few.add_sa_codes(codes[block])
            places, scores = _found(few, query, min(k, len(block)), None)
            found.append((block[places].astype(np.int64), scores))
        best_rows, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        best = np.argsort(-scores, kind="stable")[:k]
        return best_rows[best], scores[best]


def choose(rows: int, *, flat_rows: int = FLAT_ROWS) -> Plan:
    """Return the coarse index that suits so many rows."""
    if rows <= flat_rows:
        return Plan(0, 0)
    lists = max(1, min(LISTS_PER_ROOT * isqrt(rows), rows // POINTS_PER_LIST))
    return Plan(lists, min(rows, lists * POINTS_PER_LIST))


def exact_index(vector_size: int) -> Any:
    """Return an empty exact index, to which rows are added."""
    return faiss.IndexScalarQuantizer(vector_size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def build(chunks: Iterable[NDArray[np.float32]], vector_size: int, *, flat_rows: int = FLAT_ROWS) -> Vectors:
    """Return the vectors of a part, in memory: 2 bytes a number, and while lists are learnt 8 % to a fourth more.

    Args:
        chunks: (n, D) each, in the order of the rows.
        vector_size: D.
        flat_rows: more rows get a coarse index.
    """
    exact = exact_index(vector_size)
    for chunk in chunks:
        exact.add(np.ascontiguousarray(chunk, dtype=np.float32))
    plan = choose(exact.ntotal, flat_rows=flat_rows)
    if plan.lists == 0:
        return Vectors(exact)
    start = time.monotonic()
    try:
        coarse = _coarse(exact, plan, _on_gpus)
    except RuntimeError as error:
        if faiss.get_num_gpus() == 0:
            raise
        get_logger().warning("the index is built without the GPU, which failed", reason=str(error))
        coarse = _coarse(exact, plan, lambda index: index)
    tuned = _tuned(exact, coarse, plan)
    assert tuned.tuning is not None
    return replace(tuned, tuning=replace(tuned.tuning, build_seconds=round(time.monotonic() - start, 3)))


def files(vectors: Vectors) -> dict[str, Any]:
    """Return the FAISS index of each file that the vectors are kept in."""
    return {EXACT_FILE: vectors.exact} | ({} if vectors.coarse is None else {COARSE_FILE: vectors.coarse})


def facts(vectors: Vectors) -> dict[str, Any] | None:
    """Return the tuning for ``open_vectors``, ready for JSON."""
    return None if vectors.tuning is None else asdict(vectors.tuning)


def open_vectors(folder: Path, tuning: dict[str, Any] | None) -> Vectors:
    """Map files that have been checked; nothing but headers is read.

    Raises:
        RuntimeError: FAISS cannot read a file.
        ValueError: the files do not belong together.
    """
    exact = faiss.read_index(str(folder / EXACT_FILE), faiss.IO_FLAG_MMAP_IFC)
    if tuning is None:
        return Vectors(exact)
    coarse = faiss.read_index(str(folder / COARSE_FILE), faiss.IO_FLAG_MMAP_IFC)
    if (coarse.ntotal, coarse.d) != (exact.ntotal, exact.d):
        raise ValueError(f"{COARSE_FILE} has {coarse.ntotal} rows of {coarse.d}, not {exact.ntotal} of {exact.d}")
    return Vectors(exact, coarse, Tuning(**tuning))


def made_up_queries(vectors: Vectors, count: int = MEASURING_QUERIES) -> NDArray[np.float32]:
    """Return queries that are like the vectors but are none of them: unit vectors (``count``, D).

    Half of them are vectors with as much noise as signal, half are midpoints of pairs, which lie between the lists; to
    find itself is too easy for a vector.
    """
    rng = np.random.default_rng(_SEED)
    own = vectors.exact.reconstruct_batch(rng.integers(0, len(vectors), count))
    noise = rng.standard_normal(own.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    others = vectors.exact.reconstruct_batch(rng.integers(0, len(vectors), count))
    queries = own + np.where(np.arange(count)[:, None] % 2, noise, others)
    # Two opposite vectors have no midpoint.
    lengths = np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-6)
    return np.ascontiguousarray(queries / lengths, dtype=np.float32)


def recall(vectors: Vectors, queries: NDArray[np.float32], k: int = MEASURED_K) -> float:
    """Return the share of the true best ``k`` that searches find, over ``queries`` (Q, D)."""
    return _recall(vectors, queries, _worst_of_best(vectors.exact, queries, k), k)


def _tuned(exact: Any, coarse: Any, plan: Plan) -> Vectors:
    """Return the vectors with the least effort that is good enough, or the greatest there is."""
    lists = faiss.extract_index_ivf(coarse).nlist
    kind = f"RR{exact.d},IVF{lists},RaBitQ"
    queries = made_up_queries(Vectors(exact))
    k = min(MEASURED_K, exact.ntotal)
    bars = _worst_of_best(exact, queries, k)
    for probes, candidates in EFFORTS:
        tuning = Tuning(kind, lists, min(probes, lists), candidates, 0.0, plan.training_rows, 0.0)
        share = _recall(Vectors(exact, coarse, tuning), queries, bars, k)
        if share >= ENOUGH_RECALL:
            break
    else:
        get_logger().warning("searches in a part of the index find fewer of the nearest than they should", recall=share)
    return Vectors(exact, coarse, replace(tuning, recall=round(share, 4)))


def _worst_of_best(exact: Any, queries: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = exact.search(queries, k)[0][:, -1]
    return scores


def _recall(vectors: Vectors, queries: NDArray[np.float32], bars: NDArray[np.float32], k: int) -> float:
    # By score and not by row: of equal pictures any will do.
    good = [np.count_nonzero(vectors.search(query, k)[1] >= bar) for query, bar in zip(queries, bars, strict=True)]
    return float(np.mean(good)) / k


def _coarse(exact: Any, plan: Plan, moved: Callable[[Any], Any]) -> Any:
    """Learn lists from a sample and put all rows into them; ``moved`` takes the work on centroids elsewhere."""
    size = exact.d
    # Rotated, so that a few dimensions of large numbers, as trained encoders have them, are spread over all bits.
    coarse = faiss.index_factory(size, f"RR{size},IVF{plan.lists},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    rotation = coarse.chain.at(0)
    lists = faiss.downcast_index(faiss.extract_index_ivf(coarse))
    lists.cp.seed, lists.cp.niter = _SEED, ROUNDS
    lists.cp.max_points_per_centroid, lists.cp.min_points_per_centroid = POINTS_PER_LIST, 1
    sample = np.sort(np.random.default_rng(_SEED).choice(exact.ntotal, plan.training_rows, replace=False))
    assigning = moved(faiss.IndexFlatIP(size))  # FAISS keeps no reference
    lists.clustering_index = assigning
    coarse.train(exact.reconstruct_batch(sample))
    lists.clustering_index = None
    centroids = moved(faiss.downcast_index(lists.quantizer))
    for start in range(0, exact.ntotal, CHUNK_ROWS):
        count = min(CHUNK_ROWS, exact.ntotal - start)
        rotated = rotation.apply(exact.reconstruct_n(start, count))
        nearest = np.ascontiguousarray(centroids.search(rotated, 1)[1][:, 0])
        lists.add_core(count, faiss.swig_ptr(rotated), None, faiss.swig_ptr(nearest))
    coarse.ntotal = lists.ntotal
    return coarse


def _on_gpus(index: Any) -> Any:
    """Return a copy of an index on all GPUs of this machine, or the index if it has none."""
    return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index


def _codes(exact: Any) -> NDArray[np.uint8]:
    """Return the bytes of all rows as (N, 2 D), where they are: they live as long as the index does."""
    width = exact.code_size
    codes: NDArray[np.uint8] = faiss.rev_swig_ptr(exact.codes.data(), exact.ntotal * width).reshape(-1, width)
    return codes


def _found(index: Any, query: NDArray[np.float32], k: int, parameters: Any) -> Found:
    scores, rows = index.search(query[np.newaxis], k, params=parameters)
    is_found = rows[0] >= 0  # FAISS fills up with -1
    return rows[0][is_found], scores[0][is_found]

"""Which coarse index finds as much in less time and space: what ``storage.index.ann`` chose, against other kinds.

    python -m benchmarks.bench_ann --rows 500000
    python -m benchmarks.bench_ann --rows 100000 --parts 5    # parts searched together, a minute or two

Made-up vectors, once as they are and once with a few dimensions of large numbers, as trained encoders have them. Every
kind takes its candidates from as many lists and has them scored again with float16 by FAISS itself, in one thread.

With ``--parts``, the rows are divided into that many parts, all different, and searched together as
``storage.index.by_lists`` does it, with candidates that grow by the number of parts to several powers. Rows are in the
parts at random (``mixed``), or each part has rows of its own kind (``apart``). Beside the number of candidates that
``storage.index.ann`` chose, there are smaller ones: few rows have candidates to spare, which large parts have not.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np

from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, WIDTH, Maker
from storage.index import by_lists
from storage.index.ann import POINTS_PER_LIST, ROUNDS, choose, recall, with_lists
from storage.index.vectors import QUERY_BITS, Vectors, build_vectors, exact_index, in_one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

faiss: Any = _faiss

KINDS = ("RR{d},IVF{n},RaBitQ", "IVF{n},RaBitQ", "IVF{n},SQ8", "IVF{n},SQfp16", "IVF{n},PQ64x4fs")
EFFORTS = ((32, 200), (64, 200), (128, 800), (256, 800))
K = 10
LARGE_DIMENSIONS, LARGE = 6, 10.0
_FLAT = (1_000, 10_000, 20_000, 50_000)
POWERS = (0.5, 0.625, 0.75, 0.875, 1.0)
PARTS_WIDTH = 384
FEWER = (20, 40, 80, 160)
"""Candidates of one part."""


def measure(exact: Any, queries: NDArray[np.float32]) -> dict[str, Any]:
    """Build every kind over the vectors; return seconds, bytes, and recall and milliseconds for each effort."""
    bars = exact.search(queries, K)[0][:, -1]
    plan = choose(exact.ntotal, flat_rows=0)
    sample = exact.reconstruct_batch(np.linspace(0, exact.ntotal - 1, plan.training_rows).astype(np.int64))
    found = {}
    for kind in KINDS:
        index = faiss.index_factory(WIDTH, kind.format(d=WIDTH, n=plan.lists), faiss.METRIC_INNER_PRODUCT)
        lists = faiss.extract_index_ivf(index)
        lists.cp.niter, lists.cp.max_points_per_centroid = ROUNDS, POINTS_PER_LIST
        began = time.perf_counter()
        index.train(sample)
        for start in range(0, exact.ntotal, CHUNK):
            index.add(exact.reconstruct_n(start, min(CHUNK, exact.ntotal - start)))
        figures: dict[str, Any] = {"build_seconds": round(time.perf_counter() - began, 1)}
        figures["bytes_a_row"] = round(len(faiss.serialize_index(index)) / exact.ntotal, 1)
        refined = faiss.IndexRefine(index, exact)
        for probes, candidates in EFFORTS:
            near = (
                faiss.IVFRaBitQSearchParameters(nprobe=probes, qb=QUERY_BITS)
                if "RaBitQ" in kind
                else faiss.SearchParametersIVF(nprobe=probes)
            )
            if kind.startswith("RR"):
                near = faiss.SearchParametersPreTransform(index_params=near)
            parameters = faiss.IndexRefineSearchParameters(k_factor=candidates / K, base_index_params=near)
            good, began = 0, time.perf_counter()
            with in_one_thread():
                for query, bar in zip(queries, bars, strict=True):
                    good += int(np.count_nonzero(refined.search(query[np.newaxis], K, params=parameters)[0] >= bar))
            taken = 1000 * (time.perf_counter() - began) / len(queries)
            figures[f"{probes} lists, {candidates} candidates"] = {
                "recall_at_10": round(good / K / len(queries), 4),
                "ms": round(taken, 3),
            }
        found[kind] = figures
        print(json.dumps({kind: figures}), flush=True)
    return found


def scans(exact: Any, queries: NDArray[np.float32]) -> dict[str, float]:
    """Return the milliseconds that scanning takes, by rows."""
    taken = {}
    for rows in _FLAT:
        few = exact_index(WIDTH)
        few.add(exact.reconstruct_n(0, min(rows, exact.ntotal)))
        with in_one_thread():
            began = time.perf_counter()
            for query in queries:
                few.search(query[np.newaxis], K)
        taken[f"{few.ntotal} rows"] = round(1000 * (time.perf_counter() - began) / len(queries), 3)
    return taken


def powers(parts: list[Vectors], queries: NDArray[np.float32]) -> dict[str, float]:
    """Return the recall of the parts alone, and together for each of ``POWERS``."""
    bars = np.sort(np.concatenate([part.exact.search(queries, K)[0] for part in parts], axis=1), axis=1)[:, -K]
    found = {"recall, alone": round(float(np.mean([recall(part, queries, K) for part in parts])), 4)}
    for power in POWERS:
        by_lists.PARTS_POWER = power
        good = 0
        for query, bar in zip(queries, bars, strict=True):
            best = by_lists.look_up([(part, None) for part in parts], query, K)
            assert best is not None
            good += sum(int(np.count_nonzero(scores >= bar)) for _, scores in best)
        found[f"recall, power {power}"] = round(good / K / len(queries), 4)
    return found


def in_parts(rows: int, count: int, queries: int) -> dict[str, Any]:
    """Build parts whose rows are mixed or apart; return what ``powers`` finds for each number of candidates."""
    by_lists.SCANNED_PER_CANDIDATE = 0  # few rows are here, but they are to be searched like many
    maker = Maker(PARTS_WIDTH)
    all_rows = np.concatenate([maker.chunk(number).vectors for number in range(-(-rows // CHUNK))])[:rows]
    asked = maker.queries(queries)
    report = {}
    for name in ("mixed", "apart"):
        if name == "apart":
            # Along the direction in which the clusters lie furthest apart.
            spread = np.linalg.eigh(np.cov(all_rows[:CHUNK].astype(np.float32).T))[1][:, -1]
            all_rows = all_rows[np.argsort(all_rows.astype(np.float32) @ spread.astype(np.float32))]
        parts = [with_lists(build_vectors(own), flat_rows=0) for own in np.array_split(all_rows, count)]
        tuned = max(part.candidates for part in parts)
        for candidates in (*FEWER, tuned):
            limited = [
                Vectors(part.exact, part.coarse, replace(part.tuning, candidates=candidates))
                for part in parts
                if part.tuning is not None
            ]
            case = f"{name}, {candidates} candidates" + (", tuned" if candidates == tuned else "")
            report[case] = powers(limited, asked)
            print(json.dumps({case: report[case]}), flush=True)
    return report


def main() -> None:
    """Measure both sorts of vectors and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--parts", type=int, help="measure candidates of so many parts together, not kinds")
    chosen = parser.parse_args()
    if chosen.parts:
        found = in_parts(chosen.rows, chosen.parts, chosen.queries)
        write(chosen, "parts-power", begin(rows=chosen.rows, parts=chosen.parts, width=PARTS_WIDTH) | found)
        return
    report = begin() | {"rows": chosen.rows}
    maker = Maker()
    for name, scale in (("even dimensions", 1.0), ("a few large dimensions", LARGE)):
        scales = np.ones(WIDTH, dtype=np.float32)
        scales[:LARGE_DIMENSIONS] = scale
        exact = exact_index(WIDTH)
        for number, start in enumerate(range(0, chosen.rows, CHUNK)):
            exact.add(_unit(maker.chunk(number, min(CHUNK, chosen.rows - start)).vectors.astype(np.float32) * scales))
        queries = _unit(maker.queries(chosen.queries) * scales)
        report[name] = {"scan_ms": scans(exact, queries), **measure(exact, queries)}
    write(chosen, "ann", report)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


if __name__ == "__main__":
    main()

"""Filtered search by vector in ramq, pgvector and Milvus Lite, on the same made-up images in one run.

    python -m benchmarks.bench_filtered build   --folder /tmp/filtered --rows 200000
    python -m benchmarks.bench_filtered tune    --folder /tmp/filtered
    python -m benchmarks.bench_filtered measure --folder /tmp/filtered --name 2-core

A filter is a tag above its threshold, a tag of images that are alike, an archive, or a prefix of keys, and leaves
0.01 to 50 % of the images. ``build`` stores the images in each system. ``tune`` finds for each filter the least effort
with which pgvector (``hnsw.ef_search``, both kinds of ``hnsw.iterative_scan``) and Milvus Lite (``ef``) reach a recall
of 0.95, on queries of their own; ramq has nothing to tune. ``measure`` asks all systems in turns, query by query.

``ramq`` resolves the filter and asks the index; ``ramq, page`` also reads the hits from the database; ``ramq, HTTP`` is
a client of ``ramq web`` that asks for images like one. The others return ids. Each system has one client and may use
all cores. ``core_ms`` is the time that client and server were on cores together, which says more than the clock where
others use the machine. ``--only ramq`` measures ramq alone, with more images than the others can take.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import psutil
import urllib3

from benchmarks.filtered_data import FILTERS, LIMIT, Filter, Images, Truth
from benchmarks.filtered_systems import EFFORTS, MILVUS_EFFORTS, MilvusLite, address_of, ours, pgvector
from benchmarks.report import begin, options, write
from ram_core import load_text_encoder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.filtered_systems import Pgvector

ENOUGH = 0.95
TUNING_QUERIES, WARM_UP = 10, 2
MILVUS = {"Milvus Lite": "HNSW", "Milvus Lite, flat": "FLAT"}


def build(chosen: argparse.Namespace, images: Images) -> None:
    """Store the images in each system, and write what it took."""
    built: dict[str, Any] = {"rows": chosen.rows, "width": images.vectors.shape[1]}
    with ours(chosen.folder / "ramq") as (system, _):
        built["ramq"] = system.build(images)
        print(built, flush=True)
    if chosen.only is None:
        with pgvector(chosen.folder / "pgvector") as graph:
            built["pgvector"] = {**graph.build(images), "version": graph.version}
            print(built["pgvector"], flush=True)
        for name, kind in MILVUS.items():
            with _milvus(chosen, kind) as milvus:
                built[name] = milvus.build(images)
                print(name, built[name], flush=True)
    (chosen.folder / "built.json").write_text(json.dumps(built, indent=1), encoding="utf-8")


def tune(chosen: argparse.Namespace, images: Images) -> None:
    """Find the least effort that suffices for each filter, and write it."""
    queries = images.maker.queries(chosen.queries + TUNING_QUERIES)[chosen.queries :]
    file = chosen.folder / "tuned.json"
    tuned: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with pgvector(chosen.folder / "pgvector") as graph, _milvus(chosen, "HNSW") as milvus:
        for asked in (asked for asked in _chosen(chosen) if asked.name not in tuned):
            truth = images.truth(asked, queries)
            graph.tune("off", EFFORTS[0])
            tuned[asked.name] = {
                "pgvector by default": round(_recall(graph.ask, asked, truth), 4),
                "pgvector": _tuned_graph(graph, asked, truth, [os.getpid(), *_backends(chosen.folder / "pgvector")]),
                "Milvus Lite": _tuned_milvus(milvus, asked, truth),
            }
            print(asked.name, tuned[asked.name], flush=True)
            file.write_text(json.dumps(tuned, indent=1), encoding="utf-8")


def _tuned_graph(graph: Pgvector, asked: Filter, truth: Truth, everyone: list[int]) -> dict[str, Any]:
    """Return the setting that is fastest of those that suffice, or else finds most."""
    found: list[dict[str, Any]] = []
    for mode in ("relaxed_order", "strict_order"):
        for effort in EFFORTS:
            graph.tune(mode, effort)
            began = _on_cores(everyone)
            recall = _recall(graph.ask, asked, truth)
            seconds = _on_cores(everyone) - began
            found.append(
                {"mode": mode, "effort": effort, "recall": round(recall, 4), "core_seconds": round(seconds, 4)}
            )
            if recall >= ENOUGH:
                break
    suffice = [one for one in found if one["recall"] >= ENOUGH]
    return min(suffice, key=itemgetter("core_seconds")) if suffice else max(found, key=itemgetter("recall"))


def _tuned_milvus(milvus: MilvusLite, asked: Filter, truth: Truth) -> dict[str, Any]:
    recall = 0.0
    for effort in MILVUS_EFFORTS:
        milvus.effort = effort
        recall = _recall(milvus.ask, asked, truth)
        if recall >= ENOUGH:
            break
    return {"effort": milvus.effort, "recall": round(recall, 4)}


@contextmanager
def _milvus(chosen: argparse.Namespace, kind: str) -> Iterator[MilvusLite]:
    system = MilvusLite(chosen.folder / f"milvus-{kind.lower()}.db", kind)
    try:
        yield system
    finally:
        system.client.close()


def _chosen(chosen: argparse.Namespace) -> list[Filter]:
    return [asked for asked in FILTERS if chosen.kinds is None or asked.kind in chosen.kinds]


def _recall(ask: Any, asked: Filter, truth: Truth) -> float:
    return float(np.mean([truth.recall(number, ask(asked, query)) for number, query in enumerate(truth.queries)]))


def measure(chosen: argparse.Namespace, images: Images) -> dict[str, Any]:
    """Ask all systems in turns; return milliseconds and recall by filter."""
    built = json.loads((chosen.folder / "built.json").read_text(encoding="utf-8"))
    queries = images.maker.queries(chosen.queries)
    liked = np.random.default_rng(11).integers(0, chosen.rows, chosen.queries)
    tuned: dict[str, Any] = {}
    file = chosen.folder / "measured.json"  # for runs that have to be parted
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with ExitStack() as stack:
        system, url = stack.enter_context(ours(chosen.folder / "ramq", with_web=True))
        asks: dict[str, Any] = {"ramq": system.ask, "ramq, page": system.page}
        http = partial(_ask_over_http, urllib3.PoolManager(maxsize=1, retries=False, timeout=60), url)
        if chosen.only is None:
            tuned |= json.loads((chosen.folder / "tuned.json").read_text(encoding="utf-8"))
            graph = stack.enter_context(pgvector(chosen.folder / "pgvector"))
            asks["pgvector"] = graph.ask
            there = {name: kind for name, kind in MILVUS.items() if name in built}
            opened = {name: stack.enter_context(_milvus(chosen, kind)) for name, kind in there.items()}
            asks |= {name: system.ask for name, system in opened.items()}
        for asked in (asked for asked in _chosen(chosen) if asked.name not in found):
            cell: dict[str, Any] = {"rows": len(images.meeting(asked))}
            if chosen.only is None:
                setting = tuned[asked.name]
                graph.tune(setting["pgvector"]["mode"], setting["pgvector"]["effort"])
                opened["Milvus Lite"].effort = setting["Milvus Lite"]["effort"]
                cell["plan"], cell["settings"] = graph.plan(asked, queries[0]), setting
            servers = [pid for name in ("ramq/services", "pgvector") for pid in _backends(chosen.folder / name)]
            cell |= _in_turns(asks, asked, images.truth(asked, queries), servers)
            near = images.truth(asked, images.vectors[liked].astype(np.float32))
            cell["ramq, HTTP"] = _over_http(http, asked, liked + 1, near)
            found[asked.name] = cell
            print(line(asked.name, cell), flush=True)
            file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {"built": built, "filters": found}


def _in_turns(asks: dict[str, Any], asked: Filter, truth: Truth, servers: list[int]) -> dict[str, dict[str, float]]:
    taken: dict[str, list[float]] = {name: [] for name in asks}
    recalls: dict[str, list[float]] = {name: [] for name in asks}
    cores: dict[str, list[float]] = {name: [] for name in asks}
    reading: list[float] = []  # what it takes to know this
    everyone = [os.getpid(), *servers, *(child.pid for child in psutil.Process().children(recursive=True))]
    for number, query in enumerate((*truth.queries[:WARM_UP], *truth.queries)):
        for name, ask in asks.items():
            seen = _on_cores(everyone)
            on_cores, began = _on_cores(everyone), time.perf_counter()
            ids = ask(asked, query)
            seconds = time.perf_counter() - began
            if number >= WARM_UP:
                taken[name].append(seconds)
                cores[name].append(_on_cores(everyone) - on_cores)
                reading.append(on_cores - seen)
                recalls[name].append(truth.recall(number - WARM_UP, ids))
    own = float(np.median(reading))
    return {
        name: figures(taken[name], recalls[name]) | _core_ms([max(0.0, each - own) for each in cores[name]])
        for name in asks
    }


def _backends(folder: Path) -> list[int]:
    """Return the processes of the PostgreSQL in a folder."""
    file = folder / "postgres" / "postmaster.pid"
    if not file.exists():
        return []
    server = psutil.Process(int(file.read_text(encoding="ascii").split()[0]))
    return [server.pid, *(child.pid for child in server.children())]


def _on_cores(pids: list[int]) -> float:
    """Return for how many seconds the threads of these processes have been on cores."""
    nanoseconds = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # it ended
                nanoseconds += int(file.read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9


def _core_ms(seconds: list[float]) -> dict[str, float]:
    middle, late = np.percentile(seconds, (50, 95))
    return {"p50_core_ms": round(1000 * float(middle), 2), "p95_core_ms": round(1000 * float(late), 2)}


def _over_http(http: Any, asked: Filter, image_ids: NDArray[np.int64], truth: Truth) -> dict[str, float]:
    """Ask for images like some. The image itself is no hit, so it counts as found if it meets the filter."""
    taken, recalls = [], []
    for number, image_id in enumerate(image_ids.tolist()):
        seconds, ids = http(asked, image_id)
        taken.append(seconds)
        recalls.append(truth.recall(number, [image_id, *ids][: LIMIT + (image_id not in truth.meeting)]))
    return figures(taken[WARM_UP:], recalls)


def _ask_over_http(pool: urllib3.PoolManager, url: str, asked: Filter, image_id: int) -> tuple[float, list[int]]:
    began = time.perf_counter()
    answer = pool.request("GET", url.rstrip("/") + address_of(asked, image_id))
    seconds = time.perf_counter() - began
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {answer.data[:500]!r}")
    return seconds, [hit["image_id"] for hit in answer.json()["items"]]


def figures(seconds: list[float], recalls: list[float]) -> dict[str, float]:
    """Return milliseconds and recall."""
    middle, late = np.percentile(seconds, (50, 95))
    return {
        "p50_ms": round(1000 * float(middle), 2),
        "p95_ms": round(1000 * float(late), 2),
        "recall_at_10": round(float(np.mean(recalls)), 4),
    }


def line(name: str, cell: dict[str, Any]) -> str:
    """Return one line of a table."""
    cells = (
        f"{system} {one['recall_at_10']:.3f} {one['p50_ms']:.1f}/{one['p95_ms']:.1f} {one.get('p50_core_ms', 0):.1f}"
        for system, one in cell.items()
        if isinstance(one, dict) and "p50_ms" in one
    )
    return f"{name:16} " + " | ".join(cells) + f" | {cell.get('plan', '')}"


def main() -> None:
    """Do one of the three steps."""
    parser = options(__doc__)
    parser.add_argument("step", choices=("build", "tune", "measure"))
    parser.add_argument(
        "--folder", type=Path, required=True, help="where the systems keep their data between the steps"
    )
    parser.add_argument("--rows", type=int, default=200_000, help="images")
    parser.add_argument("--queries", type=int, default=60, help="for each filter")
    parser.add_argument("--only", choices=("ramq",), help="measure this system alone")
    parser.add_argument("--kinds", nargs="+", help="kinds of filters; default: all")
    chosen = parser.parse_args()
    report = begin(memory_gb=round(psutil.virtual_memory().total / 2**30), faiss=faiss.__version__)
    width = int(load_text_encoder("lite").encode(["a cat"]).shape[1])
    images = Images(chosen.rows, width)
    if chosen.step == "build":
        chosen.folder.mkdir(parents=True, exist_ok=True)
        build(chosen, images)
    elif chosen.step == "tune":
        tune(chosen, images)
    else:
        report |= {"rows": chosen.rows, "queries": chosen.queries} | measure(chosen, images)
        write(chosen, "filtered" if chosen.only is None else "filtered-ramq", report)


if __name__ == "__main__":
    main()

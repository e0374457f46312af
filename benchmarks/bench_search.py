"""How fast search answers as an archive grows, and what the index costs: real PostgreSQL, real index, made-up images.

    python -m benchmarks.bench_search --rows 100000 1000000

Every kind is measured twice: through ``Search``, as the web server calls it (resolving, the index, reading the page's
hits from the database), and through the door, as a client of ``ramq web`` sees it on a connection that is kept. Beside
them stands bare FAISS on the same files in the same run. ``recall_at_10`` is against a scan of the same vectors.
10,000,000 images need some 45 GB of disk.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np
import psutil

from benchmarks.bench_load import door, serving
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, DAYS, NEWEST, Maker, load, prepare, record_rows
from ram_core import load_text_encoder
from ramq.embedded import embedded
from ramq.web.deps import query_string
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import MAX_SEGMENT_ROWS, IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.index.manifest import generation_folder
from storage.index.segment import described
from storage.index.selection import Selection
from storage.index.vectors import QUERY_BITS, Vectors, in_one_thread, open_vectors
from storage.migrate import upgrade
from storage.results.records import lock_existing, write_records
from storage.results.spaces import TEXT
from storage.search.compared import Compared
from storage.search.language import AllOf, AnyOf, FieldTerm, NotOf, TagTerm
from storage.search.query import resolve
from storage.search.search import Search
from storage.search.views import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

faiss: Any = _faiss

QUERIES = 200
WARM_UP = 20
LIMIT = 10
INGEST_BATCHES = (64, 512)
INGEST_ROWS = 8_192
SHARES = {"50 %": DAYS // 2, "1 %": DAYS // 100, "0.01 %": 1}
"""Filters by date: so many days are a share of all images."""


class Bench:
    """A database and an index that grow.

    Args:
        url: an empty database.
        folder: for the index.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = make_engine(url)
        upgrade(self.engine)
        self.place = FolderStorage(folder / "index")
        # As wide as lite's vectors, so that the web server can encode texts.
        width = int(load_text_encoder("lite").encode(["a cat"]).shape[1])
        self.provenance = prepare(self.engine, width=width)
        self.generation_id = self.provenance.generation_id
        self.builder = IndexBuilder(self.engine, self.place, folder / "cache")
        self.index = VectorIndex(self.place, folder / "cache")
        self.search = Search(lambda: self.index)
        self.maker = Maker(width)
        self.vectors = self.maker.queries(QUERIES)
        self.rows = 0

    def grow(self, rows: int) -> dict[str, Any]:
        """Load images until there are so many, and publish them."""
        seconds = {"load": 0.0, "publish": 0.0}
        waiting = 0
        while self.rows < rows:
            began = time.perf_counter()
            count = min(CHUNK, rows - self.rows)
            load(self.engine, self.maker.chunk(self.rows // CHUNK, count), self.provenance)
            seconds["load"] += time.perf_counter() - began
            self.rows += count
            waiting += count
            if waiting + CHUNK > MAX_SEGMENT_ROWS or self.rows == rows:
                began = time.perf_counter()
                self.builder.publish_new(self.generation_id, force=True)
                seconds["publish"] += time.perf_counter() - began
                waiting = 0
        began = time.perf_counter()
        while self.builder.compact(self.generation_id):
            pass
        seconds["compact"] = time.perf_counter() - began
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute("ANALYZE")
            status = self.index.status(session, self.generation_id)
        return {
            "seconds": {stage: round(taken, 2) for stage, taken in seconds.items()},
            "segments": [facts["coarse"] or "scanned" for facts in self._descriptions()],
            "bytes_per_image": round(status.bytes / self.rows, 1),
        }

    def measure(self) -> dict[str, Any]:
        """Time every kind of query; return milliseconds, recall and memory."""
        found: dict[str, Any] = {"SELECT 1": timed(self._round_trip)}
        for name, query in self._queries().items():
            found[name] = timed(partial(self._ask, query))
            if query(0).text:
                found[name]["recall_at_10"] = self._recall(query)
        found["facets of all"] = timed(partial(self._facets, SearchQuery()))
        for share in SHARES:
            found[f"facets of {share}"] = timed(partial(self._facets, SearchQuery(where=newer(share))))
        found["text, bare FAISS"] = timed(self._bare())
        found["text, ours / bare FAISS"] = round(found["text"]["p50_ms"] / found["text, bare FAISS"]["p50_ms"], 2)
        return {"queries": found, "memory": memory()}

    def measure_door(self, url: str) -> dict[str, dict[str, float]]:
        """Time every kind of query as an HTTP client sees it."""
        ask = door(url)

        def search(query: Callable[[int], SearchQuery], number: int) -> None:
            ask(f"/v1/search?limit={LIMIT}&{query_string(query(number))}")

        found = {"health": timed(lambda _: ask("/healthz"))}
        return found | {name: timed(partial(search, query)) for name, query in self._queries().items()}

    def ingest(self) -> dict[str, Any]:
        """Commit results in batches, against COPY of the same bytes into a table without an index."""
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute(
                "CREATE TABLE bench (image_id bigint, tags smallint[], scores smallint[], v bytea)"
            )
        found = {}
        first = self.rows // CHUNK + 1
        for place, size in enumerate(INGEST_BATCHES):
            chunk = self.maker.chunk(first + place, INGEST_ROWS)
            load(self.engine, chunk, self.provenance, with_records=False)
            rows = record_rows(chunk)
            taken: dict[str, list[float]] = {"ours": [], "copy": []}
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                began = time.perf_counter()
                with unit_of_work(self.engine) as session:
                    lock_existing(session, [row.image_id for row in batch])
                    write_records(session, batch, self.provenance)
                between = time.perf_counter()
                with (
                    unit_of_work(self.engine) as session,
                    driver_connection(session).cursor() as cursor,
                    cursor.copy("COPY bench FROM STDIN (FORMAT binary)") as copy,
                ):
                    copy.set_types(["int8", "int2[]", "int2[]", "bytea"])
                    for row in batch:
                        copy.write_row((row.image_id, row.tags, row.scores, row.vector))
                taken["ours"].append(between - began)
                taken["copy"].append(time.perf_counter() - between)
            ours, copied = (size / statistics.median(seconds) for seconds in taken.values())
            found[f"batches of {size}"] = {
                "ours_per_second": round(ours),
                "copy_per_second": round(copied),
                "ratio": round(ours / copied, 3),
            }
        return found

    def _queries(self) -> dict[str, Callable[[int], SearchQuery]]:
        """Return what is asked, by number: tags change with it, from frequent to rare."""

        def tag(number: int, step: int = 0) -> str:
            return f"tag {(7 * number + step) % 1500}"

        def boolean(number: int) -> SearchQuery:
            either = AnyOf((TagTerm(tag(number)), TagTerm(tag(number, 3))))
            return SearchQuery(limit=LIMIT, where=AllOf((either, NotOf(TagTerm("tag 2")), newer("50 %"))))

        plain = SearchQuery(limit=LIMIT)
        text = replace(plain, text="made up")
        return {
            "tag": lambda number: replace(plain, tags=(tag(number),)),
            "two tags": lambda number: replace(plain, tags=(tag(number), "tag 1")),
            "boolean": boolean,
            "text": lambda _: text,
            "text and tag": lambda number: replace(text, tags=(tag(number),)),
            **{
                f"text in {share}": lambda _, share=share: replace(text, where=newer(share))  # type: ignore[misc]
                for share in SHARES
            },
        }

    def _page(self, query: SearchQuery, number: int) -> list[int]:
        with unit_of_work(self.engine) as session:
            page = self.search.page(
                session, query, [Compared(TEXT, "text", self.vectors[number])] if query.text else ()
            )
        return [hit.image_id for hit in page.items]

    def _ask(self, query: Callable[[int], SearchQuery], number: int) -> None:
        self._page(query(number), number)

    def _facets(self, query: SearchQuery, _: int) -> None:
        with unit_of_work(self.engine) as session:
            self.search.facets(session, query, 50)

    def _round_trip(self, _: int) -> None:
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute("SELECT 1")

    def _recall(self, query: Callable[[int], SearchQuery]) -> float:
        """Return the share of the ten nearest that are found, against a scan of the same selection."""
        shares = []
        for number in range(0, QUERIES, 4):
            with unit_of_work(self.engine) as session:
                match = resolve(session, query(number), self.search.vocabulary)
                assert match is not None
                view = self.index.view(session, self.generation_id)
            scanned = Selection.of(view, match.condition)
            parts = tuple((replace(part, vectors=Vectors(part.vectors.exact)), rows) for part, rows in scanned.parts)
            truth, _ = replace(scanned, parts=parts).nearest(self.vectors[number], LIMIT)
            found = self._page(query(number), number)
            if len(truth):
                shares.append(len(np.intersect1d(truth, found)) / len(truth))
        return round(float(np.mean(shares)), 4) if shares else 1.0

    def _bare(self) -> Callable[[int], None]:
        """Return FAISS alone on the files of the index: its own way to score candidates again, no rows, no names."""
        opened = []
        for folder, facts in zip(self._folders(), self._descriptions(), strict=True):
            vectors = open_vectors(folder, facts["coarse"])
            if vectors.tuning is None:
                opened.append((vectors, vectors.exact, None))
                continue
            lists = faiss.IVFRaBitQSearchParameters(nprobe=vectors.tuning.probes, qb=QUERY_BITS)
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=vectors.tuning.candidates / LIMIT,
                base_index_params=faiss.SearchParametersPreTransform(index_params=lists),
            )
            opened.append((vectors, faiss.IndexRefine(vectors.coarse, vectors.exact), parameters))

        def search(number: int) -> None:
            with in_one_thread():
                for _, index, parameters in opened:
                    index.search(self.vectors[number : number + 1], LIMIT, params=parameters)

        return search

    def _folders(self) -> list[Path]:
        with unit_of_work(self.engine) as session:
            number = self.index.status(session, self.generation_id).manifest
        assert number is not None
        manifest = self.index.store.manifest(self.generation_id, number)
        root = Path(self.place.root) / generation_folder(self.generation_id)
        return [root / entry.name for entry in manifest.segments]

    def _descriptions(self) -> list[dict[str, Any]]:
        return [described(folder, folder.name) for folder in self._folders()]


def newer(share: str) -> FieldTerm:
    """Return a filter that a share of the images meets."""
    return FieldTerm("after", str((NEWEST - np.timedelta64(SHARES[share] - 1, "D")).astype("datetime64[D]")))


def timed(call: Callable[[int], object]) -> dict[str, float]:
    """Call with one number after the other; return the median and the 95th percentile in milliseconds."""
    for number in range(WARM_UP):
        call(number)
    taken = []
    for number in range(QUERIES):
        began = time.perf_counter()
        call(number)
        taken.append(1000 * (time.perf_counter() - began))
    return {"p50_ms": round(statistics.median(taken), 3), "p95_ms": round(float(np.percentile(taken, 95)), 3)}


def memory() -> dict[str, float]:
    """Return this process's memory in MB: its own, and what it mapped and the kernel may take back."""
    rollup = dict(
        line.split(":") for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    )
    own, resident = (int(rollup[field].split()[0]) / 1024 for field in ("Anonymous", "Rss"))
    return {"own_mb": round(own, 1), "mapped_mb": round(resident - own, 1)}


def table(sizes: Sequence[dict[str, Any]]) -> str:
    """Return how each figure grows with the number of images."""
    lines = [f"{'images':32}" + "".join(f"{size['rows']:>24,}" for size in sizes)]
    for name in sizes[0]["queries"]:
        cells = []
        for size in sizes:
            figure = size["queries"][name]
            if not isinstance(figure, dict):
                cells.append(str(figure))
                continue
            recall = f" r {figure['recall_at_10']:.3f}" if "recall_at_10" in figure else ""
            cells.append(f"{figure['p50_ms']:.2f} / {figure['p95_ms']:.2f}{recall}")
        lines.append(f"{name:32}" + "".join(f"{cell:>24}" for cell in cells))
    for name in sizes[0]["through_the_door"]:
        figures = [size["through_the_door"][name] for size in sizes]
        cells = [f"{figure['p50_ms']:.2f} / {figure['p95_ms']:.2f}" for figure in figures]
        lines.append(f"HTTP, {name:26}" + "".join(f"{cell:>24}" for cell in cells))
    plain = {
        f"{name}, s": [size["index"]["seconds"][name] for size in sizes] for name in ("load", "publish", "compact")
    }
    plain["index, B an image"] = [size["index"]["bytes_per_image"] for size in sizes]
    plain |= {f"memory, {name}": [size["memory"][name] for size in sizes] for name in ("own_mb", "mapped_mb")}
    lines += [f"{name:32}" + "".join(f"{figure:>24}" for figure in figures) for name, figures in plain.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure at every size, print a table, write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="images, ascending")
    parser.add_argument("--folder", type=Path, help="where the database and the index lie meanwhile")
    chosen = parser.parse_args()
    report = begin(faiss=faiss.__version__, memory_gb=round(psutil.virtual_memory().total / 2**30))
    sizes = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name))
        for rows in sorted(chosen.rows):
            index = bench.grow(rows)
            inside = bench.measure()
            with serving(services, Path(name)) as (url, _):
                door = bench.measure_door(url)
            sizes.append({"rows": rows, "index": index, **inside, "through_the_door": door})
            print(table(sizes), flush=True)
        ingest = bench.ingest()
        bench.engine.dispose()
    print(json.dumps(ingest, indent=1))
    report |= {"sizes": sizes, "ingest": ingest}
    write(chosen, "search", report)


if __name__ == "__main__":
    main()

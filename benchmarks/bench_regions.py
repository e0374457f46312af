"""How fast regions are stored and searched, and what they take: real PostgreSQL, real index, made-up regions.

    python -m benchmarks.bench_regions --rows 100000 1000000

Every image has 0 to 15 regions, 10 on average, of 500 tags that are as uneven as those of photographs: the commonest is
in three fifths of the images. With ``--masks``, each region has a mask of an ellipse in a picture of 480 x 640. The
first 51,199 images are written as workers write them; the sizes are of these. What search reads of the rest is copied
from them.

Questions are asked of ``Search``, and of ``ramq web`` on a connection that is kept: *cold*, in a process that knows
nothing of regions yet; *first*, in one that has read regions beforehand, as a server does, but was not asked for this
yet; *again*. A question is the first page of hits, or the page with its facets. ``on core`` is what this process and
its server process of PostgreSQL took, which does not grow with what neighbours do.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from benchmarks.bench_load import door, serving
from benchmarks.report import begin, options, write
from benchmarks.search_data import CHUNK, Maker, load, prepare
from benchmarks.table_sizes import bytes_each
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.migrate import upgrade
from storage.results import generations, region_search, regions
from storage.results.generations import StageSpec
from storage.results.masks import of_pixels
from storage.results.records import lock_existing
from storage.results.region_lists import BLOCK_BITS, EVERY
from storage.results.region_views import FoundRegion, RegionsRow
from storage.results.spaces import TEXT
from storage.search.compared import Compared
from storage.search.kept_regions import KeptRegions
from storage.search.search import Search
from storage.search.views import SearchQuery, asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BATCH = 64
TAGS = 500
REGIONS = 10
WRITTEN = 200 << BLOCK_BITS
"""Images before this number are written, the others copied."""

WIDTH = 64
"""Of the vectors: they are not what is measured."""

LIMIT = 20
TABLES = ("localization", "located_image", "region_list")
SOME = 40
"""Questions of a kind."""


def questions() -> dict[str, list[str]]:
    """Return what is asked, by kind."""
    common, usual, rare = ([f'"tag {n}"' for n in of] for of in (range(1, 11), range(20, 60), range(300, 340)))
    return {
        "the commonest >= 1": ['count:"tag 0">=1'],
        "the commonest, other numbers": [f'count:"tag 0">={n}' for n in range(2, 6)] + ['area:"tag 0">30%'],
        "a common tag >= 1": [f"count:{tag}>=1" for tag in common],
        "a common tag, area > 10%": [f"area:{tag}>10%" for tag in common],
        "a usual tag >= 1": [f"count:{tag}>=1" for tag in usual],
        "a rare tag >= 1": [f"count:{tag}>=1" for tag in rare],
        "a common tag = 0": [f"count:{tag}=0" for tag in common],
        "every located image": ["count:nothing=0"],
        "two counts and a tag": [
            f'count:{a}>=1 count:{b}>=1 tag:"tag {n}"' for n, (a, b) in enumerate(zip(common, usual, strict=False))
        ],
        "one OR another, without a tag": [
            f'(count:{a}>=2 OR area:{b}>20%) -"tag {n}"' for n, (a, b) in enumerate(zip(common, usual, strict=False))
        ],
        "text and a count": [f"made up count:{tag}>=1" for tag in common],
    }


class Bench:
    """A database with regions, and an index.

    Args:
        url: an empty database.
        folder: for the index.
        with_masks: whether regions have masks.
    """

    def __init__(self, url: str, folder: Path, *, with_masks: bool) -> None:
        self.engine = make_engine(url)
        upgrade(self.engine)
        self.recognised = prepare(self.engine, width=WIDTH)
        with unit_of_work(self.engine) as session:
            generation_id = generations.ensure_of_stage(session, StageSpec("locate", "made up", "locator", "", ""))
        self.provenance = replace(self.recognised, generation_id=generation_id)
        place = FolderStorage(folder / "index")
        self.builder = IndexBuilder(self.engine, place, folder / "cache")
        self.index = VectorIndex(place, folder / "cache")
        self.maker = Maker(WIDTH)
        self.vector = self.maker.queries(1)[0]
        self.with_masks = with_masks
        self.rows = 0

    def grow(self, rows: int) -> dict[str, Any]:
        """Load images until there are so many, with regions, and publish them."""
        began = time.perf_counter()
        found: dict[str, Any] = {}
        while self.rows < rows:
            load(self.engine, self.maker.chunk(self.rows // CHUNK), self.recognised)
            before, self.rows = self.rows, self.rows + CHUNK
            if before < WRITTEN <= self.rows:
                found = self._store()
            self._tell(began)
        with unit_of_work(self.engine) as session:
            driver_connection(session).execute(
                f"""INSERT INTO located_image (image_id, generation_id, names)
                    SELECT image_id + shift, generation_id, names FROM located_image
                    CROSS JOIN generate_series({WRITTEN}, {self.rows}, {WRITTEN}) AS shift
                    WHERE image_id < {WRITTEN} AND image_id + shift <= {self.rows} ORDER BY 1 ON CONFLICT DO NOTHING"""
            )
            blocks = WRITTEN >> BLOCK_BITS
            driver_connection(session).execute(
                f"""INSERT INTO region_list (name, block, packed)
                    SELECT name, block + shift, packed FROM region_list
                    CROSS JOIN generate_series({blocks}, {self.rows >> BLOCK_BITS}, {blocks}) AS shift
                    WHERE block < {blocks} AND block + shift <= {self.rows >> BLOCK_BITS} ORDER BY 1, 2
                    ON CONFLICT DO NOTHING"""
            )
        self._tell(began)
        self.builder.publish_new(self.recognised.generation_id, force=True)
        while self.builder.compact(self.recognised.generation_id):
            pass
        self._tell(began)
        self._vacuum()
        return found

    def _store(self) -> dict[str, Any]:
        """Write regions as workers do. Return rates, and the bytes that they take, with their indexes."""
        seconds, count, images = 0.0, 0, 0
        for batch in made_up(WRITTEN - 1, with_masks=self.with_masks):
            began = time.perf_counter()
            with unit_of_work(self.engine) as session:
                lock_existing(session, [row.image_id for row in batch])
                regions.write_regions(session, batch, self.provenance)
            seconds += time.perf_counter() - began
            count += sum(len(row.regions) for row in batch)
            images += len(batch)
        self._vacuum()
        sizes = bytes_each(self.engine, TABLES, count)
        return {
            "images": images,
            "regions": count,
            "images_per_second": round(images / seconds),
            "regions_per_second": round(count / seconds),
            "bytes_per_region": {**sizes, "all": round(sum(sizes.values()), 1)},
        }

    def _vacuum(self) -> None:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.exec_driver_sql("VACUUM ANALYZE")

    def _tell(self, began: float) -> None:
        print(f"{self.rows:,} images after {time.perf_counter() - began:.0f} s", flush=True)

    def measure(self) -> dict[str, Any]:
        """Time every kind of question; return milliseconds."""
        found: dict[str, Any] = {"warming": self._warming()}
        search = Search(lambda: self.index)
        self._ask(search, "", facets=False)  # opens the index
        timed = partial(_timed, self._cores())
        for name, asked in questions().items():
            cold = timed([partial(self._cold, search, one) for one in _some(asked, SOME // 2)])
            search.regions = KeptRegions()
            search.regions.warm(partial(unit_of_work, self.engine))
            hits = [self._ask(search, one, facets=False) for one in asked[:1]]
            calls = [partial(self._ask, search, one, facets=False) for one in asked]
            first = timed(calls)
            again = timed(_some(calls, SOME))
            facets = timed([partial(self._ask, search, one, facets=True) for one in _some(asked, SOME // 2)])
            found[name] = {"hits": hits[0], "cold": cold, "first": first, "again": again, "with_facets": facets}
            print(f"{name:30}{found[name]}", flush=True)
        return found

    def _warming(self) -> dict[str, Any]:
        """Return how long a process takes to read all regions, and what that takes of its memory."""
        with unit_of_work(self.engine) as session:
            sizes = region_search.sizes(session)
        kept = KeptRegions()
        began = time.perf_counter()
        kept.warm(partial(unit_of_work, self.engine))
        seconds = time.perf_counter() - began
        with unit_of_work(self.engine) as session:
            taken = sum(each.nbytes for each in kept.images(session, sizes).values())
        return {
            "seconds": round(seconds, 2),
            "megabytes": round(taken / 2**20, 1),
            "tags": len(sizes) - 1,
            "images": sizes[EVERY],
            "images_of_tags": sum(sizes.values()) - sizes[EVERY],
            "is_whole": not kept.needs_warming,
        }

    def measure_door(self, services: Any, folder: Path) -> dict[str, Any]:
        """Time every kind of question as an HTTP client sees it, in a server that has just read regions."""
        found = {}
        (folder / "web.log").unlink(missing_ok=True)  # it has the address of an earlier server
        with serving(services, folder) as (url, _):
            ask = door(url)
            ask("/v1/search?limit=1")
            time.sleep(self.seconds_to_warm)
            for name, asked in questions().items():
                if name.startswith("text"):
                    continue  # the vectors here are too narrow for an encoder
                calls = [partial(ask, f"/v1/search?limit={LIMIT}&q={quote(one)}") for one in asked]
                pages = [partial(ask, f"/?q={quote(one)}") for one in _some(asked, SOME // 2)]
                first, again, page = (_timed([], each) for each in (calls, _some(calls, SOME), pages))
                found[name] = {"first": first, "again": again, "page_with_facets": page}
                print(f"HTTP, {name:30}{found[name]}", flush=True)
            found["a tag"] = {"again": _timed([], [partial(ask, f"/v1/search?limit={LIMIT}&tag=tag%2020")] * SOME)}
        return found

    @property
    def seconds_to_warm(self) -> float:
        """How long a server is given to read regions."""
        return 3 + self.rows / 50_000

    def _cold(self, search: Search, asked: str) -> int:
        search.regions = KeptRegions()
        return self._ask(search, asked, facets=False)

    def _ask(self, search: Search, asked: str, *, facets: bool) -> int:
        query = asking(SearchQuery(limit=LIMIT), asked)
        compared = [Compared(TEXT, "text", self.vector)] if query.text else ()
        with unit_of_work(self.engine) as session:
            if facets:
                page = search.page_with_facets(session, query, 40, compared)[0]
            else:
                page = search.page(session, query, compared)
        return page.total or 0

    def _cores(self) -> list[Path]:
        """Return where Linux says how long this process and its server process were on a core."""
        with unit_of_work(self.engine) as session:
            row = driver_connection(session).execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        return [Path(f"/proc/{pid}/schedstat") for pid in ("self", row[0])]


def _timed(cores: Sequence[Path], calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Call each once; return medians and 95th percentiles in milliseconds."""
    taken: dict[str, list[float]] = {"": [], "on_core_": []}
    for call in calls:
        began, before = time.perf_counter(), sum(map(_on_core_ms, cores))
        call()
        taken["on_core_"].append(sum(map(_on_core_ms, cores)) - before)
        taken[""].append(1000 * (time.perf_counter() - began))
    return {
        f"{of}{name}_ms": round(float(np.percentile(each, share)), 2)
        for of, each in taken.items()
        if cores or not of
        for name, share in (("p50", 50), ("p95", 95))
    }


def _on_core_ms(file: Path) -> float:
    return int(file.read_text(encoding="ascii").split()[0]) / 1e6


def _some(things: Sequence[Any], count: int) -> list[Any]:
    """Return so many things, some of them several times."""
    return [things[n % len(things)] for n in range(count)]


def made_up(rows: int, *, with_masks: bool) -> Iterator[list[RegionsRow]]:
    """Yield batches of rows for the images 1 to ``rows``."""
    rng = np.random.default_rng(4)
    weights = 1 / (np.arange(TAGS) + 2.0)
    weights /= weights.sum()
    masks = [_ellipse(rng) for _ in range(64)] if with_masks else []
    for start in range(1, rows + 1, BATCH):
        found = []
        for image_id in range(start, min(start + BATCH, rows + 1)):
            count = min(15, rng.poisson(REGIONS))
            tags = rng.choice(TAGS, count, p=weights)
            sides = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4)
            own = [
                FoundRegion(
                    f"tag {tag}",
                    0.5,
                    (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                    masks[image_id % 64] if masks else None,
                    0.9 if masks else None,
                )
                for tag, box in zip(tags.tolist(), sides, strict=True)
            ]
            found.append(RegionsRow(image_id, "v", own, is_cut=False))
        yield found


def _ellipse(rng: np.random.Generator) -> bytes:
    y, x = np.ogrid[:480, :640]
    (a, b), (c, d) = rng.uniform(0.3, 0.7, 2), rng.uniform(0.05, 0.3, 2)
    pixels = ((y / 480 - a) / c) ** 2 + ((x / 640 - b) / d) ** 2 + rng.normal(0, 0.01, (480, 640)) < 1
    return of_pixels(pixels).to_bytes()


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="images, ascending")
    parser.add_argument("--masks", action="store_true", help="give each region a mask")
    parser.add_argument("--folder", type=Path, help="where the database lies meanwhile")
    chosen = parser.parse_args()
    report = begin() | {"with_masks": chosen.masks, "regions_of_an_image": REGIONS}
    sizes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        bench = Bench(services.database_url, Path(name), with_masks=chosen.masks)
        for rows in sorted(chosen.rows):
            stored = bench.grow(rows)
            if stored:
                report["stored"] = stored
                print(stored, flush=True)
            inside = bench.measure()
            door = bench.measure_door(services, Path(name))
            sizes.append({"rows": rows, "questions": inside, "through_http": door, "load": os.getloadavg()[0]})
            write(chosen, "regions", report | {"sizes": sizes})
        bench.engine.dispose()


if __name__ == "__main__":
    main()

"""How fast regions are stored and counted, and what they take: real PostgreSQL, made-up regions.

    python -m benchmarks.bench_regions --rows 100000

Every image has 0 to 15 regions, 5 on average, of 500 tags that are as uneven as those of photographs: the commonest is
in two fifths of the images. With ``--masks``, each region has a mask of an ellipse in a picture of 480 x 640. Questions
are asked as a search asks them, through ``KeptImages``: *first*, when the process was not asked for them yet, and
*again*. What the index does with the ids is in ``bench_read``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import begin, options, write
from ramq.embedded import embedded
from storage.database import driver_connection, make_engine, unit_of_work
from storage.migrate import upgrade
from storage.results import generations, regions
from storage.results.generations import StageSpec
from storage.results.masks import of_pixels
from storage.results.records import Provenance, lock_existing
from storage.results.region_search import Counted, Located
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search.kept_images import KeptImages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

BATCH = 64
TAGS = 500
TABLES = ("localization", "located_image", "region_count")
ASKED = {
    "count of the commonest >= 1": [Counted(("tag 0",), "regions", 1, None)],
    "count of a common tag >= 2": [Counted((f"tag {n}",), "regions", 2, None) for n in range(1, 10)],
    "count of a usual tag >= 1": [Counted((f"tag {n}",), "regions", 1, None) for n in range(20, 80)],
    "count of a rare tag >= 1": [Counted((f"tag {n}",), "regions", 1, None) for n in range(300, 360)],
    "area of a common tag > 0.1": [Counted((f"tag {n}",), "area", 100_001, None) for n in range(1, 10)],
    "every located image": [Located()],
}


def made_up(rows: int, *, with_masks: bool) -> Iterator[list[RegionsRow]]:
    """Yield batches of rows for the images 1 to ``rows``."""
    rng = np.random.default_rng(4)
    weights = 1 / (np.arange(TAGS) + 2.0)
    weights /= weights.sum()
    masks = [_ellipse(rng) for _ in range(64)] if with_masks else []
    for start in range(1, rows + 1, BATCH):
        found = []
        for image_id in range(start, min(start + BATCH, rows + 1)):
            count = min(15, rng.poisson(5))
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


def store(engine: Engine, rows: int, *, with_masks: bool) -> dict[str, Any]:
    """Write regions as workers do. Return rates, and the bytes that they take, with their indexes."""
    with unit_of_work(engine) as session:
        connection = driver_connection(session)
        connection.execute("INSERT INTO archive (uri) VALUES ('s3://photos')")
        connection.execute(
            """INSERT INTO image (archive_id, key, version, size)
               SELECT 1, lpad(n::text, 9, '0'), 'v', 1 FROM generate_series(1, %s) AS n""",
            [rows],
        )
        generation_id = generations.ensure_of_stage(session, StageSpec("locate", "made up", "locator", "", ""))
    provenance = Provenance(1, generation_id, "none")
    seconds, count = 0.0, 0
    for batch in made_up(rows, with_masks=with_masks):
        began = time.perf_counter()
        with unit_of_work(engine) as session:
            lock_existing(session, [row.image_id for row in batch])
            regions.write_regions(session, batch, provenance)
        seconds += time.perf_counter() - began
        count += sum(len(row.regions) for row in batch)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
        plain.exec_driver_sql("VACUUM ANALYZE")
    sizes = {}
    with unit_of_work(engine) as session:
        for table in TABLES:
            row = (
                driver_connection(session)
                .execute(
                    """SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class
                       WHERE relkind = 'r' AND relname ~ %s""",
                    [rf"^{table}(_g\d+_p\d+)?$"],
                )
                .fetchone()
            )
            assert row is not None
            sizes[f"{table} bytes"], sizes[f"{table} indexes"] = (round(float(n) / count, 1) for n in row)
    return {
        "regions": count,
        "images_per_second": round(rows / seconds),
        "regions_per_second": round(count / seconds),
        "bytes_per_region": {**sizes, "all": round(sum(sizes.values()), 1)},
    }


def measure(engine: Engine) -> dict[str, Any]:
    """Time every kind of question: medians and 95th percentiles in milliseconds."""
    found: dict[str, Any] = {}
    for name, asked in ASKED.items():
        first: list[float] = []
        again: list[float] = []
        spent: list[float] = []
        hits: list[int] = []
        for _ in range(max(1, 40 // len(asked))):
            kept = KeptImages()
            for taken in (first, again):
                for one in asked:
                    with unit_of_work(engine) as session:
                        driver_connection(session)  # the connection is made before
                        began, before = time.perf_counter(), on_core_ms(session)
                        hits.append(len(kept.matching(session, one)))
                        on_core = on_core_ms(session) - before
                        taken.append(1000 * (time.perf_counter() - began))
                        if taken is first:
                            spent.append(on_core)
        found[name] = {"median_hits": statistics.median(hits)} | {
            f"{which}_{of}_ms": round(float(np.percentile(taken, share)), 2)
            for which, taken in (("first", first), ("first_core", spent), ("again", again))
            for of, share in (("p50", 50), ("p95", 95))
        }
        print(f"{name:30}{found[name]}", flush=True)
    return found


def on_core_ms(session: Session) -> float:
    """Return how long this process and its server process were on a core. It does not grow with what neighbours do."""
    row = driver_connection(session).execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    files = [Path(f"/proc/{pid}/schedstat") for pid in ("self", row[0])]
    return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e6


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="images")
    parser.add_argument("--masks", action="store_true", help="give each region a mask")
    parser.add_argument("--folder", type=Path, help="where the database lies meanwhile")
    chosen = parser.parse_args()
    report = begin()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, embedded(Path(name) / "services") as services:
        engine = make_engine(services.database_url)
        upgrade(engine)
        report |= {"rows": chosen.rows, "with_masks": chosen.masks}
        report["stored"] = store(engine, chosen.rows, with_masks=chosen.masks)
        print(report["stored"], flush=True)
        report["questions"] = measure(engine)
        engine.dispose()
    write(chosen, "regions", report)


if __name__ == "__main__":
    main()

"""What a worker and its index loop do to a database and an index, without a model; ``bench_ingest_search`` runs it.

It is run as a script, with the code of whichever checkout is on ``PYTHONPATH``. It stores results of made-up images in
batches, at a rate or as fast as it can, and publishes them again and again, until its input is closed. Then it says
what it did.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.search_data import CHUNK, Maker, load, record_rows
from storage.database import make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.results.records import Provenance, lock_existing, write_records

BATCH = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ingest.

    Attributes:
        url: the database, as SQLAlchemy names it.
        folder: has the index (``index``) and the builder's cache.
        first: the number of the first chunk of images that the database does not have.
        width: numbers in a vector.
        rate: images a second, if the machine can.
        publish_seconds: pause between publications.
        job_id: of the rows.
        generation_id: of the rows.
    """

    url: str
    folder: str
    first: int
    width: int
    rate: float
    publish_seconds: float
    job_id: int
    generation_id: int


def main(argument: str) -> None:
    """Do what a plan, in JSON, says."""
    plan = Plan(**json.loads(argument))
    engine = make_engine(plan.url)
    folder = Path(plan.folder)
    builder = IndexBuilder(engine, FolderStorage(folder / "index"), folder / "cache")
    provenance = Provenance(plan.job_id, plan.generation_id, "none")
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    chunk = Maker(plan.width).chunk(plan.first)
    load(engine, chunk, provenance, with_records=False)
    rows = record_rows(chunk)
    published: list[float] = []

    def publish() -> None:
        while not over.wait(plan.publish_seconds):
            began = time.monotonic()
            builder.publish_new(plan.generation_id, force=True)
            builder.compact(plan.generation_id)
            published.append(time.monotonic() - began)

    publisher = threading.Thread(target=publish)
    print("ready", flush=True)
    began, written = time.monotonic(), 0
    publisher.start()
    while not over.is_set() and written < CHUNK:
        batch = rows[written : written + BATCH]
        with unit_of_work(engine) as session:
            lock_existing(session, [row.image_id for row in batch])
            write_records(session, batch, provenance)
        written += len(batch)
        over.wait(max(0.0, began + written / plan.rate - time.monotonic()))
    seconds = time.monotonic() - began
    over.wait()
    publisher.join()
    print(
        json.dumps(
            {
                "images": written,
                "images_per_second": round(written / seconds, 1),
                "publications": len(published),
                "publication_seconds": round(sum(published), 2),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1])

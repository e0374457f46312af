"""Processor time that a search pays to see what was committed since the last one; ``bench_ingest_search`` runs it.

It is run as a script, with the code of whichever checkout is on ``PYTHONPATH``. The time is that of one thread, without
the database's: it depends little on what else the machine does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from benchmarks.search_data import CHUNK, Maker, load, prepare, record_rows
from storage.database import make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.migrate import upgrade
from storage.results.records import lock_existing, write_records

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 384


def main(url: str, rounds: str) -> None:
    """Print, in JSON, the median milliseconds of each case."""
    engine = make_engine(url)
    upgrade(engine)
    provenance, maker = prepare(engine, width=WIDTH), Maker(WIDTH)
    load(engine, maker.chunk(0), provenance)
    later = maker.chunk(1)
    load(engine, later, provenance, with_records=False)
    rows, written = record_rows(later), 0
    with tempfile.TemporaryDirectory() as name:
        place = FolderStorage(Path(name) / "index")
        builder = IndexBuilder(engine, place, Path(name) / "builder")
        builder.publish_new(provenance.generation_id, force=True)
        index = VectorIndex(place, Path(name) / "reader")

        def view() -> None:
            with unit_of_work(engine) as session:
                index.view(session, provenance.generation_id)

        def another() -> None:
            with unit_of_work(engine) as session:
                session.execute(text("SELECT pg_current_xact_id()"))

        def write(count: int) -> None:
            nonlocal written
            batch, written = rows[written : written + count], (written + count) % CHUNK
            with unit_of_work(engine) as session:
                lock_existing(session, [row.image_id for row in batch])
                write_records(session, batch, provenance)

        def publish() -> None:
            write(1_000)
            view()
            builder.publish_new(provenance.generation_id, force=True)

        def cost(change: Callable[[], object], times: int) -> float:
            found = []
            for _ in range(times):
                change()
                began = time.thread_time()
                view()
                found.append(time.thread_time() - began)
                if hasattr(index, "follow"):
                    index.follow(engine)
            return round(1000 * float(np.median(found)), 3)

        view()
        times = int(rounds)
        costs = {
            "nothing": cost(lambda: None, times),
            "a transaction about something else": cost(another, times),
            "a batch of 32 images": cost(lambda: write(32), times),
            "320 images": cost(lambda: write(320), times // 2),
            "a publication of 1,000 images": cost(publish, 5),
        }
    print(json.dumps(costs), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

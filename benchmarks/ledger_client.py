"""One writer of ``benchmarks.ledger_rate``: what a worker does with the ledger, without fetching, decoding or a model.

It is run as a script, with the code of whichever checkout is on ``PYTHONPATH``: claim a shard, read its keys, write its
batches, close it, until nothing is left to claim. It begins when a line arrives and then says what it did.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.recognition import Prediction
from storage.database import make_engine, unit_of_work
from storage.ledger import claims, shards
from storage.objects.folder import FolderStore
from storage.results import images
from workers.pipeline.work import Batch, Lease, Work
from workers.pipeline.write import write

if TYPE_CHECKING:
    from sqlalchemy import Engine

TAGS, KEPT, WIDTH = 4585, 25, 512  # as RAM++: tags known, kept per image, and numbers in a vector
_LEASE_SECONDS = 600.0


def predictions() -> list[Prediction]:
    """Return a few answers of a model that computes nothing."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((64, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = random.uniform(0.3, 1.0, KEPT).astype(np.float32)
    tag_ids = np.sort(random.choice(TAGS, KEPT, replace=False)).astype(np.int32)
    return [Prediction(tag_ids, scores, vector) for vector in vectors]


def run(engine: Engine, batch_size: int) -> int:
    """Write shards until none is left. Return how many images were written."""
    answers, thresholds, written = itertools.cycle(predictions()), np.full(TAGS, 0.5, np.float32), 0
    while True:
        with unit_of_work(engine) as session:
            shard = claims.claim(session, owner="benchmark", lease_seconds=_LEASE_SECONDS)
        if shard is None:
            return written
        lease = Lease(shard, FolderStore(Path("/")))
        with unit_of_work(engine) as session:
            known = images.keys(session, shard.image_ids)
        waiting = iter(lease.pending)
        while positions := list(itertools.islice(waiting, batch_size)):
            works = []
            for position in positions:
                image = known[shard.image_ids[position]]
                work = Work(lease, position, image, image.version, width=640, height=480)
                work.prediction = next(answers)
                works.append(work)
            write(engine, Batch(lease, works), thresholds, _LEASE_SECONDS)
            written += len(works)
        with unit_of_work(engine) as session:
            shards.close(session, shard.id, shard.epoch, {})


def main(url: str, batch_size: str) -> None:
    """Wait for a line, write, say how many images and in how many seconds of wall time and processor."""
    engine = make_engine(url)
    with unit_of_work(engine):
        pass
    print("ready", flush=True)
    sys.stdin.readline()
    began, used = time.monotonic(), time.process_time()
    written = run(engine, int(batch_size))
    print(
        json.dumps(
            {"images": written, "seconds": time.monotonic() - began, "processor_seconds": time.process_time() - used}
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

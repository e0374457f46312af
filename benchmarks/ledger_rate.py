"""How fast processes write results through the ledger, alone: no fetching, no decoding, no model.

It separates waiting for locks and for the disk from waiting for a core: what the write path does not take, the rest of
a worker takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from benchmarks.ledger_client import WIDTH
from benchmarks.processor import Usage, measured
from benchmarks.search_data import CHUNK, Maker, load, prepare
from storage.database import make_engine, unit_of_work
from storage.migrate import upgrade

if TYPE_CHECKING:
    from benchmarks.processor import Usage
    from tests.services.breakable import BreakableServices

SHARD_SIZE = 256


def fill(url: str, images: int) -> None:
    """Make a migrated database with one job on so many listed images, none of which has a result."""
    engine = make_engine(url)
    upgrade(engine)
    provenance = prepare(engine, width=WIDTH)
    maker = Maker(WIDTH)
    for number in range(0, images, CHUNK):
        load(engine, maker.chunk(number // CHUNK, min(CHUNK, images - number)), provenance, with_records=False)
    with unit_of_work(engine) as session:
        values = {"job": provenance.job_id, "generation": provenance.generation_id, "size": SHARD_SIZE, "n": images}
        session.execute(
            text(
                """UPDATE job SET state = 'running', generation_id = :generation, listed = :n, listed_all_at = now(),
                   finished_at = NULL WHERE id = :job"""
            ),
            values,
        )
        session.execute(
            text(
                """INSERT INTO shard (job_id, image_ids, outcomes)
                   SELECT :job, array_agg(id ORDER BY id), decode(repeat('00', count(*)::int), 'hex')
                   FROM image GROUP BY (id - 1) / :size ORDER BY min(id)"""
            ),
            values,
        )
    engine.dispose()
    with make_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))


def write_alone(
    running: BreakableServices, url: str, images: int, writers: int, batch_size: int, checkout: Path
) -> dict[str, Any]:
    """Let so many processes with the code of ``checkout`` write the job that ``fill`` made."""
    command = [sys.executable, str(Path(__file__).with_name("ledger_client.py")), url, str(batch_size)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    told, usage = together(running, url, command, environment, writers)
    if sum(one["images"] for one in told) != images:
        raise RuntimeError(f"{told} of {images} images were written: the figures mean nothing")
    return {"writers": writers, "batch_size": batch_size, **figures(usage, images)}


def together(
    running: BreakableServices, url: str, command: list[str], environment: dict[str, str], count: int
) -> tuple[list[dict[str, Any]], Usage]:
    """Let so many clients begin at the same moment. Return what each said at its end, and what that took."""
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    for client in clients:
        assert client.stdout is not None
        if client.stdout.readline() != "ready\n":
            raise RuntimeError("a client did not start")
    with measured(url, *servers(running)) as usage:
        for client in clients:
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
        told = [json.loads(client.stdout.readline()) for client in clients if client.stdout is not None]
    for client in clients:
        client.communicate()
    return told, usage


def servers(running: BreakableServices) -> tuple[int, int]:
    """Return the process ids of PostgreSQL and Redis."""
    postgres, redis = running.postgres._process, running.redis._process  # noqa: SLF001  (their ids are nobody's API)
    assert postgres is not None
    assert redis is not None
    return postgres.pid, redis.pid


def figures(usage: Usage, images: int) -> dict[str, Any]:
    """Return what a run used, for each image, and what the cores could do at that price if nothing ever waited."""
    used = {kind: seconds for kind, seconds in usage.processor.items() if kind != "this benchmark"}
    rate, total, cores = images / usage.seconds, sum(used.values()), os.cpu_count() or 1
    return {
        "images_per_second": round(rate, 1),
        "cores_busy": round(sum(usage.processor.values()) / usage.seconds, 2),
        "processor_us_per_image": {kind: round(1e6 * seconds / images, 1) for kind, seconds in used.items()},
        "bound_images_per_second": round(cores * images / total, 1),
        "share_of_bound": round(rate * total / cores / images, 2),
        "sessions_in": {wait: round(n / usage.samples, 2) for wait, n in usage.waits.most_common(8)},
        "commits_per_image": round(usage.database["commits"] / images, 4),
        "commits_per_second": round(usage.database["commits"] / usage.seconds, 1),
        "wal_bytes_per_image": round(usage.database["wal_bytes"] / images),
        "wal_fsyncs_per_image": round(usage.database["wal_fsyncs"] / images, 4),
    }

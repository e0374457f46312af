"""How long do small users wait beside a greedy one, and what does it cost to find whose turn it is?

    python -m benchmarks.bench_fair --against ../older

* ``waits``: nine users enqueue 100 pictures each at the same moment, through HTTP, with one worker whose model does 320
  pictures a second: seconds from the request to the end of the job, by the database's clock. First with nothing else
  to do, then beside a user with ten jobs and 10^6 images waiting. The jobs of the greedy user list 20,000 pictures,
  more than are worked on meanwhile; shards of the same pictures are then added up to that number. Who waits for more
  than a minute counts with a minute.
* ``claims``: what a claim with its commit costs the database: processor time of its server process, which bears other
  load on the machine, blocks that it reads, and milliseconds by the clock. At each of ``CLAIM_SIZES``, which differ in
  the number of waiting shards, of jobs, and of users, one at a time; in turns with the code of another checkout.

``--against`` also measures the waits with that checkout, in a database of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from sqlalchemy import text

from benchmarks.report import begin, options, write
from ramq.client import Client
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import make_engine, unit_of_work
from storage.ledger import claims
from storage.migrate import upgrade
from tests.services.breakable import breakable_services
from tests.services.web import serving
from tests.vector_archive import add_generation

if TYPE_CHECKING:
    from sqlalchemy import Engine

GREEDY_JOBS, GREEDY_PICTURES, GREEDY_IMAGES = 10, 2_000, 1_000_000
SMALL_USERS, SMALL_PICTURES = 9, 100
BATCH, BATCH_SECONDS = 32, 0.1
CLAIM_SIZES = {
    "10^3 shards, 100 jobs, 10 users": (100, 1_000, 10),
    "10^5 shards, 100 jobs, 10 users": (100, 100_000, 10),
    "10^5 shards, 10^3 jobs, 10 users": (1_000, 100_000, 10),
    "10^5 shards, 10^3 jobs, 100 users": (1_000, 100_000, 100),
    "10^5 shards, 10^4 jobs, 100 users": (10_000, 100_000, 100),
    "10^5 shards, 10^4 jobs, 10^3 users": (10_000, 100_000, 1_000),
}
"""Jobs, waiting shards, and users."""

CLAIMS = 200
MOST_SECONDS = 60.0
"""Who waited so long is not waited for any more, and counts with this."""


# Waits -----------------------------------------------------------------------------------------------------------


def make_pictures(folder: Path, count: int, seed: int) -> Path:
    """Write small pictures, each of other bytes."""
    folder.mkdir(parents=True)
    for number in range(count):
        colour = (number % 256, number // 256, seed % 256)
        Image.new("RGB", (8, 8 + seed // 256), colour).save(folder / f"{number:05}.png")
    return folder


def measure_waits(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the waits of small users, in an idle system and beside a greedy user."""
    with breakable_services(folder / "services") as running:
        url = running.database_url
        engine = make_engine(url, pool_size=40)
        upgrade(engine)
        settings = Settings(data_dir=folder / "data", database_url=url, broker_url=running.broker_url, rate_limit=0)
        services = Services(settings, engine, running.broker_url, is_reachable=False)
        names = [f"small{number}" for number in range(SMALL_USERS)]
        for name in ("boss", "greedy", *names):
            services.accounts.add(name, "admin" if name == "boss" else "run")
        secrets = {name: services.accounts.create_token(name).secret for name in ("boss", "greedy", *names)}
        environment = {
            **os.environ,
            "RAMQ_DATA_DIR": str(folder / "data"),
            "RAMQ_DATABASE_URL": url,
            "RAMQ_BROKER_URL": running.broker_url,
            "RAMQ_BATCH_SIZE": str(BATCH),
            "RAMQ_DECODE_THREADS": "1",
            "NULL_MODEL_SECONDS": str(BATCH_SECONDS),
            "OMP_NUM_THREADS": "1",
        }
        with (folder / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.services.null_worker"], env=environment, stdout=log, stderr=log
            )
        try:
            with serving(services) as address:
                seeds = iter(range(1, 10_000))

                def small_round() -> list[float]:
                    chosen = [next(seeds) for _ in names]
                    folders = [make_pictures(folder / f"small-{seed}", SMALL_PICTURES, seed) for seed in chosen]
                    return _round(address, services, [secrets[name] for name in names], folders)

                small_round()  # the model is loaded
                idle = [wait for _ in range(rounds) for wait in small_round()]
                _make_greedy(address, services, secrets["greedy"], folder, seeds)
                beside = [wait for _ in range(rounds) for wait in small_round()]
                with unit_of_work(engine) as session:
                    left = session.scalar(text("SELECT count(*) FROM shard WHERE state = 'ready'"))
        finally:
            worker.kill()
            worker.wait()
            engine.dispose()
    return {
        "rounds": rounds,
        "idle": _spread(idle),
        "beside_greedy": _spread(beside),
        "p95_ratio": round(_spread(beside)["p95"] / _spread(idle)["p95"], 2),
        "greedy_shards_left": left,
    }


def _round(address: str, services: Services, secrets: list[str], folders: list[Path]) -> list[float]:
    """Enqueue one job for each user at once. Return the seconds until each ended."""

    def enqueue(secret: str, folder: Path) -> int:
        with Client(address, token=secret) as ramq:
            return ramq.enqueue(str(folder)).id

    with ThreadPoolExecutor(len(secrets)) as pool:
        ids = list(pool.map(enqueue, secrets, folders))
    until = time.monotonic() + MOST_SECONDS
    while not all(job.is_over for job in services.jobs.get_all(ids)) and time.monotonic() < until:
        time.sleep(0.2)
    jobs = services.jobs.get_all(ids)
    if any(job.done != SMALL_PICTURES for job in jobs if job.is_over):
        raise RuntimeError(f"{jobs}: the figures mean nothing")
    for job in jobs:
        if not job.is_over:
            services.jobs.cancel(job.id)
    return [(job.finished_at - job.created_at).total_seconds() if job.finished_at else MOST_SECONDS for job in jobs]


def _make_greedy(address: str, services: Services, secret: str, folder: Path, seeds: Any) -> None:
    """Let the greedy user have ten jobs, and 10^6 images waiting in them."""
    with Client(address, token=secret) as ramq:
        ids = [
            ramq.enqueue(str(make_pictures(folder / f"greedy{number}", GREEDY_PICTURES, next(seeds)))).id
            for number in range(GREEDY_JOBS)
        ]
    while any(job.is_listing for job in services.jobs.get_all(ids)):
        time.sleep(0.2)
    with unit_of_work(services.engine) as session:
        values = {"ids": ids, "times": GREEDY_IMAGES // GREEDY_JOBS // GREEDY_PICTURES}
        session.execute(
            text(
                """INSERT INTO shard (job_id, image_ids, outcomes)
                   SELECT job_id, image_ids, decode(repeat('00', cardinality(image_ids)), 'hex')
                   FROM shard CROSS JOIN generate_series(1, :times) WHERE job_id = ANY(:ids)"""
            ),
            values,
        )
        session.execute(
            text(
                """UPDATE job SET listed = (SELECT sum(cardinality(image_ids)) FROM shard WHERE job_id = job.id)
                   WHERE id = ANY(:ids)"""
            ),
            values,
        )


def _spread(waits: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(waits, n=20, method="inclusive")
    return {"median": round(statistics.median(waits), 2), "p95": round(cuts[-1], 2), "most": round(max(waits), 2)}


# Claims ----------------------------------------------------------------------------------------------------------


def fill(engine: Engine, jobs: int, shards: int, users: int) -> None:
    """Make jobs of many users with many waiting shards."""
    with unit_of_work(engine) as session:
        session.execute(text("INSERT INTO archive (uri) VALUES ('s3://photos')"))
    generation_id = add_generation(engine)
    values = {"generation": generation_id, "jobs": jobs, "users": users, "shards": shards}
    with unit_of_work(engine) as session:
        session.execute(
            text(
                """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, generation_id, said_by,
                                    listed_all_at)
                   SELECT (SELECT id FROM archive), 's3://photos', '', 'lite', 'none', 0, :generation,
                       'user' || (n % :users), now() FROM generate_series(1, :jobs) AS n"""
            ),
            values,
        )
        session.execute(
            text(
                """INSERT INTO shard (job_id, image_ids, outcomes)
                   SELECT job.id, ARRAY(SELECT generate_series(1, 64)), decode(repeat('00', 64), 'hex')
                   FROM job CROSS JOIN generate_series(1, CAST(:shards AS int) / CAST(:jobs AS int))"""
            ),
            values,
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _on_processor(pid: int) -> float:
    """Return the milliseconds that a process was on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def claim_many(url: str) -> dict[str, float]:
    """Claim shards one after the other. Return what each cost."""
    engine = make_engine(url, pool_size=1)
    blocks = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
    _claim(engine)  # users that were never served are told apart from others
    engine.dispose()  # the counts of a connection are complete when it ends
    time.sleep(1.5)
    with unit_of_work(engine) as session:
        before, pid = session.scalar(text(blocks)) or 0, session.scalar(text("SELECT pg_backend_pid()")) or 0
    processor = _on_processor(pid)
    spent = _claim(engine)
    processor = _on_processor(pid) - processor
    engine.dispose()
    time.sleep(1.5)
    with unit_of_work(engine) as session:
        after = session.scalar(text(blocks)) or 0
    engine.dispose()
    return {
        "processor_ms": round(processor / CLAIMS, 2),
        "median_ms": round(statistics.median(spent), 2),
        "p95_ms": round(statistics.quantiles(spent, n=20)[-1], 2),
        "blocks": round((after - before) / CLAIMS),
    }


def _claim(engine: Engine) -> list[float]:
    """Claim shards, and return the milliseconds of each claim."""
    spent = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        with unit_of_work(engine) as session:
            shard = claims.claim(session, owner="bench", lease_seconds=600)
        spent.append(1_000 * (time.perf_counter() - began))
        if shard is None:
            raise RuntimeError("nothing was claimed: the figures mean nothing")
    return spent


def measure_claims(folder: Path, checkouts: dict[str, Path]) -> dict[str, Any]:
    """Claim in turns with the code of each checkout, each time from the same state."""
    found: dict[str, Any] = {}
    with breakable_services(folder / "claims") as running:
        engine = make_engine(running.database_url)
        upgrade(engine)
        for name, size in CLAIM_SIZES.items():
            found[name] = {which: [] for which in checkouts}
            with unit_of_work(engine) as session:
                session.execute(text("TRUNCATE archive, vocabulary, generation, job, shard, turn CASCADE"))
            fill(engine, *size)
            for _ in range(2):
                for which, checkout in checkouts.items():
                    _make_waiting(engine)
                    found[name][which].append(_elsewhere(checkout, "claims-only", running.database_url))
        engine.dispose()
    return found


def _make_waiting(engine: Engine) -> None:
    """Let everything wait again that was claimed, as if nobody had been served."""
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE shard SET state = 'ready', lease_until = NULL WHERE state = 'leased'"))
        session.execute(text("DELETE FROM turn"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE shard, turn"))


def _elsewhere(checkout: Path, *arguments: str) -> Any:
    """Run this script with the code of a checkout, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and write the report."""
    parser = options(__doc__)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=("waits", "claims"), default=["waits", "claims"])
    chosen = parser.parse_args()
    report = begin()
    checkouts = {"now": Path(__file__).parents[1]}
    if chosen.against:
        checkouts["before"] = chosen.against.resolve()
    with tempfile.TemporaryDirectory() as kept:
        if "claims" in chosen.parts:
            report["claims"] = measure_claims(Path(kept), checkouts)
        for name, checkout in checkouts.items() if "waits" in chosen.parts else ():
            report.setdefault("waits", {})[name] = _elsewhere(
                checkout, "waits-only", str(Path(kept, name)), str(chosen.rounds)
            )
    write(chosen, "-".join(["fair", *chosen.parts]), report)


if __name__ == "__main__":
    if sys.argv[1:2] == ["claims-only"]:
        print(json.dumps(claim_many(sys.argv[2])))
    elif sys.argv[1:2] == ["waits-only"]:
        print(json.dumps(measure_waits(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()

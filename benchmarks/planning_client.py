"""One planner of ``benchmarks.bench_planning``: it lists an archive that lies nowhere, as a worker's listing loop does.

It is run as a script, with the code of whichever checkout is on ``PYTHONPATH``. ``prepare`` makes the schema, a
generation and a job. ``list`` begins when a line arrives, and says how much of the listing it did.
"""

from __future__ import annotations

import bisect
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import text

from storage import migrate
from storage.database import make_engine, unit_of_work
from storage.ledger import jobs, listings
from storage.objects.base import PAGE_SIZE, ObjectInfo, S3Options
from storage.objects.source import parse_source
from storage.results import archives
from workers import planner as planner_module
from workers.pipeline.fitness import Fitness
from workers.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from workers.pipeline.model_holder import ModelHolder

FOLDERS = 64


class Nowhere:
    """A bucket of numbered keys in folders of very different sizes. Its pages cost next to nothing."""

    def __init__(self, count: int) -> None:
        ends = [count * (n + 1) ** 3 // FOLDERS**3 for n in range(FOLDERS)]
        self.keys = sorted(
            f"photographs/{folder:02}/{number:09}.jpg"
            for folder, (begin, end) in enumerate(itertools.pairwise([0, *ends]))
            for number in range(begin, end)
        )

    @property
    def holds_version(self) -> bool:
        """Nothing is read."""
        return True

    def check(self) -> None:
        """It is there."""

    def pages(self, _prefix: str, after: str | None, _ignoring: Any, until: str | None = None) -> Iterator[Any]:
        """Yield pages of keys."""
        begin = bisect.bisect_right(self.keys, after or "")
        end = len(self.keys) if until is None else bisect.bisect_right(self.keys, until)
        for start in range(begin, end, PAGE_SIZE):
            keys = self.keys[start : min(start + PAGE_SIZE, end)]
            yield [ObjectInfo(key, "0123456789abcdef0123456789abcdef", 300_000, None) for key in keys]

    def cut(self, prefix: str, after: str, until: str | None) -> str | None:
        """Return what the lister of a bucket would, with as many questions."""
        from storage.objects.cutting import cut_between  # noqa: PLC0415  (an older version has none)

        def first_after(key: str) -> str | None:
            place = bisect.bisect_right(self.keys, key)
            return self.keys[place] if place < len(self.keys) else None

        return cut_between(first_after, prefix, after, until)

    def read_rules(self, *_: Any) -> None:
        """Nothing is left out."""

    stat = fetch = open = read_rules


class OneModel:
    """Stands for the loaded model, of which a planner asks only which generation it is."""

    runs, served, loaded, pinned = ("recognition",), None, (), None

    def get(self, *_: Any) -> OneModel:
        """Return itself."""
        return self

    def register(self, *_: Any) -> int:
        """Return the generation that ``prepare`` made."""
        return 1

    @property
    def stages(self) -> Any:
        """It has no further stage."""
        return type("Stages", (), {"kinds": ()})()

    def __getattr__(self, name: str) -> Any:
        """Nothing else is known of it."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_more: None


def prepare(engine: Engine) -> None:
    """Make the schema, a generation, and a job on the archive."""
    migrate.upgrade(engine)
    with unit_of_work(engine) as session:
        session.execute(text("INSERT INTO vocabulary (sha256, name, size) VALUES ('v', 'own', 1)"))
        session.execute(
            text(
                """INSERT INTO generation (fingerprint, model, weights_sha256, preprocessing, vector_kind, vector_size,
                   vocabulary_id) VALUES ('g', 'lite', '', '', '', 8, 1)"""
            )
        )
        archive, _ = archives.ensure(session, parse_source("s3://nowhere"))
        new_job(session, archive)


def new_job(session: Any, archive: Any) -> None:
    """Add a job that lists the archive."""
    job_id = jobs.create(
        session, archive=archive, source=archive.uri, prefix="", model="lite", captioner="none", priority="normal"
    )
    jobs.set_generation(session, job_id, 1)


class Pages:
    """Notes how long each page takes to record, and how long of that other planners of the job have to wait."""

    def __init__(self) -> None:
        self.seconds, self.locked_seconds, self.count = 0.0, 0.0, 0
        self._locked_at = 0.0
        # An earlier version locks the job at the beginning of the page.
        name = "lock_running" if hasattr(listings, "lock_running") else "require"
        lock, record = getattr(listings, name), Planner._record  # noqa: SLF001  (between the two is what is measured)

        def locking(*arguments: Any) -> None:
            lock(*arguments)
            self._locked_at = time.monotonic()

        def recording(planner: Planner, *arguments: Any) -> None:
            began = time.monotonic()
            record(planner, *arguments)
            now = time.monotonic()
            self.seconds += now - began
            self.locked_seconds += now - self._locked_at
            self.count += 1

        setattr(listings, name, locking)
        Planner._record = recording  # type: ignore[method-assign]  # noqa: SLF001


def list_all(engine: Engine, count: int) -> dict[str, Any]:
    """List until the job is listed completely. Return what this planner did."""
    store = Nowhere(count)
    module: Any = sys.modules.get("workers.sources", planner_module)
    module.open_store = lambda *_: store
    planner = Planner(engine, cast("ModelHolder", OneModel()), fitness=Fitness(), shard_size=256, s3=S3Options(None))
    pages = Pages()
    print("ready", flush=True)
    sys.stdin.readline()
    steps = 0
    while True:
        if planner.go_on(lambda: False):
            steps += 1
            continue
        with unit_of_work(engine) as session:
            if not session.scalar(text("SELECT EXISTS (SELECT FROM job WHERE listed_all_at IS NULL)")):
                return {
                    "steps": steps,
                    "pages": pages.count,
                    "page_seconds": round(pages.seconds, 3),
                    "locked_seconds": round(pages.locked_seconds, 3),
                }
        time.sleep(0.02)


def main() -> None:
    """Do what the command line says."""
    import logging  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    what, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    engine = make_engine(url)
    if what == "prepare":
        prepare(engine)
    else:
        print(json.dumps(list_all(engine, count)), flush=True)
    engine.dispose()


if __name__ == "__main__":
    main()

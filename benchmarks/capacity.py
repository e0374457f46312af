"""What an archive of a given size takes, on paper: from measured rates and sizes and from the settings' own numbers.

    python -m benchmarks.capacity --images 1e9 --workers 500 --rate 20

Reads the newest results of ``bench_stages``. Prints a table of Markdown whose last column says what is behind it;
``docs/capacity.md`` holds one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from benchmarks.report import RESULTS
from ramq.settings import Settings
from storage.objects.base import PAGE_SIZE
from storage.objects.parallel_listing import WIDTH
from workers.lifecycle import BEAT_SECONDS, WAKE_UPS_PER_WORKER

CONNECTIONS_PER_WORKER = 10
LIST_SECONDS = 0.1
"""How long a bucket takes to answer with a page of keys: an assumption."""


@dataclass(frozen=True)
class Line:
    """One figure, its unit, and how it comes about."""

    what: str
    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"| {self.what} | {in_short(self.value)}{self.unit} | {self.source} |"


def in_short(value: float) -> str:
    """Return a number with two or three digits that count."""
    for limit, word in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.3g} {word}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def newest(kind: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of the newest result of one benchmark that holds the sizes of rows."""
    found = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in RESULTS.glob(f"{kind}-*.json")]
    complete = [(path, report) for path, report in found if "bytes_per_image" in report]
    if not complete:
        raise SystemExit(f"no result of {kind} has sizes: run python -m benchmarks.bench_{kind}")
    path, report = max(complete, key=lambda one: one[1]["taken_at"])
    return path.name, report


def planners_that_help() -> tuple[str, float]:
    """Return the newest result of ``bench_planning``, and after how many planners more would only wait for the others.

    A page of keys takes a planner so many times as long as it keeps the others waiting.
    """
    path = max(RESULTS.glob("planning-*.json"), key=lambda each: json.loads(each.read_text("utf-8"))["taken_at"])
    runs = json.loads(path.read_text("utf-8"))["runs"]
    alone = next(run for run in runs if run["code"] == "ours" and run["planners"] == 1)
    return path.name, alone["page_ms"] / alone["others_wait_ms"]


def rate_of(report: dict[str, Any], stage: str) -> float:
    """Return our rate of the stage whose name begins so, in units a second."""
    return next(figures["ours_per_second"] for name, figures in report["stages"].items() if name.startswith(stage))


def time_and_requests(images: float, workers: int, rate: float, report: dict[str, Any]) -> list[Line]:
    """How long it takes, and what is asked of database, broker and store meanwhile."""
    batch_size, shard_size = (Settings.model_fields[name].default for name in ("batch_size", "shard_size"))
    speed = workers * rate
    writes = rate_of(report, "write, batches of 32")
    plan = rate_of(report, "plan, keys")
    pages = images / PAGE_SIZE
    planning, planners = planners_that_help()
    return [
        Line("recognition", images / speed / 86_400, " days", f"{workers} workers at {rate:g} images/s each, assumed"),
        Line("images", speed, "/s", "the same"),
        Line("commits of batches", speed / batch_size, "/s", f"`RAMQ_BATCH_SIZE` {batch_size}"),
        Line("rows written (record, vector)", 2 * speed, "/s", "one of each per image"),
        Line("writers busy at once", speed / writes, " connections", f"{writes:,.0f} images/s for one, measured"),
        Line("decoding", speed / rate_of(report, "decode 2 Mpx (base"), " cores", "2 megapixels, measured"),
        Line("shards claimed and closed", 2 * speed / shard_size, "/s", "`RAMQ_SHARD_SIZE`"),
        Line("leases renewed", 2 * workers / BEAT_SECONDS, "/s", "two shards a worker, `workers/lifecycle.py`"),
        Line("heartbeats", workers / BEAT_SECONDS, "/s", f"one in {BEAT_SECONDS:g} s"),
        Line("database connections", CONNECTIONS_PER_WORKER * workers, "", "at most 10 a worker: pgbouncer"),
        Line("wake-ups in Redis", WAKE_UPS_PER_WORKER * workers, "", "at most, whatever the backlog"),
        Line("keys listed and planned", plan, "/s", "one planner, measured"),
        Line("planning one archive, one planner", images / plan / 3600, " hours", "in parallel with recognition"),
        Line("planners that help", planners, "", f"until they wait for each other: `{planning}`"),
        Line("planning one archive, that many", images / plan / planners / 3600, " hours", "with a core for each"),
        Line("its listing alone", pages * LIST_SECONDS / WIDTH / 3600, " hours", f"{WIDTH} at a time, 100 ms, assumed"),
        Line("LIST requests", pages, "", f"{PAGE_SIZE:,} keys each, without those that look for ranges"),
        Line("GET requests", images, "", "one an image"),
        Line(
            "an index from nothing", images / rate_of(report, "index, vectors") / 3600, " hours", "one core, measured"
        ),
    ]


def space(images: float, report: dict[str, Any]) -> list[Line]:
    """What stays on disks."""
    sizes = report["bytes_per_image"]
    lines = [
        Line(f"{name}", size * images, "B", f"{size:,.0f} bytes an image, measured") for name, size in sizes.items()
    ]
    tables = sum(size for name, size in sizes.items() if name != "index files")
    return [*lines, Line("PostgreSQL together", tables * images, "B", "the tables above, with their indexes")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=float, default=1e9)
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0, help="images a second that one worker recognises")
    chosen = parser.parse_args()
    file, report = newest("stages")
    print(f"Measured: `benchmarks/results/{file}`.\n")
    print("| | | from |\n| --- | --- | --- |")
    for line in time_and_requests(chosen.images, chosen.workers, chosen.rate, report):
        print(line)
    for line in space(chosen.images, report):
        print(line)


if __name__ == "__main__":
    main()

"""How fast a bucket is listed when every request is far away: ahead, in several ranges, against one after the other.

    python -m benchmarks.bench_listing --quick

Runs on a real S3 server on this machine; the way there is made long by waiting before each request.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import begin, options, write
from storage.objects.s3 import S3Store
from tests.services.s3 import s3_server

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tests.services.s3 import S3Server

PAGE = 1_000


class FarStore(S3Store):
    """A bucket whose answers to a listing take some time more."""

    def __init__(self, bucket: str, endpoint_url: str, seconds: float) -> None:
        super().__init__(bucket, endpoint_url)
        self.seconds = seconds
        self.requests = 0

    def list_objects(self, **options: Any) -> Any:
        """Wait, then ask."""
        self.requests += 1
        time.sleep(self.seconds)
        return super().list_objects(**options)


def one_after_the_other(store: FarStore) -> int:
    """List with one request at a time and return the number of keys: the bare minimum that S3 allows."""
    after, count = "", 0
    while True:
        answer = store.list_objects(StartAfter=after, MaxKeys=PAGE)
        count += len(answer.get("Contents", []))
        if not answer.get("IsTruncated"):
            return count
        after = answer["Contents"][-1]["Key"]


def ahead(store: FarStore) -> int:
    """List as a planner does, and return the number of keys."""
    return sum(len(page) for page in store.pages("", None))


def measure(server: S3Server, names: list[str], seconds: float, rounds: int) -> dict[str, float]:
    """Fill a bucket with empty objects and list it both ways in turns."""
    bucket = server.make_bucket()
    client = server.client()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b""), names))
    client.close()
    store = FarStore(bucket, server.endpoint_url, seconds)
    ways: dict[str, Callable[[FarStore], int]] = {"ours": ahead, "baseline": one_after_the_other}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    requests = dict.fromkeys(ways, 0)
    for _ in range(rounds):
        for name, way in ways.items():
            store.requests = 0
            began = time.perf_counter()
            found = way(store)
            taken[name].append(time.perf_counter() - began)
            requests[name] = store.requests
            if found != len(names):
                raise RuntimeError(f"{found} of {len(names)} keys were listed: the figures mean nothing")
    rates = {name: len(names) / statistics.median(seconds) for name, seconds in taken.items()}
    return {
        "ours_per_second": round(rates["ours"], 1),
        "baseline_per_second": round(rates["baseline"], 1),
        "ratio": round(rates["ours"] / rates["baseline"], 3),
        "ours_requests": requests["ours"],
        "baseline_requests": requests["baseline"],
    }


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure buckets of two shapes."""
    count = 12_000 if chosen.quick else 60_000
    shapes = {
        "in 48 folders": [f"{n % 4}/{n % 48:02}/{n:06}.jpg" for n in range(count)],
        "in one folder": [f"photographs/{n:06}.jpg" for n in range(count)],
    }
    seconds = chosen.milliseconds / 1000
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder)) as server:
        os.environ.update(server.environment)
        return {
            f"{count:,} keys {shape}, {chosen.milliseconds} ms (baseline: one request at a time)": measure(
                server, names, seconds, 3
            )
            for shape, names in shapes.items()
        }


def main() -> None:
    """Measure, print a table, write a file."""
    parser = options(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer keys")
    parser.add_argument("--milliseconds", type=int, default=100, help="added to each request")
    chosen = parser.parse_args()
    report = begin()
    listing = run(chosen)
    for name, figures in listing.items():
        print(f"{name:75} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    report |= {"quick": chosen.quick, "listing": listing}
    write(chosen, "listing", report)


if __name__ == "__main__":
    main()

"""A job on a cluster under a storm of faults, from an empty database to the verdict."""

from __future__ import annotations

import logging
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.containers.chaos.checker import BUCKET, check, store_client
from tests.containers.chaos.client import Prober, ask
from tests.containers.chaos.cluster import STORE, running_cluster
from tests.containers.chaos.faults import KINDS, plan
from tests.containers.chaos.storm import Storm
from tests.services.checker import picture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.containers.chaos.cluster import Cluster, Images
    from tests.containers.chaos.faults import Planned

_log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
BATCH = 8
WORKERS = 3
_LIMIT_SECONDS = 1_800.0
_PLANTED = {"not_an_image": b"these are words, no picture", "empty": b""}


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        images: in the store.
        seed: of the plan of faults.
        faults: how many.
        between: seconds between the beginnings of two of them, at least and at most.
        only: kinds to draw from; all, if empty.
    """

    images: int
    seed: int
    faults: int
    between: tuple[float, float] = (8.0, 14.0)
    only: tuple[str, ...] = ()

    def drawn(self) -> list[Planned]:
        """Draw the faults: the same seed gives the same plan."""
        kinds = {name: KINDS[name] for name in self.only or KINDS}
        return plan(random.Random(self.seed), kinds, self.faults, WORKERS, LEASE_SECONDS, self.between)


def run_plan(folder: Path, images: Images, wanted: Plan) -> dict[str, Any]:
    """Run it and return figures.

    Raises:
        AssertionError: something was lost, doubled or wrong.
    """
    files, planted = _files(wanted.images)
    faults = wanted.drawn()
    # So long that the job would end with the last fault, if no time were lost to faults.
    seconds = sum(fault.after_seconds for fault in faults)
    options = {
        "NULL_MODEL_SECONDS": f"{seconds / (wanted.images / WORKERS / BATCH):.3f}",
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
        "RAMQ_SHARD_SIZE": "64",
        "RAMQ_BATCH_SIZE": str(BATCH),
    }
    with patch.dict(os.environ, STORE), running_cluster(folder, images, **options) as cluster:
        try:
            _fill(cluster, files)
            cluster.start_ours()
            for web in cluster.webs:
                cluster.wait(lambda name=web: ask(cluster.address_of(name), "/readyz"), web)  # type: ignore[misc]
            job_id = int(ask(cluster.address_of("web1"), "/v1/jobs", body={"source": f"s3://{BUCKET}"})["id"])
            _until(cluster, lambda: _count(cluster) > 0, "the first results")
            return _disturbed(cluster, job_id, files, planted, faults)
        except BaseException:
            _keep_logs(cluster)
            raise


def _disturbed(
    cluster: Cluster, job_id: int, files: dict[str, bytes], planted: dict[str, str], faults: list[Planned]
) -> dict[str, Any]:
    began = time.monotonic()
    with Prober(cluster) as prober:
        with Storm(cluster, faults) as storm:
            struck_before_end = 0
            while not storm.is_over:
                time.sleep(1)
                if not _is_over(cluster, job_id):
                    struck_before_end = len(storm.began)
            stormed = time.monotonic() - began
            # The storm has passed: what ends by itself is still started again until the job is over.
            _until(cluster, lambda: _is_over(cluster, job_id), "the end of the job")
        seconds = time.monotonic() - began
        assert not storm.errors, "\n".join(storm.errors)
        counts = check(cluster, job_id, files, planted)
        second = int(ask(cluster.address_of("web1"), "/v1/jobs", body={"source": f"s3://{BUCKET}"})["id"])
        recognised = cluster.recognised()
        _until(cluster, lambda: _is_over(cluster, second), "the end of the second job")
    assert cluster.recognised() == recognised, "the second job recognised images again"
    return {
        **counts,
        "faults": len(storm.began),
        "faults_while_the_job_ran": struck_before_end,
        "seconds": round(seconds, 1),
        "storm_seconds": round(stormed, 1),
        "recognised": recognised,
        "recognised_again_percent": round(100 * (recognised - counts["done"]) / counts["done"], 2),
        "searches_answered": len(prober.answered),
        "searches_refused": len(prober.refused),
        "longest_gap": prober.longest_gap(began),
        "refusals": sorted({text[:160] for _, text in prober.refused}),
        "ended_by_themselves": sorted(storm.restarted),
        "machines_with_a_traceback": _keep_logs(cluster),
        "timeline": storm.began,
    }


def _files(count: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """So many files by key, one in 500 of them no picture; and the classes with which those must fail."""
    files = {f"{number:05}.png": picture(number) for number in range(count)}
    planted = {}
    for number, key in enumerate(sorted(files)[250::500]):
        name = sorted(_PLANTED)[number % len(_PLANTED)]
        files[key], planted[key] = _PLANTED[name], name
    return files, planted


def _fill(cluster: Cluster, files: dict[str, bytes]) -> None:
    client = store_client(cluster)
    cluster.wait(lambda: _make_buckets(cluster), "the store")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=files[key]), files))


def _make_buckets(cluster: Cluster) -> None:
    client = store_client(cluster)
    for name in (BUCKET, "index"):
        try:
            client.create_bucket(Bucket=name)
        except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            continue
        except Exception as error:
            raise OSError(str(error)) from error


def _count(cluster: Cluster) -> int:
    with cluster.connect() as connection:
        return int(connection.execute("SELECT count(*) FROM record").fetchone()[0])  # type: ignore[index, call-overload]


def _is_over(cluster: Cluster, job_id: int) -> bool:
    with suppress(OSError):
        return bool(ask(cluster.address_of("web2"), f"/v1/jobs/{job_id}", seconds=20.0)["is_over"])
    return False


def _until(cluster: Cluster, condition: Any, what: str) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come\n{cluster.last_words()}"
        time.sleep(1)


def _keep_logs(cluster: Cluster) -> list[str]:
    """Keep the logs of all machines. Return the names of those that told of an error in the program."""
    logs = cluster.keep_logs()
    wrong = [name for name, text in logs.items() if "Traceback" in text or "this is a bug" in text]
    if wrong:
        _log.warning("%s: the log has a traceback; see %s", ", ".join(wrong), cluster.folder)
    return sorted(wrong)

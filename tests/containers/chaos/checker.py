"""What must hold after a storm. It is read from the database and the store's own list, not from the program's word."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from psycopg.rows import dict_row

from ramq.services.index import make_builder
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import make_engine
from tests.containers.chaos.client import ask
from tests.containers.chaos.cluster import STORE
from tests.services.checker import check_report, check_results
from tests.services.fleet import check_counters
from tests.services.null_worker import TAGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from tests.containers.chaos.cluster import Cluster

BUCKET = "photos"
_SECONDS = 600.0


def store_client(cluster: Cluster) -> S3Client:
    """A client of the store itself, not of its door."""
    return boto3.client(
        "s3",
        endpoint_url=cluster.url_of("objects", 8333),
        aws_access_key_id=STORE["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=STORE["AWS_SECRET_ACCESS_KEY"],
        region_name=STORE["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 5}, max_pool_connections=32),
    )


def listed(cluster: Cluster) -> list[str]:
    """The keys that the store has, in order."""
    pages = store_client(cluster).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [held["Key"] for page in pages for held in page.get("Contents", [])]


def check_keys(cluster: Cluster, planted: Mapping[str, str]) -> dict[str, int]:
    """Every key of the store has one record and one vector, or one failure of the class that was planted.

    Returns:
        Counts of keys, records, vectors and failures.
    """
    keys = listed(cluster)
    with cluster.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT key,
                (SELECT count(*) FROM record WHERE image_id = image.id) AS records,
                (SELECT count(*) FROM vector WHERE image_id = image.id) AS vectors,
                (SELECT array_agg(error_class) FROM failure WHERE image_id = image.id AND NOT retrying) AS failures
            FROM image
            """
        ).fetchall()
        counts = cursor.execute(
            "SELECT (SELECT count(*) FROM record) AS records, (SELECT count(*) FROM vector) AS vectors"
        ).fetchone()
    assert sorted(row["key"] for row in rows) == keys
    wrong = [
        row
        for row in rows
        if (row["records"], row["vectors"], row["failures"])
        != ((0, 0, [planted[row["key"]]]) if row["key"] in planted else (1, 1, None))
    ]
    assert not wrong, wrong[:10]
    done = len(keys) - len(planted)
    assert counts == {"records": done, "vectors": done}
    return {"keys": len(keys), "done": done, "failed_as_planted": len(planted)}


def check_search(cluster: Cluster) -> None:
    """Both web servers find as many images of each tag as the database has rows."""
    with cluster.connect() as connection:
        rows = connection.execute("SELECT tag, count(*) FROM record, unnest(tags) AS tag GROUP BY tag").fetchall()
    wanted = {f"tag {number}": 0 for number in range(TAGS)} | {f"tag {number}": count for number, count in rows}
    for web in cluster.webs:
        address = cluster.address_of(web)
        deadline = time.monotonic() + _SECONDS
        while True:  # the second one reads the standby, which may be a moment behind
            try:
                found = {
                    name: ask(address, "/v1/search", {"tag": name, "limit": 1}, seconds=60.0)["total"]
                    for name in wanted
                }
            except OSError as error:
                found = {"error": str(error)}
            if found == wanted:
                break
            assert time.monotonic() < deadline, (web, found, wanted)
            time.sleep(1)


def check_index(services: Services) -> int:
    """The published index holds the same images as the database. Return how many segments' generations there are."""
    builder = make_builder(services.settings, services.engine)
    deadline = time.monotonic() + _SECONDS
    numbers = [view.generation_id for view in services.index.status()]
    for number in numbers:
        while builder.publish_new(number, force=True) is None:
            [status] = [view for view in services.index.status() if view.generation_id == number]
            if status.delta == 0:
                break
            assert time.monotonic() < deadline, status
            time.sleep(0.5)
        assert builder.verify(number) == []
    return len(numbers)


def check(cluster: Cluster, job_id: int, files: Mapping[str, bytes], planted: Mapping[str, str]) -> dict[str, Any]:
    """Check everything and return counts.

    Args:
        cluster: with all faults undone.
        job_id: of the only job, which is over.
        files: what was put into the store, by key.
        planted: keys of ``files`` that must have failed, each with its class.

    Raises:
        AssertionError: something is lost, doubled or wrong.
    """
    counts = check_keys(cluster, planted)
    assert listed(cluster) == sorted(files)
    settings = Settings(
        data_dir=cluster.folder / "checker",
        database_url=cluster.database_url(from_host=True),
        broker_url=f"redis://{cluster.address_of('redis')}:6379/0",
        index_url="s3://index/segments",
        s3_endpoint_url=cluster.url_of("objects", 8333),
    )
    settings.data_dir.mkdir()
    assert settings.database_url is not None
    engine = make_engine(settings.database_url)
    try:
        services = Services(settings, engine, settings.broker_url, is_reachable=False)
        check_counters(services, job_id)
        check_results(services, files, planted)
        outcomes = {key: ("failed", planted[key]) if key in planted else ("done", None) for key in files}
        check_report(services, job_id, outcomes)
        generations = check_index(services)
    finally:
        engine.dispose()
    check_search(cluster)
    return counts | {"generations": generations}

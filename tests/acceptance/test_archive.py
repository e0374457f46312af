"""The whole way: photographs in a folder and in a real S3 server, a real worker with the real model, search."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.web.app import create_app
from storage.database import unit_of_work
from storage.results.packing import unpack_vectors
from storage.search.views import SearchQuery
from tests.photographs import photographs
from tests.services.command_line import run_here
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Row

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.s3 import S3Server

pytestmark = [pytest.mark.services, pytest.mark.slow]


def ramq(settings: Settings, *words: str) -> Any:
    """What the command line prints. It runs in this process: the other one, which records, is the worker."""
    environment = {
        **os.environ,
        "RAMQ_DATA_DIR": str(settings.data_dir),
        "RAMQ_DATABASE_URL": settings.database_url or "",
        "RAMQ_BROKER_URL": settings.broker_url or "",
    }
    done = run_here([*words, "--json"], environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def records(services: Services, job_id: int) -> dict[str, Row[Any]]:
    """What a job recorded, by the last part of the key."""
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                """SELECT key, tags, scores, caption, width, height, v FROM record JOIN image ON image.id = image_id
                   JOIN vector USING (image_id, generation_id) WHERE job_id = :id"""
            ),
            {"id": job_id},
        ).all()
    return {row.key.rpartition("/")[2]: row for row in rows}


def check_alike(ours: dict[str, Row[Any]], theirs: dict[str, Row[Any]]) -> None:
    """Tags and vectors agree up to rounding: how pictures fell into batches moves the last digits of a float."""
    assert ours.keys() == theirs.keys()
    for name, mine in ours.items():
        other = theirs[name]
        assert (mine.caption, mine.width, mine.height) == (other.caption, other.width, other.height)
        scores = [dict(zip(row.tags, row.scores, strict=True)) for row in (mine, other)]
        for tag in scores[0].keys() | scores[1].keys():  # one that is missing is at the floor of 0.01
            assert scores[0].get(tag, 100) == pytest.approx(scores[1].get(tag, 100), abs=2), (name, tag)
        vectors = [unpack_vectors(row.v, 384)[0] for row in (mine, other)]
        # The weights are roots of scores, so a tag that comes or goes at the floor moves the vector by its root.
        assert float(vectors[0] @ vectors[1]) > 0.999, name


def chosen(photographs: list[Path]) -> list[Path]:
    """One photograph of four, enough for several shards and batches, and those that are searched for."""
    return [each for number, each in enumerate(photographs) if number % 4 == 0 or each.stem in {"chelsea", "coffee"}]


def test_a_folder_and_a_bucket_give_the_same_archive(
    s3_settings: Settings, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photograph in enumerate(chosen(photographs(300))):
        shutil.copy(photograph, folder / f"{number:03}-{photograph.name}")
    count = len(list(folder.iterdir()))
    s3_server.upload_folder(folder, bucket, "holiday/")

    with (
        client_services(s3_settings) as services,
        running_fleet(
            s3_settings, tmp_path, is_null=False, RAMQ_LEASE_SECONDS="30", RAMQ_SHARD_SIZE="32", OMP_NUM_THREADS="2"
        ) as fleet,
    ):
        fleet.start(1)
        from_bucket = services.jobs.create(f"s3://{bucket}/holiday")
        from_folder = services.jobs.create(str(folder))
        for job in (from_bucket, from_folder):
            view = wait_for(services, job.id, fleet, lambda view: view.is_over, timeout=240)
            assert (view.state, view.listed, view.done, view.failed) == ("done", count, count, 0), fleet.log()[-2000:]
            check_counters(services, job.id)
        assert [worker.device for worker in services.jobs.workers()] in (["cpu"], ["cuda"])  # not "auto"
        check_alike(records(services, from_bucket.id), records(services, from_folder.id))

        again = services.jobs.create(f"s3://{bucket}/holiday")
        assert wait_for(services, again.id, fleet, lambda view: view.is_over).skipped == count

        cats = services.search.page(SearchQuery(text="a cat", archive=f"s3://{bucket}/holiday", limit=10))
        assert any("chelsea" in hit.key for hit in cats.items)
        coffee = services.search.page(SearchQuery(tags=("espresso",)))
        assert {hit.archive for hit in coffee.items} >= {f"s3://{bucket}/holiday", folder.as_uri()}

        # The database, the command line and the page count alike.
        facets = {facet.name: facet.count for facet in services.search.facets(SearchQuery(job=from_bucket.id), 500)}
        listed = ramq(s3_settings, "tags", "--job", str(from_bucket.id), "--limit", "500")
        assert {item["name"]: item["count"] for item in listed["items"]} == facets
        with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
            items = client.get("/v1/tags", params={"job": from_bucket.id, "limit": 500}).json()["items"]
            assert {item["name"]: item["count"] for item in items} == facets
            counters = client.get(f"/v1/jobs/{from_bucket.id}").json()
        shown = ramq(s3_settings, "job", str(from_bucket.id))
        names = ("listed", "done", "skipped", "failed", "pending")
        assert [counters[name] for name in names] == [shown[name] for name in names] == [count, count, 0, 0, 0]

        # A person finds what the worker recorded.
        found = ramq(s3_settings, "search", "a cup of coffee", "--limit", "5")
        assert any("coffee" in item["key"] for item in found["items"])

        # What is deleted is gone at once, and nothing else is.
        victim = coffee.items[0]
        services.erasures.delete([victim.image_id])
        left = services.search.page(SearchQuery(tags=("espresso",)))
        assert {hit.image_id for hit in left.items} == {hit.image_id for hit in coffee.items} - {victim.image_id}
        near = services.search.page(SearchQuery(text="a cup of coffee", limit=100))
        assert victim.image_id not in {hit.image_id for hit in near.items}

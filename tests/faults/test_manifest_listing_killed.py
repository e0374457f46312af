"""Workers are killed while they read a manifest: no key of it is lost, and none counts twice."""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.checker import check_job, fill, pictures
from tests.services.fleet import client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.fleet import Fleet
    from tests.services.s3 import S3Server

COUNT = 1_500
DOUBLED = 700
"""Together more than two pages of a thousand."""


def doubled(names: list[str]) -> list[str]:
    """The names in any order, some of them a second time, far from the first."""
    chance = random.Random(3)
    return chance.sample(names, len(names)) + chance.sample(names, DOUBLED)


def run_with_deaths(services: Services, fleet: Fleet, source: str, files: dict[str, bytes]) -> None:
    """Kill the worker after each page; the next one goes on."""
    fleet.environment |= {"FAULT_PAGE_SECONDS": "0.7", "RAMQ_LEASE_SECONDS": "1", "RAMQ_BATCH_SIZE": "64"}
    job = services.jobs.create(source)
    for pages in range(2):
        [victim] = fleet.start(1)
        wait_for(services, job.id, fleet, lambda view, pages=pages: view.listed > pages * 1_000)
        assert services.jobs.get(job.id).is_listing
        fleet.kill(victim)
        release_listing(services, job.id)
    fleet.start(2)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    check_job(services, job.id, files)


def release_listing(services: Services, job_id: int) -> None:
    """Let the minute pass that the dead worker's lease of the listing lasts."""
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE listing_range SET lease_until = now() WHERE job_id = :id"), {"id": job_id})


@pytest.mark.slow
def test_a_list_of_keys_survives_the_death_of_its_readers(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    files = fill(tmp_path / "photos", COUNT)
    manifest = tmp_path / "photos" / "keys.txt"
    manifest.write_text("\n".join(doubled(list(files))))
    run_with_deaths(services, fleet, str(manifest), files)


@pytest.mark.slow
def test_an_inventory_that_repeats_keys_across_its_files_counts_each_once_whoever_dies(
    s3_settings: Settings, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    files = pictures(COUNT)
    s3_server.put(bucket, files)
    names = doubled(list(files))
    parts = {}
    for number, part in enumerate((names[:1_200], names[1_200:])):
        path = tmp_path / f"{number}.parquet"
        etags = [hashlib.md5(files[name]).hexdigest() for name in part]
        sizes = [len(files[name]) for name in part]
        parquet.write_table(
            pa.table({"bucket": [bucket] * len(part), "key": part, "size": sizes, "e_tag": etags}), path
        )
        parts[f"inventory/data/{number}.parquet"] = path.read_bytes()
    entries = [
        {"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()} for key, body in parts.items()
    ]
    manifest = {"sourceBucket": bucket, "fileFormat": "Parquet", "fileSchema": "", "files": entries}
    home = s3_server.make_bucket()
    s3_server.put(home, {**parts, "inventory/manifest.json": json.dumps(manifest).encode()})
    with (
        client_services(s3_settings) as services,
        running_fleet(s3_settings, tmp_path, RAMQ_S3_ENDPOINT_URL=s3_server.endpoint_url) as fleet,
    ):
        run_with_deaths(services, fleet, f"s3://{home}/inventory/manifest.json", files)
    s3_server.delete_bucket(home)

"""Workers that list one archive together are killed: no key is lost, and none counts twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.checker import check_job, pictures
from tests.services.fleet import client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.s3 import S3Server

COUNT = 900
WORKERS = 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_every_key_is_recognised_once_whoever_of_its_listers_dies(
    s3_settings: Settings, s3_server: S3Server, bucket: str, tmp_path: Path, kind: str
) -> None:
    chance = random.Random(7)
    # One large folder, some small ones, and files beside them.
    files = {
        (name if n % 50 == 0 else f"{n % 3}/{name}" if n % 10 == 0 else f"large/{name}"): body
        for n, (name, body) in enumerate(pictures(COUNT).items())
    }
    source = f"s3://{bucket}"
    if kind == "bucket":
        s3_server.put(bucket, files)
    else:
        source = str(tmp_path / "photos")
        for name, body in files.items():
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).write_bytes(body)
    with (
        client_services(s3_settings) as services,
        running_fleet(s3_settings, tmp_path, RAMQ_S3_ENDPOINT_URL=s3_server.endpoint_url) as fleet,
    ):
        fleet.environment |= {"FAULT_PAGE_SIZE": "20", "FAULT_PAGE_SECONDS": "0.3", "RAMQ_LEASE_SECONDS": "1"}
        job = services.jobs.create(source)
        fleet.start(WORKERS)
        for part in range(1, 5):
            wait_for(services, job.id, fleet, lambda view, part=part: view.listed >= part * COUNT // 6)
            fleet.kill(chance.choice(fleet.processes))
            with unit_of_work(services.engine) as session:  # the minute of the dead worker's lease passes
                listed_by = session.scalar(text("SELECT count(*) FROM listing_range WHERE lease_until > now()"))
                session.execute(text("UPDATE listing_range SET lease_until = now() WHERE lease_until > now()"))
            assert listed_by is not None
            fleet.start(1)
        view = wait_for(services, job.id, fleet, lambda view: view.is_over)
        assert view.listers == 0
        check_job(services, job.id, files)
        with unit_of_work(services.engine) as session:
            assert (session.scalar(text("SELECT count(*) FROM listing_range")) or 0) > 1

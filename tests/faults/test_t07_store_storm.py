"""An object store in a storm: errors, outages, bodies cut short, stalled or trickling. It passes; nothing failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.checker import check_job, check_second_run, pictures
from tests.services.fault_proxy import Cut, Refuse, Rule, Stall, Status, Trickle
from tests.services.fleet import client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.fault_proxy import FaultProxy
    from tests.services.s3 import S3Server

LEASE_SECONDS = 2


@pytest.mark.slow
def test_a_storm_passes_and_no_image_is_failed_for_it(
    s3_settings: Settings,
    s3_server: S3Server,
    s3_proxy: FaultProxy,
    bucket: str,
    tmp_path: Path,
    amount: Callable[[int, int], int],
) -> None:
    """No failures; at most 3 requests an image; no lease that is not prolonged."""
    count = amount(300, 5_000)
    files = pictures(count)
    s3_server.put(bucket, files)
    settings = s3_settings.model_copy(update={"s3_endpoint_url": s3_proxy.url})
    environment = {
        "RAMQ_S3_ENDPOINT_URL": s3_proxy.url,
        "RAMQ_LEASE_SECONDS": str(LEASE_SECONDS),
        "NULL_MODEL_SECONDS": "0.2",
    }
    with client_services(settings) as services, running_fleet(settings, tmp_path, **environment) as fleet:
        fleet.start(2)
        job = services.jobs.create(f"s3://{bucket}")
        wait_for(services, job.id, fleet, lambda view: view.done > 0)
        s3_proxy.storm(
            Rule(Status(503), share=0.3, only=".png"),
            Rule(Cut(500), share=0.05, only=".png"),
            Rule(Stall(500), share=0.02, only=".png", times=10),
            Rule(Trickle(200), share=0.02, only=".png", times=10),
        )
        wait_for(services, job.id, fleet, lambda view: view.done > count // 3)
        s3_proxy.fail(Status(503))
        time.sleep(amount(2, 20))
        s3_proxy.fail(Refuse())  # the store vanishes altogether
        time.sleep(amount(2, 20))
        with unit_of_work(services.engine) as session:
            late = session.scalar(
                text("SELECT count(*) FROM shard WHERE state = 'leased' AND lease_until < now() - interval '1 second'")
            )
        assert late == 0
        s3_proxy.heal()
        first = wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
        assert len([path for _, path in s3_proxy.requests if ".png" in path]) <= 3 * count
        check_second_run(services, fleet, f"s3://{bucket}", first)

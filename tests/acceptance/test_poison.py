"""A folder and a bucket full of bad and odd files go through a live job: every one an outcome, no worker lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.poison import bad, odd
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


def test_every_file_of_a_bad_archive_gets_the_outcome_it_deserves(
    s3_settings: Settings, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    wrong = {f"bad-{number:03}.jpg": each for number, each in enumerate(bad())}
    fine = {f"odd-{number:03}": each for number, each in enumerate(odd())}
    for name, each in (*wrong.items(), *fine.items()):
        (folder / name).write_bytes(each.body)
    s3_server.upload_folder(folder, bucket)
    with client_services(s3_settings) as services, running_fleet(s3_settings, tmp_path) as fleet:
        [worker] = fleet.start(1, RAMQ_DECODE_THREADS="2")
        for source in (str(folder), f"s3://{bucket}"):
            job = services.jobs.create(source)
            view = wait_for(services, job.id, fleet, lambda view: view.is_over)
            assert (view.listed, view.done, view.failed) == (len(wrong) + len(fine), len(fine), len(wrong))
            failures = {f.key: f.error_class for f in services.jobs.failures(job.id, limit=500).items}
            assert failures.keys() == wrong.keys()
            assert {name for name, code in failures.items() if code not in wrong[name].codes} == set()
            check_counters(services, job.id)
        assert worker.poll() is None, "the worker died"

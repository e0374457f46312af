"""Workers that cannot do the work, each for a reason of its own: others do it, no job fails, everybody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.doctor import examine
from tests.services.checker import check_job, picture, pictures, prepared
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for
from tests.services.null_worker import digest
from tests.services.watch import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.fleet import Fleet
    from tests.services.s3 import S3Server

EACH = 8


def unfit(services: Services) -> list[str]:
    """Why living workers say that they cannot do something."""
    return [each.reason for view in services.jobs.workers() if view.is_alive for each in view.unfit]


@pytest.mark.slow
def test_two_healthy_workers_do_everything_beside_one_of_each_unfit_kind(
    s3_settings: Settings, s3_server: S3Server, bucket: str, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """The unfit are there first and try every kind of job; what they find out is on the jobs and in `ramq workers`."""
    full = tmp_path / "disk-is-full"
    full.touch()
    kinds = {
        "device": {"RAMQ_DEVICE": "cuda:7"},
        "checkpoint": {"NULL_MODEL_TROUBLE": "checkpoint"},
        "memory": {"NULL_MODEL_TROUBLE": "memory"},
        "disk": {"FAULT_FULL_DISK": str(full)},
        "credentials": {"AWS_SECRET_ACCESS_KEY": "wrong"},
    }
    jobs = amount(8, 20)  # each worker makes clients for the archive of each job
    for number in range(jobs):
        s3_server.put(bucket, {f"{number:02}/{key}": body for key, body in pictures(EACH).items()})
    environment = {"RAMQ_S3_ENDPOINT_URL": str(s3_settings.s3_endpoint_url), "RAMQ_SHARD_SIZE": "4"}
    with client_services(s3_settings) as services, running_fleet(s3_settings, tmp_path, **environment) as fleet:
        ids = [services.jobs.create(f"s3://{bucket}/{number:02}").id for number in range(jobs)]
        for trouble in kinds.values():
            fleet.start(1, **trouble)
        until(lambda: len([view for view in services.jobs.workers() if view.unfit]) == len(kinds), fleet)
        said = " ".join(unfit(services))
        for words in ("No such device: cuda:7", "is damaged", "not enough memory", "No space left", "the credentials"):
            assert words in said
        note = wait_for(services, ids[0], fleet, lambda view: view.note is not None).note
        assert note is not None
        assert note.startswith("waiting for a worker that can ")
        [workers] = [finding for finding in examine(s3_settings) if finding.name == "workers"]
        assert workers.state == "fault"
        assert "unfit for any work: No such device: cuda:7" in workers.detail

        fleet.start(2)
        for job_id in ids:
            view = wait_for(services, job_id, fleet, lambda view: view.is_over)
            assert (view.state, view.done, view.failed, view.note) == ("done", EACH, 0, None)
            check_counters(services, job_id)


@pytest.mark.slow
def test_a_worker_is_fit_again_as_soon_as_what_it_lacked_is_there(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    full = tmp_path / "disk-is-full"
    full.touch()
    (tmp_path / "photos").mkdir()
    for key, body in pictures(EACH).items():
        (tmp_path / "photos" / key).write_bytes(body)
    job = services.jobs.create(str(tmp_path / "photos"))
    fleet.start(1, FAULT_FULL_DISK=str(full))
    waiting = wait_for(services, job.id, fleet, lambda view: view.note is not None)
    assert waiting.note is not None
    assert waiting.note.endswith("[Errno 28] No space left on device")
    assert (waiting.state, waiting.eta_seconds) == ("running", None)
    full.unlink()
    view = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert (view.done, view.failed) == (EACH, 0)
    until(lambda: not unfit(services), fleet)


@pytest.mark.slow
def test_an_image_that_loses_the_device_on_every_worker_is_found(
    services: Services, fleet: Fleet, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Each lost device ends its process and counts as the death of a holder, until the image stands alone."""
    count = amount(6, 64)
    files = pictures(count) | {"poison.png": picture(9_999)}
    (tmp_path / "photos").mkdir()
    for key, body in files.items():
        (tmp_path / "photos" / key).write_bytes(body)
    job = services.jobs.create(str(tmp_path / "photos"))
    fleet.environment |= {
        "NULL_MODEL_LOSES_DEVICE": digest(prepared(files["poison.png"])),
        "RAMQ_LEASE_SECONDS": "1",
    }
    fleet.start(2)

    def is_over() -> bool:
        for process in [process for process in fleet.processes if process.poll() is not None]:
            assert process.returncode == 1
            fleet.processes.remove(process)
            fleet.start(1)
        return services.jobs.get(job.id).is_over

    until(is_over, fleet)
    check_job(services, job.id, files, {"poison.png": "worker_crash"})

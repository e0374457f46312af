"""What a store says of single objects is told by class, exactly; where it says no to most, the job ends early."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.checker import check_job, check_report, check_results, picture, pictures
from tests.services.fault_proxy import Rule, Status
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for
from tests.services.watch import leases_of

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.fault_proxy import FaultProxy
    from tests.services.s3 import S3Server

NASTY = (
    "a b.png", "a+b.png", "a%20b.png", "ü/é.png", "日本/写真.png", "🐈.png", "a&b=c?d.png", "q'uote\".png",
    "<tag>.png", "tab\there.png", "~tilde.png", "#hash.png", "{brace}.png", "[1].png",
    "semi;colon.png", "a@b:c.png", "..hidden.png", "end.", "x" * 200 + ".png", "*.png",
)  # fmt: skip


@pytest.fixture
def proxied(s3_settings: Settings, s3_proxy: FaultProxy) -> Settings:
    return s3_settings.model_copy(update={"s3_endpoint_url": s3_proxy.url})


@pytest.mark.slow
def test_every_answer_of_a_store_about_an_object_has_its_own_class(
    proxied: Settings, s3_server: S3Server, s3_proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    """One code each; a changed object ends with what its new content says; a marker of a folder is no picture."""
    files = {key: picture(number) for number, key in enumerate(NASTY)}
    files |= {f"wrong/{name}.png": picture(1_000) for name in ("gone", "denied", "kms", "frozen", "empty")}
    files |= {"wrong/empty.png": b"", "changed.png": picture(2_000), "folder/": b""}
    s3_server.put(bucket, files)
    wrong = {
        "wrong/gone.png": "missing",
        "wrong/denied.png": "forbidden",
        "wrong/kms.png": "forbidden",
        "wrong/frozen.png": "archived",
        "wrong/empty.png": "empty",
    }
    environment = {"RAMQ_S3_ENDPOINT_URL": s3_proxy.url}
    with client_services(proxied) as services, running_fleet(proxied, tmp_path, **environment) as fleet:
        # Listed, but nothing is fetched yet. A file .ramqignore is looked for.
        s3_proxy.storm(Rule(Status(503), only=".png"), Rule(Status(503), only="end."))
        job = services.jobs.create(f"s3://{bucket}")
        fleet.start(1)
        wait_for(services, job.id, fleet, lambda view: view.listed == len(files) and not view.is_listing)
        client = s3_server.client()
        client.delete_object(Bucket=bucket, Key="wrong/gone.png")
        client.close()
        files["changed.png"] = picture(2_001)
        s3_server.put(bucket, {"changed.png": files["changed.png"]})
        s3_proxy.storm(
            Rule(Status(403), only="denied.png"),
            Rule(Status(403, "KMS.DisabledException"), only="kms.png"),
            Rule(Status(403, "InvalidObjectState"), only="frozen.png"),
        )
        view = wait_for(services, job.id, fleet, lambda view: view.is_over)
        assert (view.state, view.failed, view.skipped) == ("done", len(wrong), 1)
        del files["folder/"]
        check_counters(services, job.id)
        check_results(services, files, wrong)
        check_report(
            services, job.id, {key: ("failed", wrong[key]) if key in wrong else ("done", None) for key in files}
        )
        assert services.jobs.report(job.id).folder_markers == 1


@pytest.mark.slow
def test_a_job_that_may_not_read_its_archive_ends_early_and_can_be_taken_up_again(
    proxied: Settings, s3_server: S3Server, s3_proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    """1,100 attempts at most, in an archive of any size; then permission is given and the failures are tried again."""
    files = pictures(1_600)
    s3_server.put(bucket, files)
    environment = {"RAMQ_S3_ENDPOINT_URL": s3_proxy.url, "RAMQ_SHARD_SIZE": "256"}
    with client_services(proxied) as services, running_fleet(proxied, tmp_path, **environment) as fleet:
        s3_proxy.fail(Status(403), only="/0")
        job = services.jobs.create(f"s3://{bucket}")
        fleet.start(2)
        view = wait_for(services, job.id, fleet, lambda view: view.is_over)
        assert view.state == "failed"
        assert view.note is not None
        assert f"ramq retry {job.id} --class forbidden" in view.note
        wait_for(services, job.id, fleet, lambda _: not any(leases_of(services, one) for one in fleet.processes))
        assert len([path for _, path in s3_proxy.requests if "/0" in path]) <= 1_100
        s3_proxy.heal()
        services.jobs.retry(job.id, "forbidden")
        wait_for(services, job.id, fleet, lambda view: view.is_over)
        check_job(services, job.id, files)


@pytest.mark.slow
def test_a_job_that_is_resumed_goes_on_although_most_of_it_is_forbidden(
    proxied: Settings, s3_server: S3Server, s3_proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    files = pictures(1_000)
    s3_server.put(bucket, files)
    environment = {"RAMQ_S3_ENDPOINT_URL": s3_proxy.url}
    with client_services(proxied) as services, running_fleet(proxied, tmp_path, **environment) as fleet:
        s3_proxy.fail(Status(403), only="/0")
        job = services.jobs.create(f"s3://{bucket}")
        fleet.start(1)
        assert wait_for(services, job.id, fleet, lambda view: view.is_over).state == "failed"
        services.jobs.resume(job.id)
        view = wait_for(services, job.id, fleet, lambda view: view.is_over)
        assert (view.state, view.failed, view.failures_by_class) == ("done", 1_000, {"forbidden": 1_000})

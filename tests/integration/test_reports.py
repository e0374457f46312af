"""Completion reports: every listed key with one outcome, the same bytes however often they are asked for."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.ledger import listings, reports
from storage.ledger.shards import DONE, FAILED, PENDING
from storage.results import erasures, images
from tests.ledger import Ledger, listed
from tests.services.web import job_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from storage.ledger.views import JobReport

pytestmark = pytest.mark.services


def summary(ledger: Ledger, job_id: int) -> JobReport:
    with unit_of_work(ledger.engine) as session:
        return reports.summary(session, job_id)


def lines(ledger: Ledger, job_id: int) -> list[bytes]:
    with unit_of_work(ledger.engine) as session:
        return list(reports.lines(session, job_id))


def outcomes(ledger: Ledger, job_id: int) -> dict[str, Any]:
    entries = [json.loads(line) for line in lines(ledger, job_id)]
    assert len({entry["key"] for entry in entries}) == len(entries)
    return {entry["key"]: entry["class"] or entry["outcome"] for entry in entries}


def finished_job(ledger: Ledger) -> int:
    """A job with two records, one failure and three images that were skipped."""
    job_id = ledger.make_job([3])
    shard = ledger.must_claim()
    ledger.write(shard, bytes([DONE, FAILED, DONE]))
    ledger.close(shard)
    with unit_of_work(ledger.engine) as session:
        images.upsert_page(session, ledger.archive.id, listed("a", "é", "Z"))
        listings.add_skipped(session, job_id, images.ids_of_page(session, ledger.archive.id))
    ledger.execute("UPDATE job SET listed = listed + 3, skipped = skipped + 3 WHERE id = :id", id=job_id)
    ledger.finish()
    return job_id


def test_every_listed_key_has_one_line_in_byte_order(ledger: Ledger) -> None:
    job_id = finished_job(ledger)

    keys = list(outcomes(ledger, job_id))
    assert keys == sorted(keys, key=str.encode)
    assert outcomes(ledger, job_id) == {
        f"{job_id}/00000": "done",
        f"{job_id}/00001": "corrupt",
        f"{job_id}/00002": "done",
        "Z": "skipped",
        "a": "skipped",
        "é": "skipped",
    }


def test_the_hash_is_that_of_the_lines_and_the_figures_are_their_sums(ledger: Ledger) -> None:
    job_id = finished_job(ledger)

    report = summary(ledger, job_id)
    assert report.sha256 == hashlib.sha256(b"".join(lines(ledger, job_id))).hexdigest()
    assert (report.listed, report.done, report.skipped, report.failed, report.pending) == (6, 2, 3, 1, 0)
    assert report.failures_by_class == {"corrupt": 1}
    assert (report.first_key, report.last_key) == (f"{job_id}/00000", "é")
    assert (report.lines, report.erased, report.folder_markers) == (6, 0, 0)
    assert report.is_final
    assert report.generation_id == ledger.generation_id
    assert report.fingerprint


def test_a_report_stays_the_same_when_a_later_job_replaces_the_records(ledger: Ledger) -> None:
    job_id = finished_job(ledger)
    before = summary(ledger, job_id)

    with unit_of_work(ledger.engine) as session:
        images.upsert_page(session, ledger.archive.id, listed(f"{job_id}/00000", version="v2"))
    ledger.execute("UPDATE record SET version = 'v2', job_id = job_id + 1")

    assert summary(ledger, job_id) == before


def test_another_outcome_is_another_hash(ledger: Ledger) -> None:
    job_id = finished_job(ledger)
    before = summary(ledger, job_id)

    ledger.reopen(job_id)
    during = summary(ledger, job_id)
    assert not during.is_final
    assert outcomes(ledger, job_id)[f"{job_id}/00001"] == "pending"

    shard = ledger.must_claim()
    ledger.write(shard, bytes([DONE, DONE, DONE]))
    ledger.close(shard)
    ledger.finish()
    after = summary(ledger, job_id)
    assert (after.done, after.failed, after.failures_by_class) == (3, 0, {})
    assert len({before.sha256, during.sha256, after.sha256}) == 3


def test_an_erased_image_is_counted_but_its_key_is_nowhere(ledger: Ledger) -> None:
    job_id = finished_job(ledger)
    victim = ledger.scalar("SELECT id FROM image WHERE key = 'a'")

    with unit_of_work(ledger.engine) as session:
        erasures.erase(session, [victim])

    report = summary(ledger, job_id)
    assert "a" not in outcomes(ledger, job_id)
    assert (report.lines, report.erased, report.listed) == (5, 1, 6)


def test_a_page_of_neighbours_that_are_skipped_is_kept_as_one_stretch(ledger: Ledger) -> None:
    job_id = ledger.make_job()
    with unit_of_work(ledger.engine) as session:
        images.upsert_page(session, ledger.archive.id, listed(*(f"{number:04}" for number in range(1000))))
        ids = images.ids_of_page(session, ledger.archive.id)
        listings.add_skipped(session, job_id, ids)

    assert ledger.scalar("SELECT count(*) FROM skip, unnest(image_ids)") == 1
    assert len(lines(ledger, job_id)) == 1000


def test_pending_images_are_told_as_such(ledger: Ledger) -> None:
    job_id = ledger.make_job([2])
    ledger.write(ledger.must_claim(), bytes([DONE, PENDING]))

    assert outcomes(ledger, job_id) == {f"{job_id}/00000": "done", f"{job_id}/00001": "pending"}


def test_a_job_that_does_not_exist_has_no_report(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError):
        summary(ledger, 77)
    with pytest.raises(NotFoundError):
        lines(ledger, 77)


def test_the_api_gives_the_report_and_the_lines_its_hash_is_over(client: TestClient) -> None:
    job = job_of(client)

    report = client.get(f"/v1/jobs/{job['id']}/report").json()
    answer = client.get(f"/v1/jobs/{job['id']}/report/lines")

    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert hashlib.sha256(answer.content).hexdigest() == report["sha256"]
    assert [report[name] for name in ("listed", "done", "failed")] == [
        job[name] for name in ("listed", "done", "failed")
    ]
    assert report["lines"] == job["listed"]
    assert report["failures_by_class"] == job["failures_by_class"]
    assert client.get("/v1/jobs/999/report").status_code == 404
    assert client.get("/v1/jobs/999/report/lines").status_code == 404

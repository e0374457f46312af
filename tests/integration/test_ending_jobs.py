"""Jobs that have nothing left to do: who ends them, and what is said of them until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.cli.following import tell_lonely
from storage.database import unit_of_work
from storage.ledger import workers
from storage.ledger.shards import DONE
from tests.services.recognised import make_worker
from workers.ending import finish_jobs

if TYPE_CHECKING:
    from ramq.wiring import Services
    from tests.ledger import Ledger

pytestmark = pytest.mark.services

TOLD = "its images are done, and the next worker ends it. No worker is running: start one with `ramq worker`"


def recognised(ledger: Ledger) -> int:
    """A job whose only image is written, by a worker that did not look for jobs to end since."""
    job_id = ledger.make_job([1])
    shard = ledger.must_claim()
    ledger.write(shard, bytes([DONE]))
    ledger.close(shard)
    return job_id


def lose_a_file(ledger: Ledger) -> None:
    """Let a file of the archive be missing: a job that ends looks where it is now."""
    ledger.execute(
        "INSERT INTO image (archive_id, key, version, size) VALUES (:id, 'gone', 'v1', 1)", id=ledger.archive.id
    )
    ledger.execute("UPDATE image SET missing_since = now() WHERE key = 'gone'")
    assert ledger.scalar("SELECT missing FROM archive") == 1


def test_a_worker_that_leaves_ends_the_jobs_that_have_no_work_left(ledger: Ledger, services: Services) -> None:
    job_id = recognised(ledger)
    unfinished = ledger.make_job([1])
    worker = make_worker(services)
    worker.leave()
    assert [ledger.view(each).state for each in (job_id, unfinished)] == ["done", "running"]


def test_a_worker_that_has_to_leave_does_not_look_for_moved_files_any_more(ledger: Ledger) -> None:
    lose_a_file(ledger)
    job_id = recognised(ledger)
    assert finish_jobs(ledger.engine, lambda: True) == []
    assert finish_jobs(ledger.engine) == [job_id]


def test_a_job_that_only_has_to_end_says_that_no_worker_is_there_to_do_it(ledger: Ledger) -> None:
    unfinished, job_id = ledger.make_job([1]), ledger.make_job()
    assert (ledger.view(job_id).state, ledger.view(job_id).note) == ("running", TOLD)
    assert ledger.view(unfinished).note is None
    beat(ledger)
    assert ledger.view(job_id).note is None
    lose_a_file(ledger)
    assert ledger.view(job_id).note == "its images are done. It ends when workers have looked for moved files"


def test_a_job_that_only_has_to_end_waits_for_no_worker_that_runs_its_model(ledger: Ledger) -> None:
    job_id = ledger.make_job(model="ram_plus")
    beat(ledger, "lite")
    assert ledger.view(job_id).note is None
    unfinished = ledger.make_job([1], model="ram_plus")
    assert ledger.view(unfinished).note == "waiting for a worker that runs ram_plus: those alive run only lite"


def test_a_shard_that_a_dead_worker_did_not_close_needs_a_worker_with_the_model(ledger: Ledger) -> None:
    job_id = ledger.make_job([1], model="ram_plus")
    ledger.write(ledger.must_claim(), bytes([DONE]))
    beat(ledger, "lite")
    assert ledger.view(job_id).pending == 0
    assert ledger.view(job_id).note == "waiting for a worker that runs ram_plus: those alive run only lite"


def test_a_further_stage_ends_after_the_job_that_may_find_more_pages(ledger: Ledger) -> None:
    first, second = ledger.make_job([1]), ledger.make_job()
    ledger.execute("""UPDATE job SET options = '{"pages": true}' WHERE id = :id""", id=first)
    ledger.execute("UPDATE job SET with_job_id = :first WHERE id = :id", first=first, id=second)
    assert finish_jobs(ledger.engine) == []
    note = ledger.view(second).note
    assert note == f"its images so far are done. It ends after job {first}, which may find more pages of files"


def test_a_job_that_runs_without_a_worker_says_how_to_start_one(
    ledger: Ledger, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = ledger.make_job([1])
    tell_lonely(services, services.settings, services.jobs.get(job_id))
    told = capsys.readouterr().err
    assert "No worker is running. Start one with `ramq worker`, or follow the job with `ramq job 1 --watch`" in told
    beat(ledger)
    tell_lonely(services, services.settings, services.jobs.get(job_id))
    services.jobs.pause(job_id)
    ledger.execute("DELETE FROM worker")
    tell_lonely(services, services.settings, services.jobs.get(job_id))
    assert not capsys.readouterr().err


def beat(ledger: Ledger, *models: str) -> None:
    """Let a worker be alive; by default it runs any model."""
    with unit_of_work(ledger.engine) as session:
        workers.beat(
            session,
            "w",
            host="here",
            pid=1,
            device="cpu",
            model=None,
            job_id=None,
            images_per_second=0.0,
            stages={},
            models=list(models) or None,
        )

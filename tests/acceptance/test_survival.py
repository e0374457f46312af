"""Workers are killed, stopped, paused and doubled; the counters balance and nothing visible is lost or repeated."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services import marked_decoder as marks
from tests.services.checker import check_results, fill, prepared
from tests.services.fleet import check_counters, wait_for
from tests.services.null_worker import digest

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet
    from tests.services.redis import RedisServer

pytestmark = pytest.mark.services


def test_a_worker_killed_in_the_middle_costs_nothing_that_can_be_seen(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", 400)
    job = services.jobs.create(str(tmp_path / "photos"))
    victim, _ = fleet.start(2, NULL_MODEL_SECONDS="0.1")
    wait_for(services, job.id, fleet, lambda view: view.done > 60)
    fleet.kill(victim)
    view = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert (view.state, view.done, view.failed) == ("done", 400, 0)
    check_counters(services, job.id)
    check_results(services, files)


def test_two_workers_share_a_job(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    fill(tmp_path / "photos", 600)
    fleet.start(2, NULL_MODEL_SECONDS="0.1")
    job = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    with unit_of_work(services.engine) as session:
        owners = session.execute(text("SELECT owner, count(*) FROM shard GROUP BY owner")).all()
    assert len(owners) == 2
    check_counters(services, job.id)


def test_a_worker_told_to_stop_finishes_its_batch_and_gives_the_rest_back(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 400)
    job = services.jobs.create(str(tmp_path / "photos"))
    [worker] = fleet.start(1, NULL_MODEL_SECONDS="0.2")
    wait_for(services, job.id, fleet, lambda view: view.done > 30)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0, fleet.log()
    with unit_of_work(services.engine) as session:
        leased = session.scalar(text("SELECT count(*) FROM shard WHERE state = 'leased'"))
    assert leased == 0
    assert services.jobs.workers() == []
    before = services.jobs.get(job.id)
    assert 0 < before.pending < 400
    fleet.start(1)
    assert wait_for(services, job.id, fleet, lambda view: view.is_over).done == 400
    check_counters(services, job.id)


def test_a_worker_that_was_asleep_past_its_lease_writes_nothing(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", 300)
    job = services.jobs.create(str(tmp_path / "photos"))
    [sleeper] = fleet.start(1, NULL_MODEL_SECONDS="0.2")
    wait_for(services, job.id, fleet, lambda view: view.done > 30)
    sleeper.send_signal(signal.SIGSTOP)
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    sleeper.send_signal(signal.SIGCONT)
    time.sleep(2)
    view = services.jobs.get(job.id)
    assert (view.state, view.done, view.failed) == ("done", 300, 0)
    check_counters(services, job.id)
    check_results(services, files)


def test_a_broker_that_forgets_everything_loses_nothing(
    services: Services, fleet: Fleet, redis_server: RedisServer, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 500)
    fleet.start(2, NULL_MODEL_SECONDS="0.05")
    job = services.jobs.create(str(tmp_path / "photos"))
    for threshold in (50, 150, 250, 350):
        wait_for(services, job.id, fleet, lambda view, at=threshold: view.done > at or view.is_over)
        redis_server.flush()
    assert wait_for(services, job.id, fleet, lambda view: view.is_over).done == 500
    second = services.jobs.create(str(tmp_path / "photos"))
    assert wait_for(services, second.id, fleet, lambda view: view.is_over).skipped == 500
    check_counters(services, job.id)


def test_an_image_that_kills_workers_is_found_and_its_neighbours_are_done(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", 120)
    poison = "00042.png"
    job = services.jobs.create(str(tmp_path / "photos"))
    environment = {"NULL_MODEL_POISON": digest(prepared(files[poison])), "RAMQ_LEASE_SECONDS": "1"}
    fleet.start(1, **environment)
    deadline = time.monotonic() + 120
    while not services.jobs.get(job.id).is_over:
        assert time.monotonic() < deadline, fleet.log()[-4000:]
        if all(process.poll() is not None for process in fleet.processes):
            fleet.start(1, **environment)  # as a supervisor would
        time.sleep(0.1)
    view = services.jobs.get(job.id)
    assert (view.done, view.failed) == (119, 1)
    [failure] = services.jobs.failures(job.id).items
    assert (failure.key, failure.error_class) == (poison, "worker_crash")
    # How many it takes depends on how busy the machine is; what ended each does not.
    ended = {process.poll() for process in fleet.processes} - {None}
    assert ended == {-signal.SIGSEGV}
    check_counters(services, job.id)
    check_results(services, files, {poison})


def test_pictures_that_kill_hang_or_starve_their_decoder_cost_nobody_but_themselves(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    files = fill(tmp_path / "photos", 300)
    fatal = {
        "00007.png": (marks.SEGFAULT, "decoder_crash"),
        "00031.png": (marks.SPIN, "decoder_timeout"),
        "00032.png": (marks.GREED, "decoder_memory"),
        "00150.png": (marks.SEGFAULT, "decoder_crash"),
        "00299.png": (marks.KILLED, "decoder_memory"),
    }
    for name, (mark, _) in fatal.items():
        (tmp_path / "photos" / name).write_bytes(marks.marked(files[name], mark))
    job = services.jobs.create(str(tmp_path / "photos"))
    [worker] = fleet.start(1, RAMQ_DECODE_THREADS="2")
    view = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert (view.done, view.failed) == (295, 5)
    assert worker.poll() is None
    failures = {failure.key: failure.error_class for failure in services.jobs.failures(job.id).items}
    assert failures == {name: code for name, (_, code) in fatal.items()}
    with unit_of_work(services.engine) as session:
        assert session.scalar(text("SELECT max(attempts) FROM shard")) <= 1
    lines = [json.loads(line) for line in fleet.log().splitlines() if line.startswith("{")]
    told = {line["key"]: line for line in lines if line["event"] == "image failed"}
    assert {key: line["error_class"] for key, line in told.items()} == failures
    assert {(line["job"], line["stage"]) for line in told.values()} == {(job.id, "decode")}
    begun = {line["shard"] for line in lines if line["event"] == "shard begun"}
    assert (
        {line["shard"] for line in told.values()}
        <= begun
        == {line["shard"] for line in lines if line["event"] == "shard ended"}
    )
    assert all("job" in line for line in lines if "shard" in line or line["event"] == "listed")
    assert not any(word in fleet.log() for word in ("postgresql+psycopg://", "AWS_SECRET"))
    check_counters(services, job.id)
    check_results(services, files, set(fatal))


def test_a_pause_takes_effect_within_a_batch_and_nothing_done_is_lost(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 400)
    fleet.start(1, NULL_MODEL_SECONDS="0.2")
    job = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, job.id, fleet, lambda view: view.done > 30)
    services.jobs.pause(job.id)
    time.sleep(1.0)  # the batch in hand
    paused = services.jobs.get(job.id)
    time.sleep(1.5)
    assert services.jobs.get(job.id).done == paused.done
    assert paused.state == "paused"
    services.jobs.resume(job.id)
    assert wait_for(services, job.id, fleet, lambda view: view.is_over).done == 400
    check_counters(services, job.id)


def test_a_cancelled_job_keeps_what_is_done_and_its_books_balance(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 400)
    fleet.start(1, NULL_MODEL_SECONDS="0.2")
    job = services.jobs.create(str(tmp_path / "photos"))
    wait_for(services, job.id, fleet, lambda view: view.done > 30)
    services.jobs.cancel(job.id)
    time.sleep(1.0)
    view = services.jobs.get(job.id)
    time.sleep(1.5)
    assert services.jobs.get(job.id).done == view.done
    assert view.state == "cancelled"
    assert view.pending > 0
    check_counters(services, job.id)


def test_an_urgent_small_job_is_not_stuck_behind_a_large_one(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    fill(tmp_path / "large", 500)
    fill(tmp_path / "small", 20)
    fleet.start(1, NULL_MODEL_SECONDS="0.2")
    large = services.jobs.create(str(tmp_path / "large"))
    wait_for(services, large.id, fleet, lambda view: view.done > 30)
    small = services.jobs.create(str(tmp_path / "small"), priority="high")
    wait_for(services, small.id, fleet, lambda view: view.is_over)
    assert not services.jobs.get(large.id).is_over

"""The schedule of watched archives: when they are listed, when not, and what is said of failures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ramq.services.job_wishes import JobWishes
from ramq.services.watches import events_named, seconds_of
from storage.database import unit_of_work
from storage.errors import ConflictError, ForbiddenError, NotFoundError, UsageError
from storage.ledger import jobs, watch_events
from storage.objects.ignoring import Selection
from tests.plan import Plan
from tests.services.fleet import client_services
from tests.watched import Watched
from workers.watching.schedule import Schedule

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from ramq.wiring import Services

pytestmark = pytest.mark.services

HOUR = 3_600


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("a.jpg", "b/c.jpg", "b/d.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")
    return root


@pytest.fixture
def plan(engine: Engine, root: Path) -> Plan:
    return Plan(engine, str(root))


@pytest.fixture
def watched(services: Services, plan: Plan, root: Path) -> Watched:
    return Watched.new(services, plan, str(root))


def test_a_new_watch_lists_at_once_and_then_as_often_as_asked(watched: Watched, root: Path) -> None:
    (job,) = watched.do()
    assert (job.watch, job.of_keys, job.listed, job.done, job.state) == (watched.id, False, 3, 3, "done")
    assert job.source == root.as_uri()
    assert watched.do() == []
    watched.pass_time(HOUR - 10)
    assert watched.do() == []
    (root / "new.jpg").write_bytes(b"new")
    watched.pass_time(20)
    (job,) = watched.do()
    assert (job.listed, job.skipped, job.done) == (4, 3, 1)
    view = watched.view
    assert (view.state, view.listing_job, view.is_listing, view.overdue_seconds) == ("active", job.id, False, 0.0)
    assert view.listed_at is not None


def test_time_that_was_missed_is_not_made_up_for(watched: Watched) -> None:
    watched.do()
    watched.pass_time(24 * HOUR)
    assert len(watched.do()) == 1
    assert watched.do() == []


def test_a_listing_is_left_out_with_a_note_while_the_last_one_goes_on(watched: Watched) -> None:
    (first,) = watched.step()
    watched.pass_time(HOUR)
    assert watched.step() == []
    assert watched.view.note == f"a listing was left out: job {first} has not ended"
    watched.plan.go_through()
    watched.plan.work()
    assert watched.step() == []
    watched.pass_time(HOUR)
    assert len(watched.do()) == 1
    assert watched.view.note is None


def test_many_workers_at_once_begin_one_job(watched: Watched, engine: Engine) -> None:
    begun: list[int] = []
    barrier = threading.Barrier(6)

    def step() -> None:
        barrier.wait()
        for _ in range(5):
            begun.extend(Schedule(engine).step())

    threads = [threading.Thread(target=step) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1


def test_failures_are_shown_and_the_pauses_between_them_grow(watched: Watched, engine: Engine) -> None:
    pauses = []
    for number in range(1, 5):
        (job_id,) = watched.step()
        with unit_of_work(engine) as session:
            jobs.fail(session, job_id, "the bucket is gone")
        watched.step()
        view = watched.view
        assert (view.state, view.failures) == ("failing", number)
        assert view.error == f"job {job_id} failed: the bucket is gone"
        pause = watched.plan.ledger.scalar("SELECT extract(epoch FROM next_listing_at - now()) FROM watch")
        pauses.append(round(float(pause) / HOUR))
        assert watched.step() == []
        watched.pass_time(float(pause) + 1)
    assert pauses == [1, 2, 4, 6]
    watched.do()
    assert (watched.view.state, watched.view.failures, watched.view.error) == ("active", 0, None)


def test_resuming_a_failing_watch_tries_again(watched: Watched, engine: Engine) -> None:
    (job_id,) = watched.step()
    with unit_of_work(engine) as session:
        jobs.fail(session, job_id, "the disk is gone")
    watched.step()
    view = watched.services.watches.resume(watched.id)
    assert (view.state, view.failures, view.error) == ("active", 0, None)


def test_a_failed_job_that_somebody_resumes_counts_when_it_ends_well(watched: Watched, engine: Engine) -> None:
    (job_id,) = watched.step()
    with unit_of_work(engine) as session:
        jobs.fail(session, job_id, "the disk is gone")
    watched.step()
    watched.services.jobs.resume(job_id)
    watched.do()
    assert (watched.view.state, watched.view.failures) == ("active", 0)


def test_a_paused_watch_begins_nothing_and_goes_on_when_it_is_resumed(watched: Watched) -> None:
    assert watched.services.watches.pause(watched.id).state == "paused"
    watched.tell("a.jpg")
    assert watched.do() == []
    assert watched.view.events_waiting == 1
    watched.services.watches.resume(watched.id)
    assert len(watched.do()) == 1


def test_a_removed_watch_leaves_its_archive_and_jobs(watched: Watched) -> None:
    (job,) = watched.do()
    watched.tell("a.jpg")
    watched.services.watches.remove(watched.id)
    assert watched.services.watches.list() == []
    assert watched.services.jobs.get(job.id).watch == watched.id
    assert watched.known() == {"a.jpg", "b/c.jpg", "b/d.jpg"}
    for change in (watched.services.watches.pause, watched.services.watches.resume, watched.services.watches.remove):
        with pytest.raises(NotFoundError, match="no watch"):
            change(watched.id)
    watched.tell("a.jpg")  # of a sender that does not know yet
    assert watched.do() == []


def test_removing_an_archive_removes_its_watches(watched: Watched, root: Path) -> None:
    watched.do()
    watched.look("a.jpg")
    watched.services.archives.remove(root.as_uri())
    assert watched.services.watches.list() == []


def test_a_renamed_archive_is_watched_at_its_new_place(watched: Watched, root: Path) -> None:
    watched.do()
    moved = root.rename(root.parent / "moved")
    watched.services.archives.rename(root.as_uri(), str(moved))
    assert watched.view.source == moved.as_uri()
    watched.pass_time(HOUR)
    (job,) = watched.do()
    assert (job.source, job.skipped) == (moved.as_uri(), 3)


def test_what_jobs_are_asked_for_is_kept(services: Services, plan: Plan, root: Path) -> None:
    selection = Selection(("*.jpg",), ("/d.jpg",), has_defaults=False)
    wishes = JobWishes("lite", caption=True, priority="low", stages=("look",), selection=selection)
    watched = Watched.new(services, plan, str(root / "b"), wishes=wishes)
    (job_id,) = watched.step()
    first, look = plan.ledger.view(job_id), plan.ledger.view(job_id + 1)
    assert (first.prefix, first.captioner, first.priority, first.include) == ("b", "template", "low", ["*.jpg"])
    assert (look.stage, look.with_job, look.watch) == ("look", first.id, watched.id)
    plan.go_through()
    assert plan.waiting() == ["b/c.jpg"]
    view = watched.view
    assert (view.source, view.stages, view.priority) == ((root / "b").as_uri(), ["look"], "low")


def test_the_same_place_is_watched_once_and_lists_of_keys_not_at_all(watched: Watched, root: Path) -> None:
    with pytest.raises(ConflictError, match=f"watch {watched.id} already"):
        Watched.new(watched.services, watched.plan, str(root))
    (root / "keys.txt").write_text("a.jpg\n")
    with pytest.raises(UsageError, match="cannot be watched"):
        Watched.new(watched.services, watched.plan, str(root / "keys.txt"))
    with pytest.raises(NotFoundError):
        Watched.new(watched.services, watched.plan, str(root / "nowhere"))


def test_a_worker_that_may_not_read_the_archive_says_so(watched: Watched, engine: Engine) -> None:
    assert Schedule(engine, ("/elsewhere",)).step() == []
    assert "RAMQ_ARCHIVE_ALLOW" in str(watched.view.note)


def test_an_archive_outside_the_allow_list_is_not_watched(settings: Settings, plan: Plan, root: Path) -> None:
    allowing = settings.model_copy(update={"archive_allow": ("/elsewhere",)})
    with client_services(allowing) as services, pytest.raises(ForbiddenError, match="RAMQ_ARCHIVE_ALLOW"):
        Watched.new(services, plan, str(root))


def test_a_storm_of_keys_becomes_one_listing_in_bounded_memory(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_events, "MOST_KEYS", 100)
    watched.do()
    for start in range(0, 100_000, 10_000):
        watched.tell(*(f"{number}.jpg" for number in range(start, start + 10_000)))
        assert watched.view.events_waiting == 0
    assert watched.view.events_taken == 100_000
    assert watched.view.list_now_reason == "events named more than 100 keys"
    watched.pass_time(60)
    (job,) = watched.do()
    assert (job.of_keys, job.listed) == (False, 3)
    assert watched.view.list_now_reason is None
    watched.pass_time(60)
    assert watched.do() == []


def test_many_events_of_few_keys_are_one_job(watched: Watched) -> None:
    watched.do()
    for _ in range(100):
        watched.tell(*(["a.jpg", "b/c.jpg"] * 500))
    watched.pass_time(60)
    (job,) = watched.do()
    # Both are read once more: an event may tell of files of equal size and time that traded names.
    assert (job.of_keys, job.listed, job.skipped) == (True, 2, 0)
    assert watched.plan.ledger.scalar("SELECT count(*) FROM job_key") == 0


def test_a_listing_out_of_turn_waits_as_long_as_the_last_one_took(watched: Watched, engine: Engine) -> None:
    (job_id,) = watched.step()
    watched.plan.ledger.execute("UPDATE watch SET listing_began_at = now() - interval '10 minutes'")
    watched.plan.go_through()
    watched.plan.work()
    watched.step()
    with unit_of_work(engine) as session:
        watch_events.list_now(session, watched.id, "so many keys")
    assert watched.step() == []
    watched.pass_time(599)
    assert watched.step() == []
    watched.pass_time(10)
    (again,) = watched.step()
    assert again > job_id


def test_of_a_trickle_of_keys_few_jobs_are_made(watched: Watched, root: Path) -> None:
    watched.do()
    begun = []
    for second in range(60):
        (root / f"{second}.jpg").write_bytes(b"new")
        watched.tell(f"{second}.jpg")
        begun += watched.do()
        watched.pass_time(1)
    assert 1 < len(begun) <= 20  # of 60; the machine may be slow
    assert sum(job.done for job in begun) >= 45


def test_jobs_of_a_watch_are_folded_in_the_list_unless_they_failed(watched: Watched, root: Path) -> None:
    (listing,) = watched.do()
    for number in range(5):
        (root / f"{number}.jpg").write_bytes(b"new")
        watched.look(f"{number}.jpg")
    watched.tell("4.jpg")
    (root / "4.jpg").write_bytes(b"newer")
    watched.pass_time(60)
    (failed,) = watched.do({"4.jpg": "corrupt"})
    newest = watched.look("0.jpg")
    own = watched.services.jobs.create(str(root / "b"))
    listed = watched.services.jobs.list(fold=True).items
    assert [job.id for job in listed] == [own.id, newest.id, failed.id]
    everything = watched.services.jobs.list(watch=watched.id).items
    assert [job.id for job in everything][-1] == listing.id
    assert len(everything) == 8


@pytest.mark.parametrize(("every", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("1.5 h", 5400), (120, 120)])
def test_times_are_read_as_people_write_them(every: str | float, seconds: int) -> None:
    assert seconds_of(every) == seconds


@pytest.mark.parametrize("every", ["", "1", "59s", "31d", "soon", "-1h", "1e3", "nan", "9" * 20])
def test_other_times_are_refused(every: str) -> None:
    with pytest.raises(UsageError, match="15m"):
        seconds_of(every)


@pytest.mark.parametrize("events", ["sqs", "sqs:", "sqs:queue", "sqs:ftp://x/y", "sqs:https://a:b@x/y", "kafka", ""])
def test_other_kinds_of_events_are_refused(events: str) -> None:
    with pytest.raises(UsageError, match="sqs:"):
        events_named(events)


@pytest.mark.parametrize("events", ["webhook", "sqs:https://sqs.eu-west-1.amazonaws.com/1/q"])
def test_folders_have_no_events_of_stores(services: Services, plan: Plan, root: Path, events: str) -> None:
    with pytest.raises(UsageError, match="inotify"):
        Watched.new(services, plan, str(root), events=events)

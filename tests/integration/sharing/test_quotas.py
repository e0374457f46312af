"""Quotas: what they refuse, what they let wait, and that they hold when many ask at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.job_wishes import JobWishes
from ramq.services.quotas import Whom, shown
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.ledger import jobs, quotas
from storage.ledger.quotas import NoRoomError, QuotaError, QuotaView

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.wiring import Services
    from storage.ledger.quotas import Kind, Subject
    from storage.ledger.views import Priority
    from tests.ledger import Ledger

pytestmark = pytest.mark.services


def put(engine: Engine, kind: Kind, amount: float | None, name: str = "", subject: Subject | None = None) -> None:
    with unit_of_work(engine) as session:
        quotas.put(session, QuotaView(kind, subject or ("user" if name else "default"), name, amount))


def make(ledger: Ledger, by: str | None, priority: Priority = "normal") -> int:
    return ledger.make_job(by=by, priority=priority)


# Jobs at once ----------------------------------------------------------------------------------------------------


def test_a_job_above_the_quota_is_refused_with_all_a_person_needs_to_know(ledger: Ledger, engine: Engine) -> None:
    put(engine, "jobs_at_once", 2)
    first, second = make(ledger, "ann"), make(ledger, "ann")
    ledger.set_state(second, "paused")
    with pytest.raises(
        QuotaError, match=r"2 jobs at once are the most for ann; 2 run or are paused. Wait until one"
    ) as e:
        make(ledger, "ann")
    assert (e.value.quota.kind, e.value.quota.name, e.value.quota.used) == ("jobs_at_once", "ann", 2)
    assert ledger.scalar("SELECT count(*) FROM job") == 2
    make(ledger, "bob")
    ledger.set_state(first, "cancelled")
    make(ledger, "ann")


def test_an_exception_counts_instead_of_what_all_have_and_none_is_no_limit(ledger: Ledger, engine: Engine) -> None:
    put(engine, "jobs_at_once", 1)
    put(engine, "jobs_at_once", 2, "ann")
    put(engine, "jobs_at_once", None, "bob")
    for name, count in (("ann", 2), ("bob", 4), ("cid", 1), (None, 1)):
        for _ in range(count):
            make(ledger, name)
    for name in ("ann", "cid", "local", None):
        with pytest.raises(QuotaError):
            make(ledger, name)


def test_an_archive_has_a_quota_for_all_its_users(ledger: Ledger, engine: Engine) -> None:
    put(engine, "jobs_at_once", 1, ledger.archive.uri, "archive")
    make(ledger, "ann")
    with pytest.raises(QuotaError, match="1 job at once are the most for s3://photos"):
        make(ledger, "bob")


def test_a_job_that_ended_is_not_resumed_above_the_quota(ledger: Ledger, engine: Engine) -> None:
    first = make(ledger, "ann")
    with unit_of_work(engine) as session:
        jobs.fail(session, first, "why")
    put(engine, "jobs_at_once", 1)
    second = make(ledger, "ann")
    with pytest.raises(QuotaError):
        ledger.set_state(first, "running")
    ledger.set_state(second, "paused")
    ledger.set_state(second, "running")
    ledger.set_state(second, "cancelled")
    ledger.set_state(first, "running")


def test_a_quota_of_jobs_holds_however_many_are_asked_for_at_once(ledger: Ledger, engine: Engine) -> None:
    put(engine, "jobs_at_once", 3)
    gate = threading.Barrier(12)

    def ask(number: int) -> bool:
        gate.wait()
        try:
            make(ledger, ("ann", "bob")[number % 2])
        except QuotaError:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(ask, range(12))) == 6
    rows = "SELECT max(n) FROM (SELECT count(*) AS n FROM job WHERE state = 'running' GROUP BY said_by) AS counted"
    assert ledger.scalar(rows) == 3


def test_a_priority_above_the_highest_is_refused(ledger: Ledger, engine: Engine) -> None:
    put(engine, "highest_priority", 0)
    put(engine, "highest_priority", 10, "ann")
    make(ledger, "ann", "high")
    make(ledger, "bob", "normal")
    with pytest.raises(QuotaError, match="the highest priority for bob is normal, so it cannot be high"):
        make(ledger, "bob", "high")


# Images ----------------------------------------------------------------------------------------------------------


def open_page(engine: Engine, job_id: int, images: int) -> None:
    """What a page of a listing does with the counters."""
    with unit_of_work(engine) as session:
        quotas.require_room(session, job_id)
        session.execute(text("UPDATE job SET listed = listed + :n WHERE id = :id"), {"n": images, "id": job_id})
        quotas.count_day(session, job_id, images)


def listing(ledger: Ledger, by: str) -> int:
    job_id = ledger.make_job(by=by)
    ledger.execute("UPDATE job SET listed_all_at = NULL WHERE id = :id", id=job_id)
    return job_id


def test_a_listing_waits_while_the_images_in_flight_are_the_most_and_says_so(ledger: Ledger, engine: Engine) -> None:
    put(engine, "images_waiting", 100)
    first, second, other = listing(ledger, "ann"), listing(ledger, "ann"), listing(ledger, "bob")
    open_page(engine, first, 100)
    for job_id in (first, second):
        with pytest.raises(NoRoomError):
            open_page(engine, job_id, 1)
        note = "waiting: 100 images in flight are the most for ann; 100 are. It goes on as they are done"
        assert ledger.view(job_id).note == note
    open_page(engine, other, 10)
    assert ledger.view(other).note is None
    ledger.execute("UPDATE job SET done = 1 WHERE id = :id", id=first)
    assert ledger.view(second).note is None
    open_page(engine, second, 5)


def test_a_listing_that_waits_for_paused_jobs_says_so(ledger: Ledger, engine: Engine) -> None:
    put(engine, "images_waiting", 100, ledger.archive.uri, "archive")
    first, second, waiting = listing(ledger, "ann"), listing(ledger, "bob"), listing(ledger, "cid")
    open_page(engine, first, 60)
    open_page(engine, second, 1_000)
    assert "paused" not in str(ledger.view(waiting).note)
    ledger.set_state(second, "paused")
    assert ledger.view(waiting).note == (
        "waiting: 100 images in flight are the most for s3://photos; 1,060 are, 1,000 of them in paused jobs, such as "
        f"job {second}. It goes on as images are done, or when paused jobs are resumed or cancelled"
    )
    ledger.set_state(second, "cancelled")
    assert ledger.view(waiting).note is None


def test_images_a_day_are_counted_apart_from_what_is_in_flight(ledger: Ledger, engine: Engine) -> None:
    put(engine, "images_a_day", 10)
    job_id = listing(ledger, "ann")
    open_page(engine, job_id, 10)
    ledger.execute("UPDATE job SET done = 10")
    with pytest.raises(
        NoRoomError, match=r"10 images a day are the most for ann; 10 were today. It goes on at midnight"
    ):
        open_page(engine, job_id, 1)
    ledger.execute("UPDATE day_use SET day = day - 1")
    open_page(engine, job_id, 3)
    assert ledger.scalar("SELECT sum(images) FROM day_use") == 13
    ledger.execute("UPDATE day_use SET day = day - 2")
    open_page(engine, job_id, 4)
    assert ledger.scalar("SELECT sum(images) FROM day_use") == 4


def test_pages_at_the_same_moment_exceed_the_quota_by_less_than_one(ledger: Ledger, engine: Engine) -> None:
    put(engine, "images_waiting", 30)
    put(engine, "images_waiting", 40, ledger.archive.uri, "archive")
    ids = [listing(ledger, ("ann", "bob")[number % 2]) for number in range(8)]
    gate = threading.Barrier(8)

    def record(job_id: int) -> None:
        gate.wait()
        for _ in range(6):
            try:
                open_page(engine, job_id, 7)
            except NoRoomError:
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, ids))
    by_user = "SELECT sum(listed) AS n FROM job GROUP BY said_by"
    assert ledger.scalar(f"SELECT max(n) FROM ({by_user}) AS counted") < 30 + 7
    assert 40 <= ledger.scalar("SELECT sum(listed) FROM job") < 40 + 7


def test_a_renamed_user_keeps_quotas_turns_and_what_counts(ledger: Ledger, services: Services, archive: Path) -> None:
    services.accounts.add("ann", "run")
    watch = services.watches.add(str(archive), JobWishes(), by="ann")
    services.quotas.put("jobs_at_once", 1, Whom(user="ann"))
    make(ledger, "ann")
    services.accounts.change("ann", to="anna")
    with pytest.raises(QuotaError, match="for anna"):
        make(ledger, "anna")
    assert services.quotas.of("anna").jobs == 1
    assert [quota.name for quota in services.quotas.list()] == ["anna"]
    asks = ledger.scalar("SELECT asks->>'said_by' FROM watch WHERE id = :id", id=watch.watch.id)
    assert asks == "anna"


def test_a_watch_has_no_higher_priority_than_its_user_may_ask_for(services: Services, archive: Path) -> None:
    services.quotas.put("highest-priority", "normal")
    with pytest.raises(QuotaError, match="the highest priority for ann is normal"):
        services.watches.add(str(archive), JobWishes(priority="high"), by="ann")
    assert services.watches.list() == []


# The service -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "amount", "whom", "says"),
    [
        ("images", 1, Whom(), "there is no quota 'images'; choose from images-waiting"),
        ("images-waiting", "many", Whom(), "'many' is not a number"),
        ("images-waiting", -1, Whom(), "not a whole number from 0"),
        ("images-waiting", "nan", Whom(), "not a whole number from 0"),
        ("images-waiting", 1.5, Whom(), "not a whole number"),
        ("searches-per-second", "1e-300", Whom(), "neither 0 nor a number from 0.001 to"),
        ("searches-per-second", "nan", Whom(), "neither 0 nor a number from 0.001 to"),
        ("share", 0, Whom(user="local"), "a share is a number from 0.01 to 100"),
        ("share", None, Whom(user="local"), "unset share"),
        ("share", 2, Whom(), "share can be set for one user, and for nothing else"),
        ("images-waiting", 1, Whom(token=1), "can be set for all users, one user, one archive"),
        ("images-waiting", 1, Whom(user="local", archive="1"), "a quota is for one of user, archive"),
        ("highest-priority", 3, Whom(), "is one of low, normal, high"),
    ],
)
def test_what_makes_no_sense_is_refused(
    services: Services, kind: str, amount: float | str, whom: Whom, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        services.quotas.put(kind, amount, whom)
    assert services.quotas.list() == []


def test_a_quota_of_nobody_is_refused(services: Services) -> None:
    for kind, whom in (("images-waiting", Whom(user="x")), ("searches-per-second", Whom(token=7))):
        with pytest.raises(NotFoundError, match="there is no"):
            services.quotas.put(kind, 1, whom)
    with pytest.raises(NotFoundError, match="there is no quota images-waiting for everybody"):
        services.quotas.drop("images-waiting")


def test_few_searches_are_allowed_and_shown(services: Services) -> None:
    for amount, told in ((0, "0"), (0.001, "0.001"), (0.5, "0.5"), (1.5, "1.50"), (2000, "2,000")):
        assert shown(services.quotas.put("searches-per-second", amount)) == told


def test_who_set_a_quota_is_in_the_history(services: Services) -> None:
    services.quotas.put("images-waiting", "10_000", by="boss")
    services.quotas.put("highest-priority", "normal", Whom(user="local"), by="boss")
    services.quotas.drop("images-waiting", by="chief")
    told = [(event.said_by, event.what, event.user, event.detail) for event in services.accounts.every_event()]
    assert told == [
        ("chief", "quota_unset", "everybody", "images waiting"),
        ("boss", "quota_set", "local", "highest priority: normal"),
        ("boss", "quota_set", "everybody", "images waiting: 10,000"),
    ]


def test_a_refused_request_registers_no_archive(services: Services, archive: Path) -> None:
    services.quotas.put("jobs-at-once", 0)
    with pytest.raises(QuotaError):
        services.jobs.create(str(archive))
    assert services.archives.list() == []

"""Several planners list one archive: every key is once in a shard or a skip, whoever dies, is fenced or has to wait."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.cli.jobs import _state
from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.ledger import listings, ranges, shards
from storage.objects import folder, s3
from tests.plan import Plan
from workers import planner as planner_module
from workers import ranges as cutting
from workers.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.ledger.views import JobView
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services

SKEWED = sorted(
    [f"big/{n:04}.jpg" for n in range(150)]
    + [f"big/deep/{n % 7}/{n:03}.jpg" for n in range(60)]
    + [f"{letter}/{n}.jpg" for letter in "acz" for n in range(4)]
    + ["0.jpg", "写真/猫.jpg", "zz.jpg"]
)
WORKERS = 3


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (folder, s3):
        monkeypatch.setattr(module, "PAGE_SIZE", 9)
    monkeypatch.setattr(cutting, "WAIT_SECONDS", 0.0)


def write(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


@pytest.fixture(params=["folder", "bucket"])
def plan(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """An archive whose keys are unevenly distributed, in a folder or on the S3 server."""
    if request.param == "folder":
        write(tmp_path / "photos", SKEWED)
        return Plan(engine, str(tmp_path / "photos"))
    server: S3Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("bucket")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.put(bucket, {name: name.encode() for name in SKEWED})
    return Plan(engine, f"s3://{bucket}", s3_endpoint_url=server.endpoint_url)


def delete(plan: Plan, names: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "folder" in request.node.name:
        for name in names:
            (tmp_path / "photos" / name).unlink()
        return
    server: S3Server = request.getfixturevalue("s3_server")
    client = server.client()
    for name in names:
        client.delete_object(Bucket=plan.ledger.archive.uri.removeprefix("s3://"), Key=name)
    client.close()


def outcomes(plan: Plan, job_id: int) -> list[str]:
    """The keys of a job, sorted: those in shards and those that were skipped."""
    with unit_of_work(plan.engine) as session:
        rows = session.execute(
            text(
                """SELECT key FROM (
                       SELECT unnest(image_ids) AS id FROM shard WHERE job_id = :id
                       UNION ALL SELECT generate_series(lower(r), upper(r) - 1)
                       FROM skip, unnest(image_ids) AS r WHERE job_id = :id) AS each JOIN image USING (id)"""
            ),
            {"id": job_id},
        )
        return sorted(rows.scalars())


def check(plan: Plan, job_id: int, keys: list[str]) -> JobView:
    """Every key is there once, and all counters agree."""
    view = plan.ledger.view(job_id)
    assert not view.is_listing
    assert outcomes(plan, job_id) == sorted(keys)
    assert view.listed == len(keys)
    for name, counted in (("images", "*"), ("missing", "missing_since")):
        assert plan.ledger.scalar(f"SELECT {name} = (SELECT count({counted}) FROM image) FROM archive")
    assert plan.ledger.scalar("SELECT count(*) FROM archive_change") == 0
    left = "SELECT count(*) FROM listing_range WHERE job_id = :id AND done_at IS NULL"
    assert plan.ledger.scalar(left, id=job_id) == 0
    return view


def at_once(plan: Plan, planners: list[Planner], is_over: Callable[[], bool], raises: type[BaseException] = ()) -> None:  # type: ignore[assignment]
    """Let planners list side by side until that is over. One that dies is followed by another one."""
    wrong: list[BaseException] = []

    def work(planner: Planner) -> None:
        while not is_over() and not wrong:
            try:
                if not planner.begin(lambda: False) and not planner.go_on(lambda: False):
                    time.sleep(0.005)
            except raises:
                planner._readings.clear()
            except BaseException as error:  # noqa: BLE001  (raised below)
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(planner,)) for planner in planners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def is_listed(plan: Plan, *job_ids: int) -> Callable[[], bool]:
    return lambda: not any(plan.ledger.view(job_id).is_listing for job_id in job_ids)


def fleet(plan: Plan) -> list[Planner]:
    s3_options = plan.planner._s3
    return [plan.another(4, s3_options.endpoint_url) for _ in range(WORKERS)]


def cuts_of(plan: Plan, job_id: int) -> int:
    return int(plan.ledger.scalar("SELECT count(*) - 1 FROM listing_range WHERE job_id = :id", id=job_id))


def test_planners_share_an_archive_and_each_key_comes_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.2)
    job_id, busy, real = plan.start(), set(), Planner._record

    def noting(self: Planner, *arguments: Any) -> None:
        busy.add(id(self))
        real(self, *arguments)

    monkeypatch.setattr(Planner, "_record", noting)
    at_once(plan, fleet(plan), is_listed(plan, job_id))
    assert check(plan, job_id, SKEWED).pending == len(SKEWED)
    assert cuts_of(plan, job_id) > 0
    assert len(busy) > 1


def test_a_page_does_not_wait_for_a_page_of_another_range(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second planner commits a page while the first is between its images and its counters."""
    job_id, real, met = plan.start(), listings.lock_running, threading.Barrier(2, timeout=60)
    plan.planner.begin(lambda: plan.ledger.view(job_id).listed >= 9)
    with unit_of_work(plan.engine) as session:
        listing = session.execute(text("SELECT id, cursor FROM listing_range WHERE done_at IS NULL")).one()
        ranges.cut(session, listing.id, "big/0080.jpg")
    holds = threading.Event()

    def meet(session: Any, listing: Any) -> None:
        if not holds.is_set():
            met.wait()  # both have written their images
        real(session, listing)

    with monkeypatch.context() as patched:
        patched.setattr(listings, "lock_running", meet)
        threads = [threading.Thread(target=each.go_on, args=(lambda: True,)) for each in fleet(plan)[:2]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not met.broken
    plan.go_through()
    check(plan, job_id, SKEWED)


@dataclass
class Trouble:
    """What happens to planners, at random."""

    plan: Plan
    job_id: int
    chance: random.Random

    def strike(self) -> None:
        match self.chance.randrange(12):
            case 0:
                raise SystemExit
            case 1:
                raise ServiceUnavailableError("the database went away")
            case 2:
                self.plan.ledger.execute("UPDATE listing_range SET lease_until = now() - interval '1 second'")
            case 3:
                self.plan.ledger.execute("UPDATE listing_range SET epoch = epoch + 1, lease_until = NULL")
            case 4:
                self.plan.ledger.set_state(self.job_id, "paused")
                self.plan.ledger.set_state(self.job_id, "running")
            case _:
                pass

    def pass_time(self) -> None:
        """Nobody waits for a minute here."""
        self.plan.ledger.execute("UPDATE listing_range SET next_at = NULL WHERE next_at > now()")
        if self.chance.randrange(4) == 0:
            self.plan.ledger.execute("UPDATE listing_range SET lease_until = NULL WHERE lease_until > now()")


@pytest.mark.parametrize("seed", range(3))
def test_no_key_is_lost_or_doubled_when_planners_die_are_fenced_and_jobs_pause(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.2)
    job_id, real, real_cut = plan.start(), Planner._record, ranges.cut
    trouble = Trouble(plan, job_id, random.Random(seed))

    def record(self: Planner, *arguments: Any) -> None:
        trouble.strike()
        real(self, *arguments)
        trouble.strike()  # the page is committed, and its planner does not go on

    def cut(session: Any, *arguments: Any) -> None:
        real_cut(session, *arguments)
        if trouble.chance.randrange(3) == 0:
            raise ServiceUnavailableError("the cut is lost")

    done = is_listed(plan, job_id)

    def is_over() -> bool:
        trouble.pass_time()
        return done()

    with monkeypatch.context() as patched:
        patched.setattr(Planner, "_record", record)
        patched.setattr(ranges, "cut", cut)
        at_once(plan, fleet(plan), is_over, SystemExit)
    check(plan, job_id, SKEWED)


def test_what_is_gone_is_missing_and_nothing_else_wherever_ranges_end(
    plan: Plan, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.2)
    first = plan.start()
    at_once(plan, fleet(plan), is_listed(plan, first))
    plan.work()
    gone = {SKEWED[0], SKEWED[-1], *SKEWED[5:200:13], *(name for name in SKEWED if name.startswith("big/deep/3/"))}
    delete(plan, sorted(gone), tmp_path, request)
    second = plan.start()
    at_once(plan, fleet(plan), is_listed(plan, second))
    view = check(plan, second, [name for name in SKEWED if name not in gone])
    assert (view.skipped, view.pending) == (view.listed, 0)
    with unit_of_work(plan.engine) as session:
        missing = session.scalars(text("SELECT key FROM image WHERE missing_since IS NOT NULL")).all()
    assert sorted(missing) == sorted(gone)
    third = plan.start()
    at_once(plan, fleet(plan), is_listed(plan, third))
    assert check(plan, third, [name for name in SKEWED if name not in gone]).state == "done"
    assert plan.ledger.scalar("SELECT count(*) FROM shard WHERE job_id = :id", id=third) == 0


def test_two_jobs_list_one_archive_at_the_same_time(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.2)
    job_ids = [plan.start(), plan.start()]
    at_once(plan, fleet(plan), is_listed(plan, *job_ids))
    for job_id in job_ids:
        check(plan, job_id, SKEWED)


@pytest.fixture
def few(engine: Engine, tmp_path: Path) -> Iterator[Plan]:
    write(tmp_path / "photos", SKEWED)
    return Plan(engine, str(tmp_path / "photos"))


def test_a_page_of_a_paused_job_is_not_recorded_and_its_range_is_free_again(
    few: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, real = few.start(), listings.lock_running

    def pause_first(session: Any, listing: Any) -> None:
        few.ledger.execute("UPDATE job SET state = 'paused'")
        real(session, listing)

    with monkeypatch.context() as patched:
        patched.setattr(listings, "lock_running", pause_first)
        assert few.planner.begin(lambda: False)
    assert few.ledger.view(job_id).listed == 0
    assert few.ledger.scalar("SELECT count(*) FROM image") == 0
    assert few.ledger.scalar("SELECT lease_until IS NULL FROM listing_range")
    few.ledger.set_state(job_id, "running")
    few.go_through()
    check(few, job_id, SKEWED)


def test_a_note_stays_while_another_range_waits(few: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    job_id = few.start()
    few.planner.begin(lambda: False)
    with unit_of_work(few.engine) as session:
        ranges.cut(session, session.scalar(text("SELECT id FROM listing_range")) or 0, "c/")
    few.ledger.execute("UPDATE listing_range SET next_at = now() + interval '1 hour' WHERE until IS NULL")
    few.ledger.execute("UPDATE job SET note = 'waiting: no answer'")
    few.planner.go_on(lambda: False)
    assert few.ledger.view(job_id).note == "waiting: no answer"
    few.ledger.execute("UPDATE listing_range SET next_at = NULL")
    few.go_through()
    assert few.ledger.view(job_id).note is None
    check(few, job_id, SKEWED)


def test_small_archives_are_not_cut(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "photos", SKEWED[:10])
    plan = Plan(engine, str(tmp_path / "photos"))
    check(plan, plan.run().id, SKEWED[:10])
    assert cuts_of(plan, 1) == 0


def test_ids_of_a_page_are_one_range_though_planners_add_images_at_once(
    few: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the skipped images of the next listing would take a range for each."""
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.2)
    job_id = few.start()
    at_once(few, fleet(few), is_listed(few, job_id))
    apart = few.ledger.scalar(
        """SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY key) AS before FROM image) AS each
           WHERE id <> before + 1"""
    )
    assert apart < few.ledger.scalar("SELECT count(*) FROM image") / 2


def test_a_job_says_how_many_workers_list_it(few: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    job_id = few.start()
    few.planner.begin(lambda: False)
    with unit_of_work(few.engine) as session:
        ranges.cut(session, session.scalar(text("SELECT id FROM listing_range")) or 0, "c/")
    assert few.ledger.view(job_id).listers == 0
    few.ledger.execute("UPDATE listing_range SET lease_until = now() + interval '1 minute'")
    view = few.ledger.view(job_id)
    assert (view.listers, _state(view)) == (2, "listing by 2 workers")
    few.ledger.set_state(job_id, "paused")
    assert few.ledger.view(job_id).listers == 0


def test_shards_of_a_page_keep_their_order_and_their_partners(few: Plan) -> None:
    job_id = few.start()
    with unit_of_work(few.engine) as session:
        shards.add(session, job_id, [[5, 4], [9], [1, 2, 3]], [7, None, 8])
    rows = few.ledger.scalar(
        "SELECT array_agg((image_ids, encode(outcomes, 'hex'), with_shard_id)::text ORDER BY id) FROM shard"
    )
    assert rows == ['("{5,4}",0000,7)', "({9},00,)", '("{1,2,3}",000000,8)']

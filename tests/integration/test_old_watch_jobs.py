"""Ended jobs on the keys of events are deleted after a while, and what they recorded stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.ledger import watches
from tests.plan import Plan
from tests.watched import Watched
from workers.watching.loop import Watching

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.wiring import Services

pytestmark = pytest.mark.services

DAYS = 30


@pytest.fixture
def watched(services: Services, engine: Engine, tmp_path: Path) -> Watched:
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"picture")
    one = Watched.new(services, Plan(engine, str(root)), str(root))
    one.do()
    return one


def look(watched: Watched, root: Path, name: str, *, fails: bool = False) -> int:
    (root / name).write_bytes(name.encode())
    watched.tell(name)
    watched.pass_time(60)
    (job,) = watched.do(fail={name: "corrupt"} if fails else None)
    return job.id


def age(watched: Watched, days: int) -> None:
    watched.plan.ledger.execute("UPDATE job SET finished_at = finished_at - make_interval(days => :days)", days=days)


def forget(watched: Watched, limit: int = 100) -> int:
    with unit_of_work(watched.services.engine) as session:
        return watches.forget_old_jobs(session, DAYS, limit)


def jobs(watched: Watched) -> list[int]:
    return sorted(watched.plan.ledger.scalar("SELECT array_agg(id) FROM job"))


def test_old_jobs_go_and_listings_failures_the_newest_and_results_stay(watched: Watched, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    [listing] = jobs(watched)
    old = [look(watched, root, f"{number}.jpg") for number in range(3)]
    failed = look(watched, root, "bad.jpg", fails=True)
    noticed = look(watched, root, "noticed.jpg")
    newest = look(watched, root, "last.jpg")
    watched.plan.ledger.execute("INSERT INTO notice (job_id, ended_at, due_at) VALUES (:id, now(), now())", id=noticed)
    age(watched, DAYS - 1)
    assert forget(watched) == 0
    age(watched, 2)
    known = watched.known()
    assert forget(watched, limit=2) == 2
    assert forget(watched) == 1
    assert jobs(watched) == [listing, failed, noticed, newest]
    assert watched.known() == known
    for table in ("shard", "skip", "job_key"):
        assert not watched.plan.ledger.scalar(f"SELECT count(*) FROM {table} WHERE job_id = ANY(:ids)", ids=old)
    watched.plan.ledger.execute("UPDATE notice SET due_at = NULL, sent_at = now()")
    assert forget(watched) == 1
    assert jobs(watched) == [listing, failed, newest]


def test_jobs_with_further_stages_stay_because_these_know_by_them_what_was_asked(
    watched: Watched, tmp_path: Path
) -> None:
    job, _ = look(watched, tmp_path / "photos", "b.jpg"), look(watched, tmp_path / "photos", "c.jpg")
    follower = look(watched, tmp_path / "photos", "d.jpg")
    watched.plan.ledger.execute("UPDATE job SET with_job_id = :of, stage = 'text' WHERE id = :id", of=job, id=follower)
    age(watched, DAYS + 1)
    forget(watched)
    assert {job, follower} <= set(jobs(watched))


def test_a_worker_deletes_them_as_often_as_it_is_set_up_to(watched: Watched, tmp_path: Path) -> None:
    for number in range(3):
        look(watched, tmp_path / "photos", f"{number}.jpg")
    age(watched, DAYS + 1)
    watched.services.watches.pause(watched.id)
    Watching(watched.services.engine, "keeps", (), 0).step()
    assert len(jobs(watched)) == 4
    Watching(watched.services.engine, "forgets", (), DAYS).step()
    assert len(jobs(watched)) == 2

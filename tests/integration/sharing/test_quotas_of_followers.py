"""Further stages count with the job that they follow, and by themselves once it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.ledger import jobs, listings, quota_use, quotas, shards
from storage.ledger.quotas import NoRoomError, QuotaError, QuotaView
from workers.recorded import follow

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.ledger.quota_use import UseView
    from storage.ledger.quotas import Kind
    from tests.ledger import Ledger

pytestmark = pytest.mark.services


def put(engine: Engine, kind: Kind, amount: float) -> None:
    with unit_of_work(engine) as session:
        quotas.put(session, QuotaView(kind, "default", "", amount))


def use(engine: Engine) -> UseView:
    with unit_of_work(engine) as session:
        return next(each for each in quota_use.use(session, "ann") if each.name == "ann")


def follower(ledger: Ledger, engine: Engine, leading: int, images: int = 0) -> int:
    with unit_of_work(engine) as session:
        job_id = jobs.create(
            session, archive=ledger.archive, source=ledger.archive.uri, prefix="", model="tiny", captioner="none",
            priority="normal", stage="text", with_job_id=leading, said_by="ann",
        )  # fmt: skip
        jobs.set_generation(session, job_id, ledger.generation_id)
    ledger.execute(
        "UPDATE job SET listed = :n, listed_all_at = CASE WHEN :n > 0 THEN now() END WHERE id = :id",
        n=images,
        id=job_id,
    )
    return job_id


def end(ledger: Ledger, job_id: int) -> None:
    ledger.execute("UPDATE job SET state = 'done', skipped = listed, finished_at = now() WHERE id = :id", id=job_id)


def test_a_follower_counts_by_itself_once_its_leading_job_has_ended(ledger: Ledger, engine: Engine) -> None:
    put(engine, "images_waiting", 100)
    leading = ledger.make_job(by="ann")
    follower(ledger, engine, leading, 100)
    follower(ledger, engine, leading, 50)
    assert (use(engine).jobs, use(engine).images_waiting) == (1, 0)
    end(ledger, leading)
    assert (use(engine).jobs, use(engine).images_waiting) == (2, 150)
    other = ledger.make_job(by="ann")
    with unit_of_work(engine) as session, pytest.raises(NoRoomError):
        quotas.require_room(session, other)
    put(engine, "jobs_at_once", 3)
    with pytest.raises(QuotaError, match="3 run or are paused"):
        ledger.make_job(by="ann")


def test_a_follower_that_ended_does_not_run_again_above_the_quota(ledger: Ledger, engine: Engine) -> None:
    leading = ledger.make_job(by="ann")
    text_job = follower(ledger, engine, leading, 10)
    with unit_of_work(engine) as session:
        jobs.fail(session, text_job, "why")
    put(engine, "jobs_at_once", 1)
    ledger.set_state(text_job, "running")
    with unit_of_work(engine) as session:
        jobs.fail(session, text_job, "why")
    end(ledger, leading)
    ledger.make_job(by="ann")
    with pytest.raises(QuotaError):
        ledger.set_state(text_job, "running")


def test_images_that_only_a_further_stage_needs_are_counted_for_the_day(ledger: Ledger, engine: Engine) -> None:
    first = ledger.make_job([3], by="bob")
    ids = ledger.scalar("SELECT image_ids FROM shard WHERE job_id = :id", id=first)
    leading = ledger.make_job(by="ann")
    text_job = follower(ledger, engine, leading)
    with unit_of_work(engine) as session:
        listings.add_skipped(session, leading, ids[:2])
        shards.add(session, leading, [ids[2:]])
        follow(session, leading, 256)
    assert ledger.view(text_job).listed == 3
    assert use(engine).images_today == 2, "the third is counted with the page of its leading job"

"""One greedy and nine small users, through HTTP, with real worker processes."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from sqlalchemy import text

from ramq.client import Client
from storage.database import unit_of_work
from storage.errors import ConflictError
from tests.services.fleet import wait_for
from tests.services.web import serving

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from tests.services.fleet import Fleet

pytestmark = pytest.mark.services

SHARD = 8
SMALL = [f"small{number}" for number in range(9)]


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number % 256, number // 256, len(str(folder)))).save(folder / f"{number:04}.png")
    return folder


WATCH = """
    CREATE TABLE told (n bigint GENERATED ALWAYS AS IDENTITY, what text, job_id bigint);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO told (what, job_id) VALUES (TG_ARGV[0], NEW.job_id); RETURN NULL; END $$;
    CREATE TRIGGER listed AFTER INSERT ON shard FOR EACH ROW EXECUTE FUNCTION tell('listed');
    CREATE TRIGGER claimed AFTER UPDATE ON shard FOR EACH ROW
        WHEN (NEW.epoch > OLD.epoch) EXECUTE FUNCTION tell('claimed');
"""
"""Notes in which order shards are listed and claimed."""


def test_small_users_do_not_wait_for_a_greedy_one(services: Services, fleet: Fleet, tmp_path: Path) -> None:
    large = [pictures(tmp_path / f"large{number}", 8 * SHARD) for number in range(10)]
    tiny = {name: pictures(tmp_path / name, SHARD) for name in SMALL}
    for name in ("boss", "greedy", *SMALL):
        services.accounts.add(name, "admin" if name == "boss" else "run")
    secrets = {name: services.accounts.create_token(name).secret for name in ("boss", "greedy", *SMALL)}
    with services.engine.begin() as connection:
        connection.exec_driver_sql(WATCH)
    with serving(services) as url:
        with Client(url, token=secrets["greedy"]) as greedy:
            of_greedy = [greedy.enqueue(str(folder)).id for folder in large]
        fleet.start(2, RAMQ_SHARD_SIZE=str(SHARD), RAMQ_BATCH_SIZE=str(SHARD), NULL_MODEL_SECONDS="1")
        for job_id in of_greedy:
            wait_for(services, job_id, fleet, lambda job: not job.is_listing)
        ids = {}
        for name in SMALL:
            with Client(url, token=secrets[name]) as small:
                ids[name] = small.enqueue(str(tiny[name])).id
        for job_id in ids.values():
            wait_for(services, job_id, fleet, lambda job: job.is_over)
    with unit_of_work(services.engine) as session:
        events = session.execute(text("SELECT n, what, job_id FROM told ORDER BY n")).all()
        left = session.scalar(text("SELECT count(*) FROM shard WHERE state = 'ready'"))
    assert left, "the greedy user was done first, so nobody waited"
    claimed = [event.job_id for event in events if event.what == "claimed"]
    for job_id in ids.values():
        [listed_at] = [event.n for event in events if event.what == "listed" and event.job_id == job_id]
        before = sum(event.what == "claimed" and event.n < listed_at for event in events)
        # One claim of each other user, and those at the same moment as its listing or its claim.
        assert claimed.index(job_id) - before <= 10 + 2, events
    for job_id in of_greedy:
        with suppress(ConflictError):  # it has ended meanwhile
            services.jobs.cancel(job_id)


def test_workers_give_a_user_with_slow_pictures_no_more_of_their_time(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    """A slow picture takes 20 times as long as a fast one. In turns of images, the slow user would have 95 % of it."""
    slow, fast = tmp_path / "slow", pictures(tmp_path / "fast", 100 * SHARD)
    slow.mkdir()
    for number in range(30 * SHARD):
        size = (32 + number % 16, 32 + number // 16)  # each of other bytes, and none so long that it is cut
        Image.new("RGB", size, (255, 255, 255)).save(slow / f"{number:04}.png")
    ids = {name: services.jobs.create(str(folder), by=name).id for name, folder in (("slow", slow), ("fast", fast))}
    # A shard takes 0.1 or 2 seconds, and is worked on alone.
    fleet.start(
        1,
        RAMQ_SHARD_SIZE=str(SHARD),
        RAMQ_BATCH_SIZE=str(SHARD),
        NULL_MODEL_SECONDS="0.1",
        NULL_MODEL_SLOW_SECONDS=str(1.9 / SHARD),
    )
    wait_for(services, ids["fast"], fleet, lambda job: job.done >= 60 * SHARD)
    done = {name: services.jobs.get(job_id).done / SHARD for name, job_id in ids.items()}
    for job_id in ids.values():
        with suppress(ConflictError):  # it has ended meanwhile
            services.jobs.cancel(job_id)
    # 60 fast shards are 6 seconds of the worker, and what else they cost; three slow ones are as much. In turns of
    # images, 60 slow ones would be done, or all 30.
    assert done["slow"] < 20, done


def test_a_listing_goes_on_when_there_is_room_again_and_nothing_is_lost(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    first, second = pictures(tmp_path / "first", 60), pictures(tmp_path / "second", 40)
    services.quotas.put("images-waiting", 10)
    ids = [services.jobs.create(str(folder), by="ann").id for folder in (first, second)]
    fleet.start(1, RAMQ_SHARD_SIZE=str(SHARD), RAMQ_BATCH_SIZE=str(SHARD), NULL_MODEL_SECONDS="1")
    notes: set[str] = set()

    def is_told(job: JobView) -> bool:
        notes.update(view.note for view in map(services.jobs.get, ids) if view.note is not None)
        return bool(notes) or job.is_over

    wait_for(services, ids[1], fleet, is_told)  # either of them may be listed first
    assert re.match(r"waiting: 10 images in flight are the most for ann; \d+ are\.", notes.pop())
    ended = [wait_for(services, job_id, fleet, lambda job: job.is_over) for job_id in ids]
    assert [(job.state, job.done, job.failed) for job in ended] == [("done", 60, 0), ("done", 40, 0)]

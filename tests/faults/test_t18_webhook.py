"""T18: workers that tell a webhook, calm and killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.checker import fill
from tests.services.fleet import client_services, running_fleet, wait_for
from tests.services.receiver import KEY, PATH, SECRET, running_receiver

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.receiver import Receiver

pytestmark = [pytest.mark.services, pytest.mark.slow]


def wait_until_asked(receiver: Receiver, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(receiver.posts) < count:
        assert time.monotonic() < deadline, receiver.posts
        time.sleep(0.05)


def test_each_end_is_told_once_in_calm_and_again_by_another_worker_if_the_teller_is_killed(
    settings: Settings, tmp_path: Path
) -> None:
    fill(tmp_path / "pictures", 3)
    source = str(tmp_path / "pictures")
    with (
        running_receiver() as receiver,
        running_fleet(settings, tmp_path) as fleet,
        client_services(settings) as services,
    ):
        (untold,) = fleet.start()
        before = services.jobs.create(source)
        wait_for(services, before.id, fleet, lambda view: view.is_over)
        fleet.kill(untold)

        told = {"RAMQ_WEBHOOK_URL": receiver.url, "RAMQ_WEBHOOK_SECRET": SECRET}
        fleet.start(2, **told)
        calm = [services.jobs.create(source).id for _ in range(3)]
        for job_id in calm:
            wait_for(services, job_id, fleet, lambda view: view.webhook == "told")
        assert sorted(post.data["id"] for post in receiver.posts) == calm
        assert services.jobs.get(before.id).webhook is None

        receiver.gate.clear()
        job_id = services.jobs.create(source).id
        wait_until_asked(receiver, 4)
        for process in list(fleet.processes):
            fleet.kill(process)
        receiver.gate.set()
        assert services.jobs.get(job_id).webhook == "not told yet"
        with unit_of_work(services.engine) as session:  # the lease runs out
            session.execute(text("UPDATE notice SET due_at = now() WHERE due_at IS NOT NULL"))
        fleet.start(1, **told)
        wait_for(services, job_id, fleet, lambda view: view.webhook == "told")

        first, again = receiver.posts[3:]
        assert first.data == again.data
        assert first.headers["webhook-id"] == again.headers["webhook-id"]
        assert all(post.is_signed() for post in receiver.posts)
        said = fleet.log()
        assert "webhook told" in said
        assert [secret for secret in (SECRET, PATH, "token-in", KEY.hex()) if secret in said] == []

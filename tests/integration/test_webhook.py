"""Telling a webhook that jobs ended: what is owed, what is sent, and what is done when it cannot be sent."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from ramq.doctor.services import webhook as troubles_of
from storage.database import unit_of_work
from storage.ledger import endings, jobs, retries, webhook_deliveries
from storage.ledger import workers as worker_rows
from storage.ledger.shards import DONE, FAILED
from tests.services.receiver import PATH, SECRET, running_receiver
from workers.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from tests.ledger import Ledger
    from tests.services.receiver import Receiver

pytestmark = pytest.mark.services


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def webhook(receiver: Receiver) -> Webhook:
    return Webhook(receiver.url, SECRET, "ramq/test")


def sender(engine: Engine, *, sends: bool = True) -> None:
    """A worker that is there."""
    with unit_of_work(engine) as session:
        worker_rows.beat(
            session, "w", host="attic", pid=7, device="cpu", model=None, job_id=None, images_per_second=0, stages={},
            sends_notices=sends,
        )  # fmt: skip


def finished(ledger: Ledger) -> int:
    """A job of which two images were recognised and one failed."""
    job_id = ledger.make_job([3])
    shard = ledger.must_claim()
    ledger.write(shard, bytes([DONE, DONE, FAILED]))
    ledger.close(shard)
    with unit_of_work(ledger.engine) as session:
        assert endings.finish_completed(session) == [job_id]
    return job_id


def fall_due(ledger: Ledger) -> None:
    """Let the time until the next try pass."""
    ledger.execute("UPDATE notice SET due_at = now() WHERE due_at IS NOT NULL")


# What is sent ------------------------------------------------------------------------------------------------------


def test_the_end_of_a_job_is_told_once_with_its_figures_and_a_signature(
    ledger: Ledger, receiver: Receiver, webhook: Webhook
) -> None:
    sender(ledger.engine)
    job_id = finished(ledger)
    assert ledger.view(job_id).webhook == "not told yet"
    assert webhook.deliver(ledger.engine)
    assert not webhook.deliver(ledger.engine)
    (post,) = receiver.posts
    view = ledger.view(job_id)
    assert view.webhook == "told"
    assert post.path == PATH
    assert post.is_signed()
    assert not post.is_signed(b"another key")
    assert abs(int(post.headers["webhook-timestamp"]) - time.time()) < 60
    assert post.headers["content-type"] == "application/json"
    assert view.finished_at is not None
    assert json.loads(post.body)["timestamp"] == post.data["finished_at"] == view.finished_at.isoformat()
    assert {name: post.data[name] for name in ("id", "archive", "state", "listed", "done", "skipped", "pending")} == {
        "id": job_id, "archive": "s3://photos", "state": "done", "listed": 3, "done": 2, "skipped": 0, "pending": 0,
    }  # fmt: skip
    assert (post.data["failed"], post.data["failures_by_class"]) == (1, {"corrupt": 1})


def test_a_job_that_is_tried_again_is_told_again_under_another_name(
    ledger: Ledger, receiver: Receiver, webhook: Webhook
) -> None:
    sender(ledger.engine)
    job_id = finished(ledger)
    assert webhook.deliver(ledger.engine)
    with unit_of_work(ledger.engine) as session:
        assert retries.reopen_failed(session, job_id, None) == 1
    assert ledger.view(job_id).webhook is None
    assert not webhook.deliver(ledger.engine)
    shard = ledger.must_claim()
    ledger.write(shard, bytes([DONE, DONE, DONE]))
    ledger.close(shard)
    with unit_of_work(ledger.engine) as session:
        endings.finish_completed(session)
    assert webhook.deliver(ledger.engine)
    assert [post.data["failed"] for post in receiver.posts] == [1, 0]
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 2


def test_failing_and_cancelling_are_ends_too_and_pausing_is_none(
    ledger: Ledger, receiver: Receiver, webhook: Webhook
) -> None:
    sender(ledger.engine)
    job_id = ledger.make_job([1])
    with unit_of_work(ledger.engine) as session:
        jobs.set_state(session, job_id, to="paused", allowed=("running",))
    assert not webhook.deliver(ledger.engine)
    with unit_of_work(ledger.engine) as session:
        jobs.fail(session, job_id, "no such bucket")
        jobs.fail(session, job_id, "no such bucket")
    assert webhook.deliver(ledger.engine)
    for _ in range(2):  # cancelling what is cancelled ends nothing
        with unit_of_work(ledger.engine) as session:
            jobs.set_state(session, job_id, to="cancelled", allowed=("failed", "cancelled"))
        webhook.deliver(ledger.engine)
    told = [(post.data["state"], post.data["note"]) for post in receiver.posts]
    assert told == [("failed", "no such bucket"), ("cancelled", None)]


@pytest.mark.parametrize("sends", [None, False])
def test_nothing_is_owed_where_no_worker_sends_notices_nor_later(
    ledger: Ledger, receiver: Receiver, webhook: Webhook, sends: bool | None
) -> None:
    if sends is not None:
        sender(ledger.engine, sends=sends)
    job_id = finished(ledger)
    assert ledger.scalar("SELECT count(*) FROM notice") == 0
    sender(ledger.engine)
    assert not webhook.deliver(ledger.engine)
    assert (receiver.posts, ledger.view(job_id).webhook) == ([], None)


# When it cannot be sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 400, 404, 410, 302, 307, 308])
def test_any_other_answer_than_success_is_tried_again_and_no_redirect_followed(
    ledger: Ledger, receiver: Receiver, webhook: Webhook, status: int
) -> None:
    sender(ledger.engine)
    job_id = finished(ledger)
    receiver.statuses += [status, status]
    assert webhook.deliver(ledger.engine)
    assert not webhook.deliver(ledger.engine)  # not before its time
    fall_due(ledger)
    assert webhook.deliver(ledger.engine)
    assert ledger.view(job_id).webhook == f"not told yet: it answered {status}, 2 of 15 tries"
    fall_due(ledger)
    assert webhook.deliver(ledger.engine)
    assert not webhook.deliver(ledger.engine)
    assert ledger.view(job_id).webhook == "told"
    assert [post.path for post in receiver.posts] == [PATH] * 3
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1
    assert all(post.is_signed() for post in receiver.posts)


def test_the_waits_double_up_to_hours_and_the_tries_end_after_a_day(ledger: Ledger) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = Webhook(f"http://127.0.0.1:{nobody.getsockname()[1]}{PATH}", SECRET, "ramq/test")
        sender(ledger.engine)
        job_id = finished(ledger)
        waits = []
        while away.deliver(ledger.engine):
            wait = ledger.scalar("SELECT extract(epoch FROM due_at - now()) FROM notice")
            waits += [] if wait is None else [float(wait)]
            fall_due(ledger)
    assert waits[:3] == pytest.approx([30, 60, 120], abs=20)
    assert max(waits) <= 4 * 3600
    assert 20 * 3600 < sum(waits) < 28 * 3600
    said = ledger.view(job_id).webhook
    assert said == "not told, given up: it did not answer (NewConnectionError), 15 of 15 tries"


def test_a_receiver_that_never_answers_is_left_after_a_while(
    ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.webhook.TIMEOUT_SECONDS", 0.2)
    receiver.gate.clear()
    sender(ledger.engine)
    job_id = finished(ledger)
    assert Webhook(receiver.url, SECRET, "ramq/test").deliver(ledger.engine)
    said = ledger.view(job_id).webhook
    assert said == "not told yet: it did not answer (ReadTimeoutError), 1 of 15 tries"


def test_what_is_being_sent_is_nobody_elses_and_comes_back_if_its_sender_dies(
    ledger: Ledger, receiver: Receiver, webhook: Webhook
) -> None:
    sender(ledger.engine)
    job_id = finished(ledger)
    with unit_of_work(ledger.engine) as session:
        assert webhook_deliveries.claim(session) is not None  # the sender is heard of no more
    assert not webhook.deliver(ledger.engine)
    fall_due(ledger)
    assert webhook.deliver(ledger.engine)
    assert ledger.view(job_id).webhook == "told"
    assert len(receiver.posts) == 1


def test_a_job_that_ends_again_while_it_is_told_is_told_of_that_end_too(ledger: Ledger, webhook: Webhook) -> None:
    sender(ledger.engine)
    job_id = finished(ledger)
    with unit_of_work(ledger.engine) as session:
        slow = webhook_deliveries.claim(session)
    assert slow is not None
    with unit_of_work(ledger.engine) as session:
        retries.reopen_failed(session, job_id, None)
    with unit_of_work(ledger.engine) as session:
        jobs.fail(session, job_id, "enough")
    with unit_of_work(ledger.engine) as session:
        webhook_deliveries.settle(session, slow, None)
    assert ledger.view(job_id).webhook == "not told yet"
    assert webhook.deliver(ledger.engine)


def test_the_doctor_tells_of_jobs_that_nobody_could_be_told_of(
    ledger: Ledger, receiver: Receiver, webhook: Webhook, settings: Settings
) -> None:
    is_set = settings.model_copy(update={"webhook_url": receiver.url, "webhook_secret": SECRET})
    sender(ledger.engine)
    assert troubles_of(settings, ledger.engine) == []
    assert [found.state for found in troubles_of(is_set, ledger.engine)] == ["ok"]
    finished(ledger)
    job_id = finished(ledger)
    receiver.statuses += [500, 500]
    assert webhook.deliver(ledger.engine)
    assert webhook.deliver(ledger.engine)
    ledger.execute("UPDATE notice SET due_at = NULL WHERE job_id = :id", id=job_id)
    (found,) = troubles_of(settings, ledger.engine)
    assert (found.state, found.next) == ("note", f"ramq job {job_id}")
    assert "1 retrying, 1 given up" in found.detail

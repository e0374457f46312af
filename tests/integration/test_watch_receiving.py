"""Who receives the events of a watch: one worker at a time, which stores them before a message is deleted."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError, UsageError
from storage.ledger import watch_events
from storage.objects import folder_changes, sqs
from storage.objects.sqs import Queue, QueueError
from tests.plan import Plan
from tests.services.sqs import event, running_queues
from tests.watched import WISHES, Watched
from workers.watching import listeners
from workers.watching.receiving import Receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.wiring import Services
    from tests.services.sqs import Queues

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def queues() -> Iterator[Queues]:
    with running_queues() as running:
        yield running


@pytest.fixture
def queue(queues: Queues, monkeypatch: pytest.MonkeyPatch, no_aws_environment: None) -> str:
    for name, value in queues.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sqs, "WAIT_SECONDS", 1)
    return queues.make()


@pytest.fixture
def receivings(engine: Engine) -> Iterator[Callable[[str], Receiving]]:
    """Makes what receives events in a worker of a name."""
    made: list[Receiving] = []

    def make(owner: str) -> Receiving:
        made.append(Receiving(engine, owner))
        return made[-1]

    yield make
    for each in made:
        each.stop(timeout_seconds=10)


@pytest.fixture
def of_bucket(services: Services, engine: Engine, queue: str, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A watch of a bucket that nobody lists."""
    monkeypatch.setattr("ramq.services.jobs.JobClient.place_to_watch", lambda _, source: sqs_place(source))
    return Watched.new(services, Plan(engine, "s3://photos"), "s3://photos", events=f"sqs:{queue}")


def sqs_place(source: str) -> Any:
    from storage.objects.source import parse_source  # noqa: PLC0415

    return parse_source(source)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.05)


def waiting(watched: Watched) -> list[str]:
    return watched.plan.ledger.scalar("SELECT array_agg(key ORDER BY key) FROM watch_event") or []


# Queues ------------------------------------------------------------------------------------------------------------


def test_messages_are_stored_and_then_deleted(
    of_bucket: Watched, queues: Queues, queue: str, receivings: Callable[[str], Receiving]
) -> None:
    bodies = [event("photos", f"{number}+x.jpg", "same.jpg") for number in range(25)]
    test = '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"}'
    queues.send(queue, test, *bodies, event("others", "no.jpg"), event("photos", "a.jpg", name="ObjectRemoved:Delete"))
    receivings("one").step()
    until(lambda: len(waiting(of_bucket)) == 27)
    assert {"0 x.jpg", "same.jpg", "a.jpg"} <= set(waiting(of_bucket))
    until(lambda: queues.left(queue) == (0, 0))
    view = of_bucket.view
    assert (view.is_told, view.receiver, view.events_state, view.events_ignored) == (True, "one", "receiving", 1)
    assert view.oldest_event_seconds is not None


def test_a_message_that_cannot_be_read_stays_in_the_queue_and_is_told_of(
    of_bucket: Watched, queues: Queues, queue: str, receivings: Callable[[str], Receiving]
) -> None:
    queues.send(queue, "hello", event("photos", "a.jpg"))
    receivings("one").step()
    until(lambda: waiting(of_bucket) == ["a.jpg"])
    until(lambda: "left there: the message is not JSON" in of_bucket.view.events_state)
    until(lambda: queues.left(queue) == (0, 1))


def test_no_message_is_deleted_that_was_not_stored(
    of_bucket: Watched, queues: Queues, queue: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away between receiving and storing."""
    queues.send(queue, event("photos", "a.jpg"))

    def away(*_: object, **__: object) -> None:
        raise ServiceUnavailableError("the database did not answer")

    with unit_of_work(engine) as session:
        (receiver,) = watch_events.lease(session, "one")
    listener = listeners.QueueListener(engine, "one", receiver)
    opened = Queue(queue)
    with monkeypatch.context() as patched:
        patched.setattr(watch_events, "store", away)
        with pytest.raises(ServiceUnavailableError):
            listener._take(opened, opened.receive(wait_seconds=0))
    assert queues.left(queue) == (0, 1)


def test_one_worker_at_a_time_receives_and_another_takes_over(
    of_bucket: Watched, queues: Queues, queue: str, receivings: Callable[[str], Receiving]
) -> None:
    one, two = receivings("one"), receivings("two")
    one.step()
    two.step()
    until(lambda: of_bucket.view.receiver == "one")
    one.stop(timeout_seconds=10)  # as a worker that ends
    assert of_bucket.view.receiver is None
    two.step()
    until(lambda: of_bucket.view.receiver == "two")
    # As a worker that was killed: its lease runs out.
    of_bucket.plan.ledger.execute("UPDATE watch SET lease_until = now() - interval '1 second'")
    three = receivings("three")
    three.step()
    until(lambda: of_bucket.view.receiver == "three")
    two.step()
    queues.send(queue, event("photos", "a.jpg"))
    until(lambda: waiting(of_bucket) == ["a.jpg"])


def test_a_paused_watch_leaves_its_messages_in_the_queue(
    of_bucket: Watched, queues: Queues, queue: str, receivings: Callable[[str], Receiving]
) -> None:
    one = receivings("one")
    one.step()
    until(lambda: of_bucket.view.receiver == "one")
    of_bucket.services.watches.pause(of_bucket.id)
    one.step()
    until(lambda: not [each for each in threading.enumerate() if each.name == f"watch-{of_bucket.id}"])
    queues.send(queue, event("photos", "a.jpg"))
    one.step()
    assert queues.left(queue) == (1, 0)
    assert of_bucket.view.events_state == "paused"
    of_bucket.services.watches.resume(of_bucket.id)
    one.step()
    until(lambda: waiting(of_bucket) == ["a.jpg"])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/1/q", "set AWS_ENDPOINT_URL_SQS"),
        ("http://169.254.169.254/latest/q", "set AWS_ENDPOINT_URL_SQS"),
        ("https://sqs.eu-west-1.amazonaws.com.example.org/1/q", "set AWS_ENDPOINT_URL_SQS"),
    ],
)
def test_no_worker_sends_signed_requests_to_an_address_that_somebody_typed(queue: str, url: str, words: str) -> None:
    with pytest.raises(QueueError, match=words):
        Queue(url)


def test_a_queue_that_is_not_there_is_told_of_in_words_and_tried_later(
    services: Services, engine: Engine, queue: str, receivings: Callable[[str], Receiving], monkeypatch: Any
) -> None:
    monkeypatch.setattr("ramq.services.jobs.JobClient.place_to_watch", lambda _, source: sqs_place(source))
    watched = Watched.new(services, Plan(engine, "s3://photos"), "s3://photos", events=f"sqs:{queue}-gone")
    one = receivings("one")
    one.step()
    until(lambda: "NonExistentQueue" in watched.view.events_state)
    assert "sqs:ReceiveMessage" in watched.view.events_state
    until(lambda: [one.step(), watched.view.receiver is None][1])
    one.step()
    assert watched.plan.ledger.scalar("SELECT owner FROM watch") is None  # left to others for a while


# Folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "2024").mkdir(parents=True)
    (root / "2024/a.jpg").write_bytes(b"picture")
    return root


@pytest.fixture
def of_folder(services: Services, engine: Engine, root: Path) -> Watched:
    pytest.importorskip("inotify_simple")
    return Watched.new(services, Plan(engine, str(root)), str(root), events="inotify")


def test_changes_of_a_folder_become_keys(
    of_folder: Watched, root: Path, receivings: Callable[[str], Receiving]
) -> None:
    receivings("one").step()
    until(lambda: of_folder.view.is_told)
    of_folder.do()
    (root / "2024/b c+d.jpg").write_bytes(b"new")
    (root / "2025").mkdir()
    (root / "2025/e.jpg").write_bytes(b"new")
    until(lambda: {"2024/b c+d.jpg", "2025/e.jpg"} <= set(waiting(of_folder)))


def test_the_keys_of_a_part_of_an_archive_begin_with_its_prefix(
    services: Services, engine: Engine, root: Path, receivings: Callable[[str], Receiving]
) -> None:
    pytest.importorskip("inotify_simple")
    watched = Watched.new(services, Plan(engine, str(root)), str(root / "2024"), events="inotify")
    receivings("one").step()
    until(lambda: watched.view.is_told)
    (root / "elsewhere.jpg").write_bytes(b"new")
    (root / "2024/b.jpg").write_bytes(b"new")
    until(lambda: waiting(watched) == ["2024/b.jpg"])


def test_the_first_listing_waits_until_changes_are_told(
    of_folder: Watched, receivings: Callable[[str], Receiving]
) -> None:
    assert of_folder.step() == []
    receivings("one").step()
    until(lambda: of_folder.view.is_told)
    assert len(of_folder.step()) == 1
    assert of_folder.view.list_now_reason is None


def test_the_first_listing_does_not_wait_for_long(of_folder: Watched) -> None:
    of_folder.pass_time(11)
    assert len(of_folder.step()) == 1


def test_what_changed_while_nobody_watched_is_found_by_a_listing(
    of_folder: Watched, root: Path, receivings: Callable[[str], Receiving]
) -> None:
    one = receivings("one")
    one.step()
    until(lambda: of_folder.view.is_told)
    of_folder.do()
    one.stop(timeout_seconds=10)
    (root / "meanwhile.jpg").write_bytes(b"new")
    receivings("two").step()
    until(lambda: of_folder.view.is_told)
    assert of_folder.view.list_now_reason == "the folder was not watched before"
    of_folder.pass_time(60)
    of_folder.do()
    assert "meanwhile.jpg" in of_folder.known()


def test_changes_wait_in_memory_while_the_database_is_away(
    of_folder: Watched, root: Path, receivings: Callable[[str], Receiving], monkeypatch: pytest.MonkeyPatch
) -> None:
    receivings("one").step()
    until(lambda: of_folder.view.is_told)
    tried = threading.Event()

    def away(*_: object, **__: object) -> None:
        tried.set()
        raise ServiceUnavailableError("the database did not answer")

    with monkeypatch.context() as patched:
        patched.setattr(watch_events, "store", away)
        (root / "b.jpg").write_bytes(b"new")
        assert tried.wait(20)
        (root / "c.jpg").write_bytes(b"new")
    until(lambda: waiting(of_folder) == ["b.jpg", "c.jpg"])


def test_what_the_kernel_could_not_keep_is_found_by_a_listing(
    of_folder: Watched, receivings: Callable[[str], Receiving], monkeypatch: pytest.MonkeyPatch
) -> None:
    receivings("one").step()
    until(lambda: of_folder.view.is_told)
    of_folder.do()

    def lost(*_: object) -> set[str]:
        monkeypatch.undo()
        raise folder_changes.LostError("the kernel could not keep all changes")

    monkeypatch.setattr(folder_changes.FolderChanges, "read", lost)
    until(lambda: of_folder.view.list_now_reason == "the folder was not watched before")


def test_a_folder_that_cannot_be_watched_is_listed_by_the_schedule_and_says_why(
    of_folder: Watched, receivings: Callable[[str], Receiving], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_changes, "silent_kind", lambda _: "nfs4")
    one = receivings("one")
    one.step()
    until(lambda: "network mount (nfs4)" in of_folder.view.events_state)
    assert not of_folder.view.is_told
    (job,) = of_folder.do()
    assert job.listed == 1
    until(lambda: [one.step(), of_folder.plan.ledger.scalar("SELECT owner FROM watch")][1] is None)


def test_inotify_is_for_folders(services: Services) -> None:
    with pytest.raises(UsageError, match="is for folders"):
        services.watches.add("s3://nowhere-at-all", WISHES, events="inotify")

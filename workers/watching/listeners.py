"""What receives the events of one watch, in a thread of its own: from a queue, or from the kernel.

Keys are stored before a message is deleted. If the database is away, messages stay in their queue, and the changes of a
folder are kept in memory up to a limit.
"""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.errors import RamqError, ServiceUnavailableError, TransientError
from storage.ledger import watch_events
from storage.objects.events import EventError, told
from storage.objects.source import parse_source, part_of
from workers.pipeline.retry import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Engine

    from storage.ledger.watch_events import Receiver
    from storage.objects.folder_changes import FolderChanges
    from storage.objects.sqs import Message, Queue

log = structlog.get_logger()

READ_SECONDS = 0.5
"""How long changes of a folder are collected before they are stored."""

SETUP_RETRY_SECONDS = 60.0
"""After this time a queue or a folder that could not be used is tried again."""


class Listener:
    """Receives the events of a watch until it is stopped.

    Args:
        engine: the database.
        owner: the worker, which holds the lease of the watch.
        receiver: the watch.
    """

    def __init__(self, engine: Engine, owner: str, receiver: Receiver) -> None:
        self.watch_id = receiver.id
        self.cannot: str | None = None
        """Why this worker cannot receive the events; another one may."""
        self._engine = engine
        self._owner = owner
        self._receiver = receiver
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{receiver.id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it receives events, or tries to."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end. It stores what it has received."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                self._listen()
            except ServiceUnavailableError as error:
                log.warning("events wait for the database", watch=self.watch_id, error=str(error))
            except TransientError as error:
                self._note(str(error))
            except RamqError as error:
                self.cannot = str(error)
                self._note(self.cannot)
                return
            except Exception as error:
                # A watch whose thread died silently would look as if nothing happened: say so, and begin again.
                log.exception("unexpected error while events are received", watch=self.watch_id)
                self._note(f"receiving failed unexpectedly ({type(error).__name__}): see the workers' logs")
            tries += 1
            self._stopping.wait(backoff_seconds(tries, most=30.0))

    @abstractmethod
    def _listen(self) -> None:
        """Receive events until the listener is stopped. Raise an error to begin anew after a pause."""

    def _begin(self, *, missed: str | None) -> None:
        with unit_of_work(self._engine) as session:
            watch_events.begin_listening(session, self.watch_id, self._owner, missed=missed)

    def _store(self, keys: Iterable[str], ignored: int = 0) -> None:
        with unit_of_work(self._engine) as session:
            watch_events.store(session, self.watch_id, list(keys), ignored=ignored)

    def _note(self, error: str) -> None:
        log.warning("events are not received", watch=self.watch_id, error=error)
        try:
            with unit_of_work(self._engine) as session:
                watch_events.note_event_error(session, self.watch_id, error)
        except ServiceUnavailableError as unreachable:
            log.warning("could not note it", watch=self.watch_id, error=str(unreachable))


class QueueListener(Listener):
    """Receives the messages of a queue. A message that cannot be read stays there: the queue's own rules move it."""

    def _listen(self) -> None:
        queue = self._open()
        messages = queue.receive(wait_seconds=0)  # whether it can be used
        self._begin(missed=None)
        log.info("events are received", watch=self.watch_id, queue=queue.url)
        while not self._stopping.is_set():
            self._take(queue, messages)
            messages = queue.receive()
        self._take(queue, messages)

    def _open(self) -> Queue:
        from storage.objects.sqs import Queue  # noqa: PLC0415  (boto3 takes a third of a second to import)

        assert self._receiver.queue_url is not None
        return Queue(self._receiver.queue_url)

    def _take(self, queue: Queue, messages: list[Message]) -> None:
        if not messages:
            return
        bucket = parse_source(self._receiver.archive_uri).root
        keys: dict[str, None] = {}
        ignored, read, unread = 0, [], None
        for message in messages:
            try:
                found = told(message.body, bucket, self._receiver.prefix)
            except EventError as error:
                unread = error
                continue
            keys.update(dict.fromkeys(found.keys))
            ignored += found.ignored
            read.append(message)
        self._store(keys, ignored)
        queue.delete(read)
        if unread is not None:
            self._note(f"a message in {queue.url} was left there: {unread}")


class FolderListener(Listener):
    """Receives the changes of a local folder."""

    def _listen(self) -> None:
        from storage.objects.folder_changes import FolderChanges, LostError  # noqa: PLC0415  (only on Linux)

        receiver = self._receiver
        base = f"{receiver.prefix.strip('/')}/" if receiver.prefix.strip("/") else ""
        root = Path(part_of(receiver.archive_uri, receiver.prefix).root)
        changes = FolderChanges(root, base)
        try:
            # What changed while nobody watched is found by a listing, which begins after this.
            self._begin(missed="the folder was not watched before")
            log.info("changes are received", watch=self.watch_id, folders=changes.folders)
            self._pass_on(changes)
        except LostError as error:
            log.warning("changes were lost", watch=self.watch_id, error=str(error))
        finally:
            changes.close()

    def _pass_on(self, changes: FolderChanges) -> None:
        waiting: set[str] = set()
        while not self._stopping.is_set():
            waiting |= changes.read(READ_SECONDS)
            self._flush(waiting)
        self._flush(waiting)

    def _flush(self, waiting: set[str]) -> None:
        """Store what waits, and keep it if that is impossible. Too much of it is given up for a listing."""
        if not waiting:
            return
        try:
            with unit_of_work(self._engine) as session:
                if len(waiting) > watch_events.MOST_KEYS:
                    reason = f"more than {watch_events.MOST_KEYS:,} files changed at once"
                    watch_events.list_now(session, self.watch_id, reason)
                else:
                    watch_events.store(session, self.watch_id, list(waiting))
        except ServiceUnavailableError as error:
            log.warning("changes wait for the database", watch=self.watch_id, keys=len(waiting), error=str(error))
            if len(waiting) > 2 * watch_events.MOST_KEYS:  # the number alone says that everything has to be listed
                kept = sorted(waiting)[: watch_events.MOST_KEYS + 1]
                waiting.clear()
                waiting.update(kept)
            self._stopping.wait(random.uniform(0.5, 1.5))  # noqa: S311  (spreads workers, no secret)
            return
        waiting.clear()


LISTENERS: dict[str, Callable[[Engine, str, Receiver], Listener]] = {"sqs": QueueListener, "inotify": FolderListener}
"""The kinds of events that a worker has to fetch. Others are sent to the web server."""

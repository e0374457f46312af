"""Watched archives while workers are killed, the database crashes and the broker forgets: nothing is lost.

Each file that is written while all this happens is found by a search at the end, and each that is deleted is missing.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from storage.errors import TransientError
from storage.search.views import SearchQuery
from tests.services.checker import fill
from tests.services.fleet import client_services, running_fleet
from tests.services.sqs import event, running_queues
from tests.watched import WISHES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.breakable import BreakableServices
    from tests.services.fleet import Fleet
    from tests.services.s3 import S3Server

FOUND_SECONDS = 120.0


def found(services: Services) -> set[str]:
    """The keys that a search finds and that are not missing."""
    keys: set[str] = set()
    cursor = None
    try:
        while True:
            page = services.search.page(SearchQuery(limit=500, cursor=cursor))
            keys |= {hit.key for hit in page.items if not hit.missing}
            cursor = page.next_cursor
            if cursor is None:
                return keys
    except TransientError:  # the database is away
        return set()


def wait_until_found(services: Services, fleet: Fleet, keys: set[str]) -> float:
    """Wait until a search finds just these keys. Return the seconds."""
    began = time.monotonic()
    while (now := found(services)) != keys:
        waited = time.monotonic() - began
        if waited > FOUND_SECONDS:
            watch = services.watches.list()[0]
            raise AssertionError(f"lacks {len(keys - now)}, has {len(now - keys)} more; {watch}\n{fleet.log()[-3000:]}")
        time.sleep(0.3)
    return time.monotonic() - began


def wait_until_told(services: Services, fleet: Fleet) -> None:
    began = time.monotonic()
    while not services.watches.list()[0].is_told:
        assert time.monotonic() - began < FOUND_SECONDS, fleet.log()[-3000:]
        time.sleep(0.1)


@pytest.mark.slow
def test_a_folder_is_followed_though_its_watchers_are_killed(
    breakable: BreakableServices, breakable_settings: Settings, tmp_path: Path, amount: Callable[[int, int], int]
) -> None:
    """Files come and go while each worker in turn is killed, the broker is emptied and the database crashes."""
    pytest.importorskip("inotify_simple")
    photos, store = tmp_path / "photos", tmp_path / "store"
    photos.mkdir()
    files = fill(store, amount(60, 2_000))
    names = [path.relative_to(store) for path in sorted(store.rglob("*")) if path.is_file()]
    assert len(names) == len(files)
    deleted = {name for name in names if random.Random(str(name)).random() < 0.3}
    over = threading.Event()

    def live() -> None:
        for name in names:
            (photos / name).parent.mkdir(parents=True, exist_ok=True)
            (store / name).rename(photos / name)
            time.sleep(0.2)
        for name in deleted:
            (photos / name).unlink()
            time.sleep(0.05)
        over.set()

    with client_services(breakable_settings) as services, running_fleet(breakable_settings, tmp_path) as fleet:
        services.watches.add(str(photos), WISHES, every="1d", events="inotify", settle_seconds=0.3)
        fleet.start(2)
        wait_until_told(services, fleet)
        writer = threading.Thread(target=live)
        writer.start()
        faults = 0
        while not over.wait(3.0):
            faults += 1
            fleet.kill(fleet.processes[0])
            fleet.start(1)
            if faults % 3 == 1:
                breakable.empty_redis(0.5)
            if faults % 3 == 2:
                breakable.crash_postgres(1.0)
        writer.join()
        assert faults >= 3
        wait_until_found(services, fleet, {name.as_posix() for name in names if name not in deleted})
        watch = services.watches.list()[0]
        assert watch.events_waiting == 0
        assert watch.failures == 0


@pytest.mark.slow
def test_a_bucket_is_followed_though_who_reads_its_queue_is_killed(  # noqa: PLR0917  (fixtures)
    breakable: BreakableServices,
    breakable_settings: Settings,
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    amount: Callable[[int, int], int],
) -> None:
    """No message is deleted whose key was not stored: all objects are found, though no listing is due for a day."""
    store = tmp_path / "store"
    fill(store, amount(60, 1_000))
    names = [path.relative_to(store).as_posix() for path in sorted(store.rglob("*")) if path.is_file()]
    with running_queues() as queues:
        environment = {**s3_server.environment, **queues.environment, "AWS_ENDPOINT_URL_SQS": queues.endpoint_url}
        environment |= {name: s3_server.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = breakable_settings.model_copy(update={"s3_endpoint_url": s3_server.endpoint_url})
        more = {**environment, "RAMQ_S3_ENDPOINT_URL": s3_server.endpoint_url}
        queue = queues.make()
        with client_services(settings) as services, running_fleet(settings, tmp_path, **more) as fleet:
            services.watches.add(f"s3://{bucket}", WISHES, every="1d", events=f"sqs:{queue}", settle_seconds=0.3)
            fleet.start(2)
            wait_until_told(services, fleet)
            for number, name in enumerate(names):
                s3_server.put(bucket, {name: (store / name).read_bytes()})
                queues.send(queue, event(bucket, name), event(bucket, name, name="ObjectRemoved:Delete"))
                if number % 20 == 10:
                    fleet.kill(fleet.processes[0])
                    fleet.start(1)
                if number % 20 == 15:
                    breakable.crash_postgres(0.5)
            wait_until_found(services, fleet, set(names))
            assert services.watches.list()[0].listing_job is not None
            assert len([job for job in services.jobs.list(limit=500).items if not job.of_keys]) == 1

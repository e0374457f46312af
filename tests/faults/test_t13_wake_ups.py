"""Many may send wake-ups, stop with the lock, or die: wake-ups stay few, and a worker receives one."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import pytest

from ramq.broker import broker_client
from ramq.services.index import make_builder
from storage.database import LOCKED_IDLE_SECONDS, unit_of_work
from storage.ledger import workers as worker_rows
from storage.objects.base import S3Options
from tests.ledger import Ledger
from tests.plan import OneModel
from tests.services.checker import check_job, fill
from tests.services.fleet import wait_for
from tests.services.watch import wait_until_stopped
from workers.app import KEY_PREFIX, WakeUps, make_app
from workers.lifecycle import WAKE_UPS_PER_WORKER, Worker
from workers.messages import queue_of
from workers.pipeline.steps import PipelineOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet
    from workers.pipeline.model_holder import ModelHolder

SENDERS = 5
IMAGES = 1_000_000
SHARD = 256


@pytest.mark.slow
def test_a_job_of_a_million_images_is_a_handful_of_messages_however_many_send(
    services: Services, broker_url: str, amount: Callable[[int, int], int]
) -> None:
    """The queue never holds more than twice the wake-ups that are wanted; the broker takes less than 20 MB."""
    ledger = Ledger.new(services.engine)
    job_id = ledger.make_job([1])
    ledger.execute(
        """INSERT INTO shard (job_id, image_ids, outcomes)
           SELECT :job_id, array(SELECT generate_series(n * :size, (n + 1) * :size - 1)), CAST(:outcomes AS bytea)
           FROM generate_series(1, :shards) AS n""",
        job_id=job_id,
        size=SHARD,
        shards=IMAGES // SHARD,
        outcomes=bytes(SHARD),
    )
    with unit_of_work(services.engine) as session:
        for number in range(SENDERS):
            worker_rows.beat(
                session, f"w{number}", host="h", pid=1, device="cpu", model=None, job_id=None, images_per_second=0,
                stages={},
            )  # fmt: skip
    broker = broker_client(broker_url)
    longest, over = 0, threading.Event()

    def send_all_the_time(_number: int) -> None:
        wake_ups = WakeUps(make_app(broker_url, ("lite",)), broker_client(broker_url))
        worker = Worker(
            services.engine,
            cast("ModelHolder", OneModel(1)),
            PipelineOptions(8, 1, 1, 30.0, 1, 1),
            builder=make_builder(services.settings, services.engine),
            wake=wake_ups.send,
            shard_size=SHARD,
            s3=S3Options(),
        )
        while not over.is_set():
            worker._send_wake_ups()

    with ThreadPoolExecutor(SENDERS) as pool:
        sending = [pool.submit(send_all_the_time, number) for number in range(SENDERS)]
        until = time.monotonic() + amount(5, 60)
        while time.monotonic() < until:
            longest = max(longest, cast("int", broker.llen(f"{KEY_PREFIX}{queue_of('lite')}")))
            if longest and int(time.monotonic() * 10) % 5 == 0:
                broker.ltrim(f"{KEY_PREFIX}{queue_of('lite')}", 1, 0)  # heard, all at once
        over.set()
        for one in sending:
            one.result()
    assert WAKE_UPS_PER_WORKER * SENDERS <= longest <= 2 * WAKE_UPS_PER_WORKER * SENDERS
    memory = cast("dict[str, int]", broker.info("memory"))
    assert memory["used_memory"] < 20_000_000


@pytest.mark.slow
def test_a_sender_that_stops_with_the_lock_silences_the_wake_ups_only_for_a_while(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    """The database ends its transaction; another worker, which was idle, is woken and does the job."""
    [sleeper] = fleet.start(1, FAULT_STOP="while_waking")
    wait_until_stopped(sleeper, fleet)
    files = fill(tmp_path / "photos", 100)
    job = services.jobs.create(str(tmp_path / "photos"))
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over, timeout=LOCKED_IDLE_SECONDS + 60)
    check_job(services, job.id, files)
    sleeper.send_signal(signal.SIGCONT)
    second = services.jobs.create(str(tmp_path / "photos"))
    assert wait_for(services, second.id, fleet, lambda view: view.is_over).skipped == 100
    assert sleeper.poll() is None

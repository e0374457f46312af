"""A network that is slow, falls silent or resets connections, to the broker and to the database; and a drain."""

from __future__ import annotations

import random
import signal
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, text

from storage.database import make_engine
from tests.services.checker import check_job, fill
from tests.services.fleet import client_services, running_fleet, wait_for
from tests.services.tcp_proxy import TcpProxy, tcp_proxy
from tests.services.watch import scalar, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ramq.settings import Settings
    from tests.services.breakable import BreakableServices
    from tests.services.fleet import Fleet

RECOVERY_SECONDS = 60.0
DRAIN_SECONDS = 60.0
BATCH = 16


@pytest.fixture
def proxies(breakable: BreakableServices) -> Iterator[dict[str, TcpProxy]]:
    with ExitStack() as stack:
        yield {
            "postgres": stack.enter_context(tcp_proxy(breakable.postgres_socket)),
            "redis": stack.enter_context(tcp_proxy(breakable.redis_socket)),
        }


@pytest.fixture
def far_fleet(breakable_settings: Settings, proxies: dict[str, TcpProxy], tmp_path: Path) -> Iterator[Fleet]:
    """Workers that reach both services over the network."""
    assert breakable_settings.database_url is not None
    url = make_url(breakable_settings.database_url)
    address = url.set(host="127.0.0.1", port=proxies["postgres"].port, query={})
    far = breakable_settings.model_copy(
        update={
            "database_url": address.render_as_string(hide_password=False),
            "broker_url": f"redis://127.0.0.1:{proxies['redis'].port}/0",
        }
    )
    with running_fleet(far, tmp_path, NULL_MODEL_SECONDS="0.2", FAULT_SLICE_SECONDS="1") as fleet:
        yield fleet


@pytest.mark.slow
def test_a_network_that_stutters_falls_silent_and_resets_delays_a_job_and_nothing_else(
    breakable_settings: Settings,
    far_fleet: Fleet,
    proxies: dict[str, TcpProxy],
    tmp_path: Path,
    amount: Callable[[int, int], int],
) -> None:
    """Each time, half a minute after the network is well again more is done; no worker ends."""
    count, chance = amount(600, 20_000), random.Random(16)
    files = fill(tmp_path / "photos", count)
    troubles = [
        ("postgres", lambda proxy: proxy.fall_silent()),
        ("redis", lambda proxy: proxy.fall_silent()),
        ("postgres", lambda proxy: proxy.reset()),
        ("redis", lambda proxy: proxy.reset()),
        ("postgres", lambda proxy: proxy.slow_down(0.1)),
    ] * amount(1, 4)
    chance.shuffle(troubles)
    with client_services(breakable_settings) as services:
        job = services.jobs.create(str(tmp_path / "photos"))
        far_fleet.start(2)
        for number, (which, misbehave) in enumerate(troubles):
            at = count * number // (len(troubles) + 2)
            before = wait_for(services, job.id, far_fleet, lambda view, at=at: view.done > at)
            misbehave(proxies[which])
            time.sleep(amount(2, 10))
            proxies[which].heal()
            more = before.done + BATCH
            wait_for(
                services,
                job.id,
                far_fleet,
                lambda view, more=more: view.done > more or view.is_over,
                timeout=RECOVERY_SECONDS,
            )
        wait_for(services, job.id, far_fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
    assert [process.poll() for process in far_fleet.processes] == [None, None]


@pytest.mark.slow
def test_workers_that_are_told_to_stop_repeat_no_more_than_a_batch_each(
    breakable_settings: Settings, far_fleet: Fleet, tmp_path: Path
) -> None:
    """All leave within a minute, with no lease behind them; what is recognised twice is a batch per worker at most."""
    count, counted = 600, tmp_path / "counted"
    files = fill(tmp_path / "photos", count)
    with client_services(breakable_settings) as services:
        job = services.jobs.create(str(tmp_path / "photos"))
        workers = far_fleet.start(2, NULL_MODEL_COUNT=str(counted))
        wait_for(services, job.id, far_fleet, lambda view: view.done > count // 4)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(DRAIN_SECONDS) for worker in workers] == [0, 0], far_fleet.log()[-3000:]
        assert scalar(services, "SELECT count(*) FROM shard WHERE state = 'leased'") == 0
        assert services.jobs.workers() == []
        far_fleet.start(2, NULL_MODEL_COUNT=str(counted))
        wait_for(services, job.id, far_fleet, lambda view: view.is_over)
        check_job(services, job.id, files)
        assert size_of(counted) <= count + 2 * BATCH


def test_a_database_that_went_silent_is_noticed_while_an_answer_is_awaited(
    breakable: BreakableServices, proxies: dict[str, TcpProxy]
) -> None:
    """Only the kernel can tell a dead peer from a slow one: it is asked to, within a minute, in both situations."""
    url = make_url(breakable.database_url).set(host="127.0.0.1", port=proxies["postgres"].port, query={})
    engine = make_engine(url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=socket.dup(driver.fileno())) as raw:
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert 0 < raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
    engine.dispose()

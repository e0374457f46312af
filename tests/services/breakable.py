"""A PostgreSQL and a Redis of one's own, without a supervisor: they may be killed, emptied and stopped."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ramq.embedded.layout import Layout
from ramq.embedded.postgres import Postgres
from ramq.embedded.services import Redis
from ramq.embedded.supervisor import _claim_socket_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.embedded.services import Service


class BreakableServices:
    """Both services. Call from the main thread: they end with the thread that starts them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.postgres = Postgres(layout)
        self.redis = Redis(layout)

    @property
    def database_url(self) -> str:
        """Of the empty database that comes with the server."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """For kombu."""
        return self.redis.url

    @property
    def postgres_socket(self) -> Path:
        """Where a proxy finds PostgreSQL."""
        return self._layout.sockets / ".s.PGSQL.5432"

    @property
    def redis_socket(self) -> Path:
        """Where a proxy finds Redis."""
        return self._layout.sockets / "redis.sock"

    def crash_postgres(self, seconds_away: float = 0.0) -> None:
        """End it at once, without a checkpoint, and start it again after a while."""
        _end(self.postgres, signal.SIGQUIT)
        time.sleep(seconds_away)
        self.postgres.prepare()
        self.postgres.start()

    def empty_redis(self, seconds_away: float = 0.0) -> None:
        """Kill it, and start it again with nothing in it."""
        _end(self.redis, signal.SIGKILL)
        shutil.rmtree(self._layout.redis / "appendonlydir", ignore_errors=True)
        time.sleep(seconds_away)
        self.redis.start()


def _end(service: Service, how: signal.Signals) -> None:
    process = service._process
    assert process is not None
    process.send_signal(how)
    process.wait(30)


@contextmanager
def breakable_services(data_dir: Path) -> Iterator[BreakableServices]:
    """Run both while the block lasts. Raises ``EmbeddedError`` where they cannot be."""
    layout = Layout.create(data_dir)
    services = BreakableServices(layout)
    with ExitStack() as cleanup:
        for service in (services.postgres, services.redis):
            service.prepare()
        _claim_socket_folder(layout.sockets, services.postgres.owner, cleanup)
        for service in (services.postgres, services.redis):
            cleanup.callback(service.stop)
            service.start()
        yield services

"""The real Redis that tests share, emptied between them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import redis


@dataclass(frozen=True)
class RedisServer:
    """A running server.

    Attributes:
        url: for kombu and Celery.
    """

    url: str

    def client(self) -> redis.Redis:
        """A client of the database that ``url`` names; the caller closes it."""
        return redis.Redis(unix_socket_path=urlsplit(self.url).path, db=0)

    def flush(self) -> None:
        """Forgets everything."""
        with self.client() as client:
            client.flushall()

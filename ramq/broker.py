"""The broker that wake-ups go through: a client of it, and whether it is well."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis

from storage.errors import ServiceUnavailableError

_TIMEOUT_SECONDS = 5
_PROBE = "ramq:probe"


def check_broker(url: str) -> None:
    """Raise ``ServiceUnavailableError`` unless the broker answers and takes what is written to it."""
    try:
        broker_client(url).set(_PROBE, 1, px=1_000)
    except redis.ResponseError as error:  # full, a replica, short of replicas, or its disk is full
        raise ServiceUnavailableError(
            f"the broker refuses writes, so workers hear no wake-ups and look for work only now and then: {error}"
        ) from error
    except redis.RedisError as error:
        raise ServiceUnavailableError(f"the broker cannot be reached: {error}") from error


def broker_client(url: str) -> redis.Redis:
    """Return a client for the broker that wake-ups go through, given its URL as Celery takes it."""
    timeouts: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
    }
    if not url.startswith("redis+socket://"):
        return redis.Redis.from_url(url, **timeouts)
    parts = urlsplit(url)
    number = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    return redis.Redis(unix_socket_path=unquote(parts.path), db=int(number), password=parts.password, **timeouts)

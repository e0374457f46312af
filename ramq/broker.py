"""The broker for wake-ups: a client for it, and a check that it works."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis

from storage.errors import ServiceUnavailableError

_TIMEOUT_SECONDS = 5
_PROBE = "ramq:probe"


def check_broker(url: str) -> None:
    """Raise ``ServiceUnavailableError`` unless the broker answers and accepts writes."""
    try:
        broker_client(url).set(_PROBE, 1, px=1_000)
    except redis.ResponseError as error:  # full, a replica, short of replicas, or its disk is full
        raise ServiceUnavailableError(
            f"the broker refuses writes, so workers get no wake-ups and check for work only from time to time: {error}"
        ) from error
    except redis.RedisError as error:
        raise ServiceUnavailableError(f"the broker cannot be reached: {error}") from error


def broker_client(url: str) -> redis.Redis:
    """Return a client for the broker, given its URL in Celery's form."""
    timeouts: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
    }
    if not url.startswith("redis+socket://"):
        return redis.Redis.from_url(url, **timeouts)
    parts = urlsplit(url)
    number = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    return redis.Redis(unix_socket_path=unquote(parts.path), db=int(number), password=parts.password, **timeouts)

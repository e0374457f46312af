"""What a person does with the cluster: requests to its web servers, without the program's own client."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from tests.containers.chaos.cluster import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.containers.chaos.cluster import Cluster

PORT = 8765
PAUSE_SECONDS = 0.5


def ask(
    address: str, path: str, query: Mapping[str, Any] | None = None, *, body: object = None, seconds: float = 30.0
) -> dict[str, Any]:
    """Return the JSON that a web server answers.

    Raises:
        OSError: it did not answer in time, or with another status than 2xx.
    """
    connection = http.client.HTTPConnection(address, PORT, timeout=seconds)
    try:
        connection.request(
            "GET" if body is None else "POST",
            f"{path}?{urlencode(query, doseq=True)}" if query else path,
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"broken answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status // 100 != 2:
        raise OSError(f"{path}: {answer.status} {text[:500]}")
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass
class Prober:
    """Searches on one web server every half second and notes what came of it.

    Attributes:
        cluster: whose server is asked.
        web: the server's name.
        answered: when each answer came, in seconds of the monotonic clock.
        refused: when a search failed, and with what.
    """

    cluster: Cluster
    web: str = "web2"
    answered: list[float] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        address, number, like = self.cluster.address_of(self.web), 0, None
        while not self._over.wait(PAUSE_SECONDS):
            number += 1
            # By turns: a search by tag, and one by vector for the first hit of that.
            query = {"like": like} if like and number % 2 else {"tag": f"tag {number % 64}"}
            try:
                hits = ask(address, "/v1/search", {**query, "limit": 5}, seconds=20.0)
            except OSError as error:
                self.refused.append((time.monotonic(), str(error)[:300]))
            else:
                self.answered.append(time.monotonic())
                like = next((hit["image_id"] for hit in hits["items"]), like)

    def longest_gap(self, began: float) -> dict[str, float]:
        """The longest time between two answers: when it began, after ``began``, and how long it was, in seconds."""
        pairs = zip(self.answered, self.answered[1:], strict=False)
        lasted, at = max(((later - earlier, earlier) for earlier, later in pairs), default=(float("inf"), began))
        return {"at_seconds": round(at - began, 1), "lasts_seconds": round(lasted, 1)}

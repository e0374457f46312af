"""A receiver of webhooks that answers as it is told, and checks signatures as the libraries of Standard Webhooks do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.services.loopback import answering_with

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
PATH = "/hooks/token-in-the-path?key=token-in-the-query"


@dataclass(frozen=True, slots=True)
class Post:
    """What arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert document["type"] == "job.ended"
        return dict(document["data"])

    def is_signed(self, key: bytes = KEY) -> bool:
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{expected}"


@dataclass
class Receiver:
    """``statuses`` are answered one by one, then 204. While ``gate`` is not set nothing is answered at all."""

    url: str
    posts: list[Post] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """Give a receiver on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.posts.append(Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            receiver.gate.wait(60)
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815  (what a redirect would be followed with)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                """The sender was killed."""

    with answering_with(Handler) as url:
        receiver = Receiver(f"{url}{PATH}")
        receiver.gate.set()
        try:
            yield receiver
        finally:
            receiver.gate.set()

"""A web server on loopback that misbehaves on request, for tests of downloads."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.services.loopback import answering_with

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Hosted:
    """One file and how the server treats it.

    Attributes:
        body: its bytes.
        etag: sent as it is; None for no header.
        last_modified: likewise.
        break_after: for each coming request, after how many bytes of the answer the connection is cut (None: never).
        statuses: answered, one per request, before the file is served.
        ranges: False answers every request with the whole file.
        chunked: sends no length.
        stall_seconds: silence after half of the first answer.
        headers: further headers.
        content_type: of the answer.
    """

    body: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    break_after: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    chunked: bool = False
    stall_seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    range: str | None
    if_range: str | None


@dataclass(slots=True)
class BrokenHTTP:
    """The server. ``files`` may change while it runs; ``requests`` are those it got."""

    url: str = ""
    files: dict[str, Hosted] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)


@contextlib.contextmanager
def broken_http() -> Iterator[BrokenHTTP]:
    server = BrokenHTTP()
    with answering_with(type("Handler", (_Handler,), {"script": server})) as server.url:
        yield server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: BrokenHTTP

    def do_GET(self) -> None:
        self.close_connection = True
        self.script.requests.append(Request(self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        hosted = self.script.files.get(self.path)
        if self.path in self.script.redirects:
            self._head(302, {"Location": self.script.redirects[self.path], "Content-Length": "0"})
        elif hosted is None:
            self._head(404, {"Content-Length": "0"})
        elif hosted.statuses:
            self._head(hosted.statuses.pop(0), {"Content-Length": "0", **hosted.headers})
        else:
            self._serve(hosted)

    def _serve(self, hosted: Hosted) -> None:
        start = self._start(hosted)
        if start > 0 and start >= len(hosted.body):
            self._head(416, {"Content-Range": f"bytes */{len(hosted.body)}", "Content-Length": "0"})
            return
        headers = {"Content-Type": hosted.content_type, **hosted.headers}
        body = hosted.body[start:]
        if hosted.etag:
            headers["ETag"] = hosted.etag
        if hosted.last_modified:
            headers["Last-Modified"] = hosted.last_modified
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(hosted.body) - 1}/{len(hosted.body)}"
        if not hosted.chunked:
            headers["Content-Length"] = str(len(body))
        self._head(206 if start else 200, headers)
        cut = hosted.break_after.pop(0) if hosted.break_after else None
        stall, hosted.stall_seconds = hosted.stall_seconds, 0.0
        with contextlib.suppress(ConnectionError):
            if stall:
                self.wfile.write(body[: len(body) // 2])
                time.sleep(stall)
            else:
                self.wfile.write(body if cut is None else body[:cut])

    def _start(self, hosted: Hosted) -> int:
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if asked is None or not hosted.ranges:
            return 0
        if condition is not None and condition not in {hosted.etag, hosted.last_modified}:
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

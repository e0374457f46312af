"""Stands for an object store that keeps any key, where the real one of the tests refuses or rewrites some."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, NamedTuple

from tests.services.loopback import answering_with

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAYER = "x-amz-request-payer"
_HEADERS = {"ETag": '"e"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
_LISTING = b"""<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>
<Contents><Key>a.jpg</Key><ETag>"e"</ETag><Size>1</Size><LastModified>2015-10-21T07:28:00Z</LastModified></Contents>
</ListBucketResult>"""
_REFUSAL = b"<Error><Code>AccessDenied</Code><Message>%s</Message></Error>"


class Asked(NamedTuple):
    """A request: its signature covers the header that says who pays, if ``is_signed``."""

    method: str
    path: str
    payer: str | None
    is_signed: bool


@contextmanager
def recording_server(refusal: str | None = None) -> Iterator[tuple[str, list[Asked]]]:
    """Answers with an object or a listing and writes down what was asked for.

    Args:
        refusal: what it says with 403 to those who do not say that they pay; None: they need not.
    """
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            payer = self.headers[_PAYER]
            is_signed = _PAYER in self.headers.get("authorization", "")
            asked.append(Asked(self.command, self.path, payer, is_signed))
            if refusal is not None and payer != "requester":
                self._answer(403, _REFUSAL % refusal.encode())
            else:
                self._answer(200, _LISTING if "list-type=2" in self.path else b"x")

        do_HEAD = do_GET  # noqa: N815  (the base class calls it so)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with answering_with(Handler) as url:
        yield url, asked

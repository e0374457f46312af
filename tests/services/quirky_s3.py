"""An S3 server that is odd in a way that some store or proxy was reported to be; the bucket's name says in which.

``weak-etag``, ``other-etag``: GET's ETag is not the listing's. ``no-etag``, ``no-last-modified``: GET has none.
``chunked``: GET has no Content-Length. ``start-inclusive``, ``start-ignored``, ``start-refused``: how listings take the
key that they are to begin after. ``if-match-501``: no conditions. ``kms-400``, ``legal-451``: refusals for good.
``virtual-only``: refuses buckets in the path. Any other bucket behaves.
"""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW, MANY = 3, 2_500
WHEN = "Wed, 01 May 2024 00:00:00 GMT"


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = _picture()
ETAG = hashlib.md5(PICTURE, usedforsecurity=False).hexdigest()


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[str]
    body: bytes
    etag: str
    ending: str

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a listing or an object."""
        url = urlsplit(self.path)
        host, names = self.headers["Host"].partition(":")[0], unquote(url.path).lstrip("/")
        bucket, _, key = names.partition("/")
        if host.endswith(".localhost"):
            bucket, key = host.removesuffix(".localhost"), names
        self.asked.append(self.path)
        try:
            if key:
                self._get(bucket, key)
            else:
                self._list(bucket, dict(parse_qsl(url.query, keep_blank_values=True)))
        except _RefusedError as error:
            xml = f"<?xml version='1.0'?>\n<Error><Code>{error.code}</Code>\n<Message>{error}</Message></Error>"
            self._answer(error.status, xml.encode(), {})

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        is_chunked = "Transfer-Encoding" in headers
        for name, value in (headers if is_chunked else {**headers, "Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)

    def _list(self, bucket: str, asked: dict[str, str]) -> None:
        if bucket == "virtual-only" and ".localhost" not in self.headers["Host"]:
            raise _RefusedError(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
        start, token, prefix = (
            asked.get("start-after", ""),
            asked.get("continuation-token", ""),
            asked.get("prefix", ""),
        )
        if bucket == "start-refused" and start:
            raise _RefusedError(400, "InvalidArgument", "start-after is not supported here")
        start = "" if bucket == "start-ignored" else start
        keys = [f"p/{number:06}.{self.ending}" for number in range(MANY if bucket.startswith("start-") else FEW)]
        is_after = str.__ge__ if bucket == "start-inclusive" and start else str.__gt__
        keys = [key for key in keys if key.startswith(prefix) and key > token and is_after(key, start)]
        folders: list[str] = []
        if "delimiter" in asked:
            folders = sorted({key[: key.index("/", len(prefix)) + 1] for key in keys if "/" in key[len(prefix) :]})
            keys = [key for key in keys if "/" not in key[len(prefix) :]]
        most = int(asked.get("max-keys", "1000"))
        page = keys[:most]
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if len(keys) > most else ""
        name = quote if asked.get("encoding-type") == "url" else escape
        items = "".join(
            f"<Contents><Key>{name(key)}</Key><LastModified>2024-05-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self.etag}&quot;</ETag><Size>{len(self.body)}</Size></Contents>"
            for key in page
        ) + "".join(f"<CommonPrefixes><Prefix>{name(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        xml = (
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(page)}</KeyCount><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
        )
        self._answer(200, xml.encode(), {"Content-Type": "application/xml", "Date": WHEN})

    def _get(self, bucket: str, key: str) -> None:
        if not key.startswith("p/"):
            raise _RefusedError(404, "NoSuchKey", "none")
        condition = self.headers.get("If-Match")
        quirks = {"weak-etag": f'W/"{self.etag}"', "other-etag": f'"{self.etag[:16]}-7"'}
        etag = quirks.get(bucket, f'"{self.etag}"')
        refusals = {
            "kms-400": _RefusedError(400, "KMS.DisabledException", "the key\nis disabled"),
            "legal-451": _RefusedError(451, "UnavailableForLegalReasons", "blocked"),
        }
        if bucket in refusals:
            raise refusals[bucket]
        if bucket == "if-match-501" and condition:
            raise _RefusedError(
                501, "NotImplemented", "A header you provided implies functionality that is not implemented"
            )
        if condition and condition != etag:
            raise _RefusedError(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        headers = {"Content-Type": "image/png", "ETag": etag, "Last-Modified": WHEN}
        for quirk, name in (("no-etag", "ETag"), ("no-last-modified", "Last-Modified")):
            if bucket == quirk:
                del headers[name]
        self._answer(200, self.body, headers | ({"Transfer-Encoding": "chunked"} if bucket == "chunked" else {}))


@contextmanager
def quirky_s3(body: bytes = PICTURE, ending: str = "png") -> Iterator[tuple[str, list[str]]]:
    """Give the server's address and the paths that it was asked for, while the block lasts. All objects are one."""
    asked: list[str] = []
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    facts = {"asked": asked, "body": body, "etag": etag, "ending": ending}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), facts))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Download one file over HTTP into a partial file. Handles broken connections, ignored ranges and changing files.

A note next to the partial file (``FILE.part.json``) says which version of which address it holds. A later run continues
it only if the server still has that version.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from typing_extensions import override

from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message
    from pathlib import Path

    from ram_core.checkpoints.published import RemoteFile

CHUNK_BYTES = 1 << 20
_WEB = frozenset({"http", "https"})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to put up with a bad connection.

    Attributes:
        attempts: tries in a row without new data before giving up.
        first_delay_seconds: wait after the first failure; doubles with each further one.
        longest_delay_seconds: maximum wait, even if the server asks for more.
        timeout_seconds: how long the server may be silent.
    """

    attempts: int = 6
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 30.0
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks about the progress of a download.

    Attributes:
        progress: called with file name, bytes so far, and total bytes (None if unknown).
        note: called with one line that a person should read.
    """

    progress: Callable[[str, int, int | None], None] = lambda _name, _done, _total: None
    note: Callable[[str], None] = lambda _line: None


class UnreachableError(CheckpointError):
    """The address returned nothing more after repeated tries. The same call may succeed later."""


class _BrokenError(Exception):
    """The connection or the server failed in a way that may be temporary."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects must lead to http or https, and from https only to https."""

    @override
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in _WEB or (req.type == "https" and scheme == "http"):
            raise CheckpointError(f"{req.full_url} redirects to {newurl}, which is not allowed; use another mirror")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass(frozen=True, slots=True)
class _Note:
    """What a partial file holds: the beginning of this version of this address."""

    url: str
    validator: str | None


class Download:
    """The download of one file.

    Args:
        file: the expected file.
        url: where to get it.
        part: the partial file; continued if it holds the beginning of the same version.
        patience: when to give up.
        listener: callbacks about the progress.
    """

    def __init__(self, file: RemoteFile, url: str, part: Path, patience: Patience, listener: Listener) -> None:
        if urlsplit(url).scheme not in _WEB:
            raise CheckpointError(f"{url} is not an http or https address")
        self.file = file
        self.url = url
        self.part = part
        self.patience = patience
        self.listener = listener
        self.continued = False
        self._note_path = part.with_name(part.name + ".json")
        # Without handlers for file: and ftp:, no redirect or setting can reach them. Proxies come from the environment.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            _WebRedirects(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def run(self) -> None:
        """Complete the partial file.

        Raises:
            CheckpointError: the server has another file or none, or the disk fails.
            UnreachableError: the server cannot be reached, or answers with errors that may be temporary.
        """
        failures, furthest = 0, -1
        while True:
            try:
                return self._attempt()
            except _BrokenError as broken:
                there = self._length()
                failures = 1 if there > furthest >= 0 else failures + 1
                furthest = max(furthest, there)
                if failures >= self.patience.attempts:
                    raise UnreachableError(
                        f"{self.file.name}: {self.url} failed {failures} times in a row ({broken}); "
                        f"{there:,} bytes are kept, run the same command again to continue"
                    ) from broken
                delay = self.patience.first_delay_seconds * 2 ** (failures - 1)
                delay = min(max(delay, broken.wait_seconds or 0.0), self.patience.longest_delay_seconds)
                self.listener.note(f"{self.file.name}: {broken} at {there:,} bytes; trying again in {delay:.3g} s")
                time.sleep(delay)

    def discard(self) -> None:
        """Remove the partial file and its note."""
        self.part.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def _attempt(self) -> None:
        start, request = self._request()
        try:
            with self._opener.open(request, timeout=self.patience.timeout_seconds) as response:
                self._receive(response, start)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, start)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _BrokenError(str(reason) or type(error).__name__) from error

    def _request(self) -> tuple[int, urllib.request.Request]:
        request = urllib.request.Request(self.url, headers={"Accept-Encoding": "identity", "User-Agent": "ramq"})  # noqa: S310  (the scheme was checked)
        start, held = self._length(), self._read_note()
        if start and (held is None or held.url != self.url):
            self.discard()
            start = 0
        if start and held is not None:
            request.add_header("Range", f"bytes={start}-")
            if held.validator is not None:
                request.add_header("If-Range", held.validator)
        return start, request

    def _refused(self, error: urllib.error.HTTPError, start: int) -> None:
        if error.code in _RETRIED:
            raise _BrokenError(f"the server answers {error.code}", _retry_after(error.headers)) from error
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            total = _content_range(error.headers)[1]
            if total == start and self.file.fits(start):
                return  # the last run had received everything
            self.discard()
            raise _BrokenError("the server's file changed") from error
        raise CheckpointError(
            f"{self.file.name}: {self.url} answers {error.code} {error.reason}; "
            "check the address, set RAMQ_MODELS_MIRROR, or copy the file with --from DIR"
        ) from error

    def _receive(self, response: http.client.HTTPResponse, start: int) -> None:
        headers = response.headers
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            begins, total = _content_range(headers)
            held = self._read_note()
            tag = _validator(headers)
            if begins != start or (tag and held and held.validator and tag != held.validator):
                self.discard()
                raise _BrokenError("the server sent a different range or version than requested")
        else:
            start, total = 0, _number(headers.get("Content-Length"))
        self._check_kind(headers, total)
        check_room(self.part.parent, (total or self.file.size_bytes) - start, self.file.name)
        self.continued = start > 0
        with _disk(self.part):
            out = self.part.open("ab" if start else "wb")
        with out:
            if not start:
                self._write_note(_Note(self.url, _validator(headers)))
            self._stream(response, out, start, total)

    def _stream(self, response: http.client.HTTPResponse, out: BinaryIO, there: int, total: int | None) -> None:
        self.listener.progress(self.file.name, there, total)
        while chunk := response.read1(CHUNK_BYTES):
            there += len(chunk)
            if there > self.file.most_bytes:  # a response without a length could be endless
                self.discard()
                raise CheckpointError(f"{self.file.name}: {self.url} sends more than the file has; use another mirror")
            with _disk(self.part):
                out.write(chunk)
            self.listener.progress(self.file.name, there, total)
        with _disk(self.part):
            out.flush()
        if total is not None and there < total:
            raise _BrokenError("the connection broke")
        if not self.file.fits(there):
            raise _BrokenError(f"the server closed the connection after {there:,} bytes")

    def _check_kind(self, headers: Message, total: int | None) -> None:
        kind = headers.get_content_type() if "Content-Type" in headers else None
        if kind == "text/html" or headers.get("Content-Encoding", "identity") != "identity":
            self.discard()
            raise CheckpointError(f"{self.file.name}: {self.url} answers with a page, not the file; use another mirror")
        if total is not None and not self.file.fits(total):
            self.discard()
            about = "" if self.file.exact_size else "about "
            raise CheckpointError(
                f"{self.file.name}: {self.url} has {total:,} bytes, expected {about}{self.file.size_bytes:,}; "
                "it is a different file, use another mirror"
            )

    def _length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _read_note(self) -> _Note | None:
        try:
            values = json.loads(self._note_path.read_text(encoding="utf-8"))
            held = _Note(values["url"], values["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # without a readable note the partial file is of unknown origin: start over
        # A published hash detects a mixture of two versions. Without one, only the server's validator can exclude it.
        return held if held.validator is not None or self.file.sha256 is not None else None

    def _write_note(self, held: _Note) -> None:
        with _disk(self._note_path):
            self._note_path.write_text(json.dumps({"url": held.url, "validator": held.validator}), encoding="utf-8")


def check_room(folder: Path, wanted_bytes: int, name: str) -> None:
    """Raise ``CheckpointError`` if a folder's disk does not have room for this many more bytes."""
    free = shutil.disk_usage(folder).free
    if wanted_bytes > free:
        raise CheckpointError(
            f"{name} needs {wanted_bytes:,} more bytes in {folder}, which has {free:,} free; "
            "free some space, or choose another folder with RAMQ_MODELS_DIR"
        )


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Tell errors of the disk from errors of the network."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}; check the disk and run again") from error


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """Return first byte and total length of a ``Content-Range``; None for missing values."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return (_number(found[1]), _number(found[3])) if found else (None, None)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _validator(headers: Message) -> str | None:
    """Return a validator for ``If-Range``: a strong entity tag, or a date (RFC 9110, section 13.1.5)."""
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    changed = headers.get("Last-Modified")
    return None if changed is None or tag is not None else str(changed)


def _retry_after(headers: Message) -> float | None:
    value = headers.get("Retry-After")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None

"""List the members of the tar files in an archive, in byte order of their keys, in bounded memory.

The members of a tar are in any order, so its headers are read before its first key is given. Several tars are read
ahead in threads, since each header says where the next one is: within a tar nothing can be read at once.

Tar files come in the order of their own keys, which is another one: ``a.tar`` is before ``a.tar-1.tar``, but
``a.tar/x`` is behind ``a.tar-1.tar/x``. Therefore a tar is held back until no key before its members can come.
"""

from __future__ import annotations

import heapq
import re
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from dataclasses import replace as replaced
from operator import attrgetter
from typing import TYPE_CHECKING

from storage.errors import PermanentError, TransientError
from storage.objects.base import (
    MAX_KEY_BYTES,
    PAGE_SIZE,
    UNREADABLE_VERSION,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    is_below,
)
from storage.objects.tar_headers import MAX_MEMBERS, Flaw, TarIndex, TooManyError, read_index
from storage.objects.tar_names import is_tar, split_member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storage.objects.base import ObjectStore
    from storage.objects.ignoring import Ignoring
    from storage.objects.tar_headers import Fault, Member

AHEAD = 8
"""Tar files that are read at once."""
_ROOM_AHEAD = 100_000
"""Members of a tar that is read ahead. A larger one is read when its turn comes, alone."""
_ENTRIES_AHEAD = 1_000
"""Other keys that may wait between tars."""

PULSE_SECONDS = 2.0
"""While a tar is read, an empty page comes this often: so whoever lists can say that it goes on."""

_LARGEST_WINDOW = 4 * 1024 * 1024
_SMALL_WINDOW = 16 * 1024
_FIRST_WINDOW = 64 * 1024
_TRIES = 3

_COMPRESSED = re.compile(r"\.(?:tar\.|t)(gz|zst|bz2|bz|xz|lz4)$", re.IGNORECASE)
_STILL_HELD = re.compile(r"\.tar(?=[\x00-\x2e])", re.IGNORECASE)
"""Whose members are behind a key that begins with it: the next sign is before the slash."""
_FAULT_OF: dict[str, Fault] = {"gz": "gzip", "zst": "zstd", "bz2": "bzip2", "bz": "bzip2", "xz": "xz", "lz4": "lz4"}


@dataclass(frozen=True, slots=True)
class Scanned:
    """A tar file, in the version that was read, and its members."""

    tar: ObjectInfo
    members: TarIndex


class StoppedError(Exception):
    """Nobody wants the result any more."""


class TarScanner:
    """Reads the headers of tar files. Thread-safe.

    Args:
        base: the archive with the tar files.
        hop_bytes: so many bytes are read in the time of a request.
    """

    def __init__(self, base: ObjectStore, hop_bytes: int) -> None:
        self._base = base
        self._hop_bytes = hop_bytes

    def scan(self, tar: ObjectInfo, room: int = MAX_MEMBERS, stop: threading.Event | None = None) -> Scanned:
        """Return the members of a tar file, of its current version.

        Raises:
            TooManyError: it has more than ``room``.
            StoppedError: ``stop`` was set.
            ObjectMissingError, ObjectForbiddenError, ObjectChangedError, StoreUnavailableError, CredentialsError: as
                ``ObjectStore.open``.
        """
        most = MAX_KEY_BYTES - len(tar.key.encode()) - 1
        for _ in range(_TRIES):
            try:
                windows = _Windows(self._base, tar, self._hop_bytes, stop)
                index = read_index(windows.read, tar.size_bytes, max_name_bytes=most, room=room)
                if self._base.holds_version or self._base.stat(tar.key).version == tar.version:
                    return Scanned(tar, index)
            except ObjectChangedError:
                pass
            tar = self._base.stat(tar.key)
            if tar.version.startswith("!"):
                raise ObjectMissingError("the tar file no longer exists")
        raise ObjectChangedError("the tar file kept changing while it was read")


class _Windows:
    """Reads a tar file from header to header. Where members are small, what lies between is read too."""

    def __init__(self, base: ObjectStore, tar: ObjectInfo, hop_bytes: int, stop: threading.Event | None) -> None:
        self._base = base
        self._tar = tar
        self._hop_bytes = hop_bytes
        self._large = min(2 * hop_bytes, _LARGEST_WINDOW)
        self._stop = stop
        self._start = 0
        self._data = b""
        self._last = 0
        self._gap = 0.0
        self._length = _FIRST_WINDOW

    def read(self, at: int, length: int) -> bytes:
        """Return at least ``length`` bytes from ``at`` on; fewer if the tar ends."""
        span, self._last = at - self._last, at
        if span > _SMALL_WINDOW:  # others are in a small window anyway
            self._gap = span if not self._gap else 0.8 * self._gap + 0.2 * span
            self._length = _SMALL_WINDOW if self._gap > self._hop_bytes else self._large
        elif not self._gap and self._start:
            self._length = self._large
        begin = at - self._start
        if begin < 0 or begin + length > len(self._data):
            self._start, begin = at, 0
            self._data = self._fetched(at, max(length, min(self._length, self._tar.size_bytes - at)))
        return self._data[begin : begin + length]

    def _fetched(self, at: int, length: int) -> bytes:
        for attempt in range(1, _TRIES + 1):
            if self._stop is not None and self._stop.is_set():
                raise StoppedError
            try:
                return b"".join(self._base.open(self._tar.key, self._tar.version, at, length))
            except TransientError:
                if attempt == _TRIES:
                    raise
                time.sleep(0.2 * attempt)
        raise AssertionError  # the last attempt returned or raised


@dataclass(slots=True)
class _Entry:
    """What a listing gives in its turn: a key, or the members of a tar (``scanned``)."""

    info: ObjectInfo
    scanned: Future[Scanned] | None = None
    is_tar: bool = False


def list_members(  # noqa: PLR0913  (what is listed, and how)
    base: ObjectStore,
    scanner: TarScanner,
    prefix: str,
    after: str | None,
    ignoring: Ignoring | None,
    info_of: Callable[[ObjectInfo, Member], ObjectInfo],
    *,
    is_ordered: bool = True,
) -> Iterator[list[ObjectInfo]]:
    """Yield pages of members, and of what cannot be read, as ``ObjectStore.pages`` does. Some may be empty.

    Args:
        base: the archive with the tar files.
        scanner: reads their headers.
        prefix: only keys at or below it.
        after: only keys after this one.
        ignoring: what is left out.
        info_of: returns the properties of a member.
        is_ordered: whether the archive lists its keys in the order of their bytes. Otherwise all are sorted first.
    """
    inside = split_member(f"{prefix.strip('/')}/")
    pages = base.pages(inside[0] if inside else prefix, _before(after) if is_ordered and not inside else None, ignoring)
    infos: Iterator[ObjectInfo] = (info for page in pages for info in page)
    if not is_ordered:
        every: list[ObjectInfo] = []
        for found in pages:
            every += found
            yield []
        infos = iter(sorted(every, key=attrgetter("key")))
    entries = iter(_Order(infos, is_selective=ignoring is not None))
    page: list[ObjectInfo] = []
    for info in _infos(entries, scanner, after, ignoring, info_of):
        if info is None or len(page) == PAGE_SIZE:
            yield page
            page = []
        # What is wrong with a tar file concerns every folder in it.
        if info is not None and (is_below(info.key, prefix) or prefix.startswith(info.key)):
            page.append(info)
    if page:
        yield page


def _before(after: str | None) -> str | None:
    """Return a string before all tar files that may have members after a key."""
    if not after:
        return None
    inside = split_member(after)
    own = inside[0] if inside else after
    if found := _STILL_HELD.search(own):
        return own[: found.end() - 1]
    return own[:-1] if inside else own


class _Order:
    """Puts tar files in the order of their members, and the other keys of their archive between them.

    Args:
        infos: what a listing of the archive gives.
        is_selective: whether other keys are given, with the reason why they are left out.
    """

    def __init__(self, infos: Iterator[ObjectInfo], *, is_selective: bool) -> None:
        self._infos = infos
        self._is_selective = is_selective
        self._held: list[tuple[str, int, _Entry]] = []
        self._named_like_one = ""

    def __iter__(self) -> Iterator[_Entry]:
        for number, info in enumerate(self._infos, 1):
            is_inside = self._is_in_folder_like_tar(info.key)
            while self._held and self._held[0][0] <= info.key:
                yield heapq.heappop(self._held)[2]
            if is_inside:
                continue
            if is_tar(info.key) and (info.ignored or not info.version.startswith("!")):
                self._hold(number, info)
            elif (entry := self._other(info)) is not None:
                yield entry
        while self._held:
            yield heapq.heappop(self._held)[2]

    def _is_in_folder_like_tar(self, key: str) -> bool:
        """Return whether a key is in a folder with the name of a tar file. That counts as one key, which is left out.

        Nobody could tell its keys from those of members.
        """
        inside = split_member(key)
        if inside is None:
            return False
        own = f"{inside[0]}/"
        if own != self._named_like_one:
            self._named_like_one = own
            if self._is_selective:
                heapq.heappush(self._held, (own, 0, _Entry(ObjectInfo(own, "", 0, None, ignored="no_tar"))))
        return True

    def _hold(self, number: int, tar: ObjectInfo) -> None:
        own = f"{tar.key}/"
        left_out = _Entry(replaced(tar, key=own, stands_for_all=True)) if tar.ignored else None
        heapq.heappush(self._held, (own, number, left_out or _Entry(tar, is_tar=True)))

    def _other(self, info: ObjectInfo) -> _Entry | None:
        if info.ignored or info.is_marker or info.version.startswith("!"):
            return _Entry(info)
        if found := _COMPRESSED.search(info.key):
            return _Entry(replaced(info, version=fault_version(Flaw(_FAULT_OF[found[1].lower()], 0), info)))
        return _Entry(replaced(info, ignored="no_tar")) if self._is_selective else None


def fault_version(flaw: Flaw, tar: ObjectInfo) -> str:
    """Return the version of a key that stands for what is wrong with a tar file. It changes with the tar."""
    return f"!tar-{flaw.fault}-{flaw.at}@{tar.version}"


def _infos(
    entries: Iterator[_Entry],
    scanner: TarScanner,
    after: str | None,
    ignoring: Ignoring | None,
    info_of: Callable[[ObjectInfo, Member], ObjectInfo],
) -> Iterator[ObjectInfo | None]:
    """Yield the keys after ``after``; None while a tar is being read."""
    stop = threading.Event()
    waiting: deque[_Entry] = deque()
    reading = 0
    try:
        while True:
            while len(waiting) < _ENTRIES_AHEAD and reading < AHEAD and (entry := next(entries, None)) is not None:
                if after is not None and (entry.info.key + ("0" if entry.is_tar else "")) <= after:
                    continue
                if entry.is_tar:
                    reading += 1
                    entry.scanned = _in_thread(scanner, entry.info, _ROOM_AHEAD, stop)
                waiting.append(entry)
            if not waiting:
                return
            entry = waiting.popleft()
            if entry.scanned is None:
                yield entry.info
                continue
            reading -= 1
            while not _is_done(entry.scanned):
                yield None
            if isinstance(entry.scanned.exception(), TooManyError):
                entry.scanned = _in_thread(scanner, entry.info, MAX_MEMBERS, stop)
                while not _is_done(entry.scanned):
                    yield None
            yield from _members(entry.info, entry.scanned, after, ignoring, info_of)
    finally:
        stop.set()


def _members(
    tar: ObjectInfo,
    scanned: Future[Scanned],
    after: str | None,
    ignoring: Ignoring | None,
    info_of: Callable[[ObjectInfo, Member], ObjectInfo],
) -> Iterator[ObjectInfo]:
    own = f"{tar.key}/"
    try:
        found = scanned.result()
    except ObjectMissingError:
        return
    except PermanentError:
        # As a folder that cannot be read: it fails with the reason, and its members are not taken to be gone.
        if after is None or own > after:
            yield ObjectInfo(own, UNREADABLE_VERSION, 0, None)
        return
    if found.members.flaw is not None and (after is None or own > after):
        yield ObjectInfo(own, fault_version(found.members.flaw, found.tar), 0, found.tar.modified_at)
    name = after[len(own) :] if after is not None and after.startswith(own) else None
    for member in found.members.after(name):
        info = info_of(found.tar, member)
        reason = ignoring.reason(info.key) if ignoring is not None else None
        yield replaced(info, ignored=reason) if reason else info


def _is_done(scanned: Future[Scanned]) -> bool:
    try:
        scanned.exception(timeout=PULSE_SECONDS)
    except TimeoutError:
        return False
    return True


def _in_thread(scanner: TarScanner, tar: ObjectInfo, room: int, stop: threading.Event) -> Future[Scanned]:
    """Read a tar in a thread of its own, which does not keep a process alive."""
    future: Future[Scanned] = Future()

    def work() -> None:
        try:
            future.set_result(scanner.scan(tar, room, stop))
        except BaseException as error:  # noqa: BLE001  (raised again by whoever wants the result)
            future.set_exception(error)

    threading.Thread(target=work, name="tar", daemon=True).start()
    return future

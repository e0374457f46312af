"""The members of tar files as an archive: ``tar+s3://bucket/prefix`` and ``tar+file:///folder``.

Their keys are those of the tar file and the name in it: ``laion/00000.tar/000001.jpg``. The version of a member says
where its bytes are, and in which version of the tar: so one request reads them, and nothing else is read instead if the
tar was overwritten. ``docs/decisions/0038-tars.md`` has the reasons.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from storage.objects.base import (
    CHANGED_VERSION,
    MISSING_VERSION,
    TOO_LONG_VERSION,
    BadKeyError,
    Fetched,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
    TarError,
    too_long,
)
from storage.objects.parallel_listing import is_sorted
from storage.objects.tar_headers import BAD_NAME_SIZE, BLOCK, MAX_MEMBERS, TOO_LONG_SIZE, padded, texts_in
from storage.objects.tar_listing import Scanned, TarScanner, fault_version, list_members
from storage.objects.tar_names import split_member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storage.objects.base import ObjectStore
    from storage.objects.ignoring import Ignoring
    from storage.objects.tar_headers import Member

_PLACE = re.compile(r"(\d+)\+(\d+)@(.*)", re.DOTALL)
_FAULT = re.compile(r"!tar-(\w+)-(\d+)@")
_BAD_NAME_VERSION = "!bad-name"

_FAULTS = {
    "not_tar": "it is no tar file",
    "empty": "the tar file has no bytes: copy it again",
    "damaged": "the tar file is damaged at byte {at:,}: its members from there on are not read. Copy or pack it again",
    "truncated": "the tar file is cut short at byte {at:,}: its members from there on are not read. Copy it again",
    "goes_on": "behind the end of the tar file another one follows at byte {at:,}, whose members are not read. Take "
    "them apart, or pack them into one",
    "too_many": f"the tar file has more than {MAX_MEMBERS:,} members: the others are not read. Pack it into several",
}
_COMPRESSED = "it is compressed with {fault}, so that its members cannot be read one by one: unpack it to a plain .tar"

RUN_BYTES = 4 * 1024 * 1024
"""Neighbouring members are read together, so many bytes in a request."""
_MOST_RUNS = 8
"""Runs that are kept: 32 MB."""
_REMEMBERED = 4_096
"""Places of members that were read last. A member beside them is read with its neighbours."""
_BESIDE_BYTES = 32 * 1024
"""So far from a picture its caption may be."""
_TRIES = 3


class Place(NamedTuple):
    """Where the bytes of a member are."""

    offset: int
    size: int
    tar_version: str

    @property
    def version(self) -> str:
        """The version of the member."""
        return f"{self.offset}+{self.size}@{self.tar_version}"


def place_of(version: str) -> Place | None:
    """Return what the version of a member says; None: it says nothing of a place."""
    found = _PLACE.fullmatch(version)
    return Place(int(found[1]), int(found[2]), found[3]) if found else None


def is_damage(version: str) -> bool:
    """Return whether the version of a key says that it stands for a damaged tar file, and for no object."""
    return _FAULT.match(version) is not None


class TarStore:
    """The members of the tar files in an archive. Thread-safe.

    Args:
        base: the archive with the tar files.
        hop_bytes: so many bytes are read in the time of a request. Members that are larger are not read for the header
            behind them.
        run_bytes: how much of neighbouring members is read in a request; 0: each by itself.
    """

    def __init__(self, base: ObjectStore, hop_bytes: int, run_bytes: int = RUN_BYTES) -> None:
        self._base = base
        self._scanner = TarScanner(base, hop_bytes)
        self._indexes = _Indexes(self._scanner)
        self._run_bytes = run_bytes
        self._runs: OrderedDict[tuple[str, str, int], Future[bytes]] = OrderedDict()
        self._touched: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def holds_version(self) -> bool:
        """As the archive with the tar files."""
        return self._base.holds_version

    def check(self) -> None:
        """Raise the error that a job would meet first: see ``ObjectStore.check``."""
        self._base.check()

    def pages(
        self, prefix: str, after: str | None, ignoring: Ignoring | None = None, *, is_ordered: bool = True
    ) -> Iterator[list[ObjectInfo]]:
        """Yield pages of members in byte order of their keys; see ``ObjectStore.pages``.

        A page is empty if a tar file takes long to read. A tar file that cannot be read, or only in part, is a key that
        ends in ``/`` and fails with the reason. ``is_ordered``: see ``list_members``.
        """
        return list_members(self._base, self._scanner, prefix, after, ignoring, info_of, is_ordered=is_ordered)

    def orders(self, prefix: str) -> Iterator[bool]:
        """Yield, after each page of keys, whether the archive with the tar files listed all in the order of bytes."""
        last, is_ordered = "", True
        for page in self._base.pages(prefix, None):
            keys = [last, *(info.key for info in page)]
            is_ordered &= is_sorted(keys)
            last = keys[-1]
            yield is_ordered

    def read_rules(self, ignoring: Ignoring, keys: Sequence[str]) -> None:
        """Read nothing: events name no members of tar files, so no job asks for some of them."""

    def stat(self, key: str, known: str = "") -> ObjectInfo:
        """Return the properties of one member; see ``ObjectStore.stat``.

        Without a known version the headers of the tar file are read. It is kept in mind which members it has.
        """
        parts = split_member(key)
        if parts is None:
            return ObjectInfo(key, MISSING_VERSION, 0, None)
        tar = self._base.stat(parts[0])
        if tar.version.startswith("!"):
            return ObjectInfo(key, tar.version, 0, None)
        place = place_of(known)
        if place is not None:
            version = known if place.tar_version == tar.version else CHANGED_VERSION
            return ObjectInfo(key, version, place.size, tar.modified_at)
        found = self._indexes.of(tar)
        member = found.members.find(parts[1])
        if member is not None:
            return info_of(found.tar, member)
        flaw = found.members.flaw
        return ObjectInfo(key, fault_version(flaw, found.tar) if flaw else MISSING_VERSION, 0, None)

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Fetch one member; see ``ObjectStore.fetch``.

        Raises:
            ObjectChangedError: the tar file is another one now. Without a version, the member is looked up in it.
            TarError: the key stands for a tar file that cannot be read.
        """
        place = self._place(key, version)
        if place is not None:
            return Fetched(self._read(key, place, max_bytes), version)
        for attempt in range(1, _TRIES + 1):
            info = self.stat(key)
            place = self._place(key, info.version)
            assert place is not None  # what has no place raised the reason
            try:
                return Fetched(self._read(key, place, max_bytes), info.version)
            except ObjectChangedError:
                if attempt == _TRIES:
                    raise
        raise AssertionError  # the last attempt returned or raised

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Read a part of one member; see ``ObjectStore.open``."""
        place = self._place(key, version) or self._place(key, self.stat(key).version)
        assert place is not None  # as above
        length = min(length, place.size - start)
        if length <= 0:
            return iter(())
        tar = _tar_of(key)
        return self._opened(tar, place.tar_version, place.offset + start, length)

    def texts_beside(self, key: str, version: str) -> list[tuple[str, bytes]]:
        """Return the text files right before and behind a member that have its name: ``.txt``, then ``.json``.

        Writers of WebDataset put them there. What is further away than ``_BESIDE_BYTES`` is not found.

        Raises:
            ObjectChangedError, StoreUnavailableError, CredentialsError: as ``fetch``.
        """
        place, parts = self._place(key, version), split_member(key)
        if place is None or parts is None or not place.size:
            return []
        end = place.offset + padded(place.size)
        begin = max(0, place.offset - _BESIDE_BYTES)
        # The last block of the member is read too: behind it there may be nothing.
        windows = [(begin, place.offset), (end - BLOCK, end + _BESIDE_BYTES)]
        if place.size <= 2 * _BESIDE_BYTES:
            windows = [(begin, end + _BESIDE_BYTES)]
        stem, found = parts[1].rpartition(".")[0], dict[str, bytes]()
        for start, until in windows:
            found |= texts_in(self._range(parts[0], place.tar_version, start, until - start), stem, {"txt", "json"})
        return sorted(found.items(), reverse=True)

    # Reading -------------------------------------------------------------------------------------------------------

    def _place(self, key: str, version: str) -> Place | None:
        """Return where a member is; None: its version is not known. Raise the reason if it cannot be read."""
        if not version.startswith("!"):
            if split_member(key) is None:
                raise BadKeyError("the key names no member of a tar file: write file.tar/member.jpg")
            return place_of(version)
        fault = _FAULT.match(version)
        if fault is not None:
            said = _FAULTS.get(fault[1], _COMPRESSED)
            raise TarError(said.format(fault=fault[1], at=int(fault[2])))
        if version == TOO_LONG_VERSION:
            raise too_long()
        if version == CHANGED_VERSION:
            raise _overwritten()
        if version == MISSING_VERSION:
            raise ObjectMissingError("the tar file, or its member, no longer exists")
        parts = split_member(key)
        if version == _BAD_NAME_VERSION and parts is not None:
            raise BadKeyError("the member's name leads out of the tar file, or is none: pack it with another name")
        if parts is not None:
            b"".join(self._base.open(parts[0], "", 0, 1))  # raises why the tar file cannot be read
            raise TarError("the tar file could not be read when it was listed, and can now: enqueue its archive again")
        self._base.fetch(key, version, 1)  # raises why a folder or a tar file could not be listed
        raise TarError("it could not be read when it was listed, and can now: enqueue its archive again")

    def _read(self, key: str, place: Place, max_bytes: int) -> bytes:
        if place.size > max_bytes:
            raise ObjectTooLargeError(f"{place.size:,} bytes exceed the limit of {max_bytes:,} bytes")
        if not place.size:
            return b""
        tar, runs = _tar_of(key), self._runs_of(_tar_of(key), place)
        if not runs:
            body = self._range(tar, place.tar_version, place.offset, place.size)
        else:
            begin = place.offset - runs[0] * self._run_bytes
            parts = [self._run(tar, place.tar_version, number) for number in runs]
            body = (parts[0] if len(parts) == 1 else b"".join(parts))[begin : begin + place.size]
        if len(body) != place.size:
            raise StoreUnavailableError(f"only {len(body):,} of {place.size:,} bytes arrived")
        return body

    def _runs_of(self, tar: str, place: Place) -> range | None:
        """Return the runs in which a member is, if others near it were read before; None: it is read by itself."""
        if not self._run_bytes or place.size > self._run_bytes // 2:
            return None
        numbers = range(place.offset // self._run_bytes, (place.offset + place.size - 1) // self._run_bytes + 1)
        with self._lock:
            near = [(tar, place.tar_version, number) for number in (numbers[0] - 1, *numbers)]
            has_neighbours = any(each in self._touched for each in near)
            for each in near[1:]:
                self._touched[each] = None
                self._touched.move_to_end(each)
            while len(self._touched) > _REMEMBERED:
                self._touched.popitem(last=False)
        return numbers if has_neighbours else None

    def _run(self, tar: str, version: str, number: int) -> bytes:
        """Return a run of bytes. Threads that want the same one wait for the first of them."""
        key = (tar, version, number)
        with self._lock:
            known = self._runs.get(key)
            future: Future[bytes] = known or Future()
            self._runs[key] = future
            self._runs.move_to_end(key)
            while len(self._runs) > _MOST_RUNS:
                self._runs.popitem(last=False)
        if known is None:
            try:
                future.set_result(self._range(tar, version, number * self._run_bytes, self._run_bytes))
            except BaseException as error:  # noqa: BLE001  (raised again in every thread that waits)
                future.set_exception(error)
                with self._lock:
                    self._runs.pop(key, None)
        return future.result()

    def _range(self, tar: str, version: str, start: int, length: int) -> bytes:
        body = b"".join(self._opened(tar, version, start, length))
        self._require_same(tar, version)
        return body

    def _opened(self, tar: str, version: str, start: int, length: int) -> Iterator[bytes]:
        self._require_same(tar, version)
        try:
            return self._base.open(tar, version, start, length)
        except ObjectChangedError as error:
            raise _overwritten() from error

    def _require_same(self, tar: str, version: str) -> None:
        if not self._base.holds_version and self._base.stat(tar).version != version:
            raise _overwritten()


def _overwritten() -> ObjectChangedError:
    return ObjectChangedError("the tar file was overwritten since it was listed: enqueue its archive again")


class _Indexes:
    """Remembers what the tar files have that were asked for last. Thread-safe."""

    def __init__(self, scanner: TarScanner) -> None:
        self._scanner = scanner
        self._kept: OrderedDict[str, Scanned] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, tar: ObjectInfo) -> Scanned:
        """Return a tar file as it was read, and its members."""
        with self._lock:
            own = self._locks.setdefault(tar.key, threading.Lock())
        with own:
            known = self._kept.get(tar.key)
            if known is None or known.tar.version != tar.version:
                known = self._scanner.scan(tar)
                self._keep(known)
        return known

    def _keep(self, found: Scanned) -> None:
        with self._lock:
            self._kept[found.tar.key] = found
            self._kept.move_to_end(found.tar.key)
            while len(self._kept) > 1 and sum(len(each.members) for each in self._kept.values()) > MAX_MEMBERS:
                self._kept.popitem(last=False)


def info_of(tar: ObjectInfo, member: Member) -> ObjectInfo:
    """Return the properties of a member, as a listing does."""
    key = f"{tar.key}/{member.name}"
    if member.size == BAD_NAME_SIZE:
        return ObjectInfo(key, _BAD_NAME_VERSION, 0, None)
    if member.size == TOO_LONG_SIZE:
        return ObjectInfo(key, TOO_LONG_VERSION, 0, None)
    at = datetime.fromtimestamp(member.mtime, UTC) if 0 < member.mtime < _YEAR_9999 else tar.modified_at
    return ObjectInfo(key, Place(member.offset, member.size, tar.version).version, member.size, at)


_YEAR_9999 = 253_370_764_800


def _tar_of(key: str) -> str:
    parts = split_member(key)
    assert parts is not None
    return parts[0]

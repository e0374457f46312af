"""A folder as an archive. Links are not followed, so nothing outside the folder can be reached through it."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.kit.errors import ForbiddenError, NotFoundError
from storage.objects.base import (
    MAX_KEY_BYTES,
    PAGE_SIZE,
    BadKeyError,
    Fetched,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectInfo,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Versions that a listing gives to what it could see but not use; ``fetch`` answers them with the reason.
_BAD_NAME = "!bad-name"
_UNREADABLE = "!unreadable-folder"
_READS = 3
"""How often a file that changes under our hands is read before that is reported."""


class FolderStore:
    """Objects are the regular files below ``root``; keys are their paths below it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check(self) -> None:
        """Raise ``NotFoundError`` or ``ForbiddenError`` when the folder cannot be listed."""
        try:
            with os.scandir(self.root):
                return
        except FileNotFoundError:
            raise NotFoundError(f"there is no folder {self.root}") from None
        except NotADirectoryError:
            raise NotFoundError(f"{self.root} is not a folder") from None
        except PermissionError:
            raise ForbiddenError(f"the folder {self.root} may not be read by this user") from None

    def pages(self, prefix: str, after: str | None) -> Iterator[list[ObjectInfo]]:
        """Yield pages of files in byte order of their keys; see ``ObjectStore.pages``."""
        self.check()
        page: list[ObjectInfo] = []
        for info in self._walk(prefix.strip("/"), (after or "").encode()):
            page.append(info)
            if len(page) == PAGE_SIZE:
                yield page
                page = []
        if page:
            yield page

    def _walk(self, prefix: str, after: bytes) -> Iterator[ObjectInfo]:
        start = self.root / prefix if prefix else self.root
        if prefix and start.is_file() and not start.is_symlink():
            if prefix.encode() > after:
                yield self._info(os.fspath(start), prefix)
        elif not prefix or start.is_dir():
            yield from self._walk_folder(os.fspath(start), f"{prefix}/" if prefix else "", after)

    def _walk_folder(self, path: str, key_prefix: str, after: bytes) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(path) as entries:
                found = [(_storable(entry.name), entry, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            # Seen but not readable: it must show up in the books, so it becomes a key that fails with the reason.
            yield ObjectInfo(key_prefix or "/", _UNREADABLE, 0, None)
            return
        # A folder sorts by its name with the slash, as in an object store, so the whole walk is in byte order.
        found.sort(key=lambda item: f"{item[0]}/".encode() if item[2] else item[0].encode())
        for name, entry, is_folder in found:
            key = f"{key_prefix}{name}"
            if is_folder:
                below = f"{key}/".encode()
                if after < below or after.startswith(below):
                    yield from self._walk_folder(entry.path, f"{key}/", after)
            elif key.encode() > after and entry.is_file(follow_symlinks=False):
                yield self._info(entry.path, key)

    def _info(self, path: str, key: str) -> ObjectInfo:
        if len(key.encode()) > MAX_KEY_BYTES or "\\x" in key:
            try:
                os.fsencode(path).decode()
            except UnicodeDecodeError:
                return ObjectInfo(_shortened(key), _BAD_NAME, 0, None)
            if len(key.encode()) > MAX_KEY_BYTES:
                return ObjectInfo(_shortened(key), _BAD_NAME, 0, None)
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return ObjectInfo(key, "", 0, None)
        return ObjectInfo(key, _version(status), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Read one file; see ``ObjectStore.fetch``."""
        if version == _BAD_NAME:
            raise BadKeyError("the file name is not valid UTF-8 or too long to store: rename the file")
        if version == _UNREADABLE:
            raise ObjectForbiddenError("this folder may not be read by the worker's user")
        try:
            descriptor = self._open(key)
        except FileNotFoundError:
            raise ObjectMissingError("the file is gone") from None
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise ObjectForbiddenError("the path leads through a symbolic link, which is not followed") from None
            if error.errno in {errno.EACCES, errno.EPERM}:
                raise ObjectForbiddenError("the file may not be read by the worker's user") from None
            raise StoreUnavailableError(f"{error.strerror}: {key}") from error
        with os.fdopen(descriptor, "rb") as file:
            for _ in range(_READS):
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    raise ObjectForbiddenError("not a regular file")
                if before.st_size > max_bytes:
                    raise ObjectTooLargeError(f"{before.st_size:,} bytes, the limit is {max_bytes:,}")
                file.seek(0)
                try:
                    body = file.read(max_bytes + 1)
                except OSError as error:
                    raise StoreUnavailableError(f"{error.strerror}: {key}") from error
                if _version(os.fstat(file.fileno())) == _version(before) and len(body) == before.st_size:
                    return Fetched(body, _version(before))
        raise ObjectChangedError("the file kept changing while it was read")

    def _open(self, key: str) -> int:
        """Open a file one path component at a time, refusing links at each, and return its descriptor."""
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, name = key.split("/")
            if any(part in {"", ".", ".."} for part in (*folders, name)):
                raise FileNotFoundError(key)
            for part in folders:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            # Not blocking: opening a FIFO would wait for a writer that may never come.
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"


def _storable(name: str) -> str:
    """Return ``name`` with bytes that are not UTF-8 written as ``\\xNN``, since Postgres stores UTF-8 only."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _shortened(key: str) -> str:
    return key.encode()[:MAX_KEY_BYTES].decode(errors="ignore")

"""A folder as an archive. Symbolic links are not followed, so nothing outside of the folder can be reached."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from storage.errors import ForbiddenError, NotFoundError, PermanentError, UsageError
from storage.objects.base import (
    CHUNK_BYTES,
    INODE,
    MAX_KEY_BYTES,
    MISSING_VERSION,
    PAGE_SIZE,
    TOO_LONG_VERSION,
    UNREADABLE_VERSION,
    BadKeyError,
    Fetched,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectInfo,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
    shortened,
    too_long,
)
from storage.objects.cutting import cut_in_folders
from storage.objects.ignoring import FILE_NAME, MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from storage.objects.ignoring import Ignoring

# Version of a name that a listing saw but could not use. ``fetch`` raises an error with the reason.
_BAD_NAME = "!bad-name"
_READS = 3
"""How often a file that keeps changing is read before that is reported."""


class FolderStore:
    """Objects are the regular files below ``root``; keys are their paths below it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def holds_version(self) -> bool:
        """A file can be written while it is read."""
        return False

    def check(self) -> None:
        """Raise ``NotFoundError`` or ``ForbiddenError`` if the folder cannot be listed."""
        try:
            with os.scandir(self.root):
                return
        except FileNotFoundError:
            raise NotFoundError(f"there is no folder {self.root}") from None
        except NotADirectoryError:
            raise NotFoundError(
                f"{self.root} is not a folder; give a folder, s3://bucket/prefix, or a list of keys (.txt, .csv, …)"
            ) from None
        except PermissionError:
            raise ForbiddenError(f"this user may not read the folder {self.root}: check its permissions") from None
        except OSError as error:  # the name is too long, or the disk fails
            raise UsageError(f"{self.root} cannot be listed: {error.strerror}") from None

    def pages(
        self, prefix: str, after: str | None, ignoring: Ignoring | None = None, until: str | None = None
    ) -> Iterator[list[ObjectInfo]]:
        """Yield pages of files in byte order of their keys; see ``RangedStore.pages``.

        A folder that is left out is not read, and stands for all that is in it.
        """
        self.check()
        page: list[ObjectInfo] = []
        for info in self._walk(prefix.strip("/"), (after or "").encode(), ignoring):
            if until is not None and info.key > until:  # in the order of code points, which is that of bytes
                break
            page.append(info)
            if len(page) == PAGE_SIZE:
                yield page
                page = []
        if page:
            yield page

    def cut(self, prefix: str, after: str, until: str | None) -> str | None:
        """Return where to cut a listing; see ``RangedStore.cut``."""

        def keys_in(above: str) -> list[str]:
            found, _ = self._entries(os.fspath(self.root / above), above, after.encode())
            return [key for key, _, _ in reversed(found)]

        with suppress(OSError):  # the listing meets it too, and says so
            return cut_in_folders(keys_in, prefix.strip("/"), after, until)
        return None

    def _walk(self, prefix: str, after: bytes, ignoring: Ignoring | None) -> Iterator[ObjectInfo]:
        last = after
        for info in self._found(prefix, after, ignoring):
            # Paths too long to store share a shortened key. Each key is listed once, even across a restart.
            if info.key.encode() > last:
                last = info.key.encode()
                yield info

    def _found(self, prefix: str, after: bytes, ignoring: Ignoring | None) -> Iterator[ObjectInfo]:
        is_folder = not prefix or self._is_folder(prefix)
        for folder in ignoring.above()[:-1] if ignoring else ():
            if os.path.lexists(self.root / folder / FILE_NAME):
                self._read_rules(ignoring, folder)
        start = os.fspath(self.root / prefix)
        # A stack, last entry first: folders may be nested deeper than Python's call stack allows.
        waiting = [(f"{prefix}/" if prefix and is_folder else prefix, start, is_folder)]
        while waiting:
            key, path, is_folder = waiting.pop()
            reason = ignoring.reason(key) if ignoring else None
            if reason is not None:
                yield ObjectInfo(shortened(key), "", 0, None, ignored=reason, stands_for_all=is_folder)
                continue
            if not is_folder:
                yield self._info(path, key)
                continue
            if len(key.encode()) > MAX_KEY_BYTES:
                yield ObjectInfo(shortened(key), TOO_LONG_VERSION, 0, None)
                continue
            try:
                found, has_rules = self._entries(path, key, after)
            except FileNotFoundError:
                continue  # deleted since its parent was read
            except OSError:
                # Visible but unreadable: it becomes a key that fails with the reason, so that it is counted.
                yield ObjectInfo(key or "/", UNREADABLE_VERSION, 0, None)
                continue
            if has_rules:
                self._read_rules(ignoring, key)
            waiting += found

    def read_rules(self, ignoring: Ignoring, keys: Sequence[str]) -> None:
        """Give ``ignoring`` the files in all folders of the keys; see ``ObjectStore.read_rules``."""
        folders = {key[: place + 1] for key in keys for place, sign in enumerate(key) if sign == "/"}
        for folder in sorted({"", *folders}):
            if os.path.lexists(self.root / folder / FILE_NAME):
                self._read_rules(ignoring, folder)

    def _read_rules(self, ignoring: Ignoring | None, folder: str) -> None:
        """Give a file ``.ramqignore`` to ``ignoring``. It counts, so nothing of its folder is listed without it."""
        if ignoring is None:
            return
        where = self.root / folder / FILE_NAME
        try:
            with self._opened(f"{folder}{FILE_NAME}", "") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (PermanentError, OSError) as error:
            raise UsageError(f"{where} cannot be read, and says what to leave out: {error}") from error
        ignoring.add_file(folder, content, str(where))

    @staticmethod
    def _entries(path: str, key_prefix: str, after: bytes) -> tuple[list[tuple[str, str, bool]], bool]:
        """Return a folder's entries that may hold keys after ``after``, and whether it has a file ``.ramqignore``.

        Of each entry its key, path and kind, in descending order.
        """
        found, has_rules = [], False
        with os.scandir(path) as entries:
            for entry in entries:
                has_rules |= entry.name == FILE_NAME
                key = f"{key_prefix}{_storable(entry.name)}"
                if entry.is_dir(follow_symlinks=False):
                    # A folder sorts by its name with the slash, as in an object store. The walk is then in byte order.
                    below = f"{key}/".encode()
                    if after < below or after.startswith(below):
                        found.append((f"{key}/", entry.path, True))
                elif entry.is_file(follow_symlinks=False) and key.encode() > after:
                    found.append((key, entry.path, False))
        return sorted(found, key=lambda item: item[0].encode(), reverse=True), has_rules

    def _is_folder(self, prefix: str) -> bool:
        """Return whether a path below the root is a folder (True) or a file (False). Raise for anything else."""
        path, mode = self.root, stat.S_IFDIR
        for part in prefix.split("/"):
            path = path / part
            if part in {"", ".", ".."} or not stat.S_ISDIR(mode):
                raise NotFoundError(f"there is no folder {self.root / prefix}")
            try:
                mode = path.lstat().st_mode
            except PermissionError:
                raise ForbiddenError(f"this user may not read the folder {path}: check its permissions") from None
            except OSError:
                raise NotFoundError(f"there is no folder {self.root / prefix}") from None
            if stat.S_ISLNK(mode):
                raise ForbiddenError(f"{path} is a symbolic link, which is not followed: enqueue its target")
        return stat.S_ISDIR(mode)

    def _info(self, path: str, key: str) -> ObjectInfo:
        if len(key.encode()) > MAX_KEY_BYTES:
            return ObjectInfo(shortened(key), TOO_LONG_VERSION, 0, None)
        if not _is_text(path):
            return ObjectInfo(key, _BAD_NAME, 0, None)
        try:
            status = os.lstat(path)
        except OSError:
            return ObjectInfo(key, MISSING_VERSION, 0, None)
        return ObjectInfo(key, _version(status), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def stat(self, key: str, known: str = "") -> ObjectInfo:
        """Return the properties of one file; see ``ObjectStore.stat``. Of what a listing passes over, there is none.

        A file that has the size and the time of a ``known`` exact version (``exact``) has that version.
        """
        info = self._info(os.fspath(self.root / key), key)
        if not info.version.startswith("!"):
            try:
                status = os.lstat(self.root / key)
            except OSError:
                return ObjectInfo(key, MISSING_VERSION, 0, None)
            if not stat.S_ISREG(status.st_mode):
                return ObjectInfo(key, MISSING_VERSION, 0, None)
            if known and _is_of(known, status):
                return replace(info, version=known)
        return info

    def exact(self, key: str, known: str) -> ObjectInfo:
        """Return what ``stat`` does. If the file has a known size and time, its version tells more.

        It then also says when its inode was last changed. So two files of equal size and time that trade names are
        other versions than before.
        """
        info = self.stat(key)
        if info.version.startswith("!") or not known:
            return info
        try:
            status = os.lstat(self.root / key)
        except OSError:
            return ObjectInfo(key, MISSING_VERSION, 0, None)
        return replace(info, version=_exact_version(status)) if _is_of(known, status) else info

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Read one file; see ``ObjectStore.fetch``."""
        with self._opened(key, version) as file:
            for _ in range(_READS):
                before = os.fstat(file.fileno())
                if before.st_size > max_bytes:
                    raise ObjectTooLargeError(f"{before.st_size:,} bytes exceed the limit of {max_bytes:,} bytes")
                file.seek(0)
                try:
                    body = file.read(before.st_size + 1)
                except OSError as error:
                    raise StoreUnavailableError(f"{error.strerror}: {key}") from error
                if _version(os.fstat(file.fileno())) == _version(before) and len(body) == before.st_size:
                    return Fetched(body, _exact_version(before) if INODE in version else _version(before))
        raise ObjectChangedError("the file kept changing while it was read")

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Read a part of one file; see ``ObjectStore.open``."""
        file = self._opened(key, version)
        if version and not version.startswith("!") and not _is_of(version, os.fstat(file.fileno())):
            file.close()
            raise ObjectChangedError("the file changed while it was read")
        return _chunks(file, start, length)

    def _opened(self, key: str, version: str) -> IO[bytes]:
        """Open a regular file. Raise the error that belongs to its version, if the listing could not read it."""
        if version == _BAD_NAME:
            raise BadKeyError("the file name is not valid UTF-8: rename the file")
        if version == TOO_LONG_VERSION:
            raise too_long()
        if version == UNREADABLE_VERSION:
            raise ObjectForbiddenError("the worker's user may not read this folder: check its permissions")
        descriptor = self._open(key)
        try:
            is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailableError(f"{error.strerror}: {key}") from error
        if not is_regular:
            os.close(descriptor)
            raise ObjectForbiddenError("not a regular file")
        return os.fdopen(descriptor, "rb")

    def _open(self, key: str) -> int:
        """Open a file below the root and return its descriptor. Raise a specific error for every refusal."""
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Not an error of one image: an unmounted disk must not make a whole archive look deleted.
            raise StoreUnavailableError(f"folder {self.root} does not exist: is its disk mounted?") from None
        except OSError as error:
            raise StoreUnavailableError(f"{error.strerror}: {self.root}") from error
        try:
            return _open_below(root, key)
        except FileNotFoundError:
            raise ObjectMissingError("the file no longer exists") from None
        except OSError as error:
            if error.errno == errno.ENOTDIR and not self._leads_through_link(key):
                raise ObjectMissingError("the file no longer exists: a part of its path is not a folder now") from None
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise ObjectForbiddenError("the path leads through a symbolic link, which is not followed") from None
            if error.errno in {errno.EACCES, errno.EPERM}:
                raise ObjectForbiddenError("the worker's user may not read the file: check its permissions") from None
            if error.errno in {errno.ENXIO, errno.ENODEV}:
                raise ObjectForbiddenError("not a regular file") from None
            if error.errno == errno.ENAMETOOLONG:
                raise BadKeyError("a part of the key is too long for a file name") from None
            raise StoreUnavailableError(f"{error.strerror}: {key}") from error

    def _leads_through_link(self, key: str) -> bool:
        path = self.root
        for part in key.split("/"):
            path = path / part
            if path.is_symlink():
                return True
        return False


def _open_below(root: int, key: str) -> int:
    """Open a file one path component at a time, rejecting links at each. Closes ``root``."""
    *folders, name = key.split("/")
    if not are_names(*folders, name):
        os.close(root)
        raise FileNotFoundError(key)
    folder = open_folder(root, folders)
    try:
        # Non-blocking: opening a FIFO would otherwise wait for a writer that may never come.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def are_names(*parts: str) -> bool:
    """Return whether all parts of a path are names of files or folders, and none leads elsewhere."""
    return not any(part in {"", ".", ".."} or "\x00" in part for part in parts)


def open_folder(root: int, names: Sequence[str], *, with_missing: bool = False) -> int:
    """Open a folder below another one, one name at a time, rejecting links at each. Closes ``root``.

    Args:
        root: descriptor of the folder above.
        names: of the folders on the way, the last one included; see ``are_names``.
        with_missing: make the folders that are missing.
    """
    folder = root
    try:
        for name in names:
            if with_missing:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
    except BaseException:
        os.close(folder)
        raise
    return folder


def _chunks(file: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    with file:
        try:
            file.seek(start)
            while length > 0 and (chunk := file.read(min(CHUNK_BYTES, length))):
                yield chunk
                length -= len(chunk)
        except OSError as error:
            raise StoreUnavailableError(f"{error.strerror}: {file.name}") from error


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"


def _exact_version(status: os.stat_result) -> str:
    """Return the version with the time of the last change of the inode, which a listing does not look at."""
    return f"{_version(status)}{INODE}{status.st_ctime_ns}"


def _is_of(version: str, status: os.stat_result) -> bool:
    """Return whether a version, exact or not, has the size and time of a file."""
    return version.partition(INODE)[0] == _version(status)


def _storable(name: str) -> str:
    r"""Return ``name`` with invalid UTF-8 bytes written as ``\xNN``, since PostgreSQL stores only UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _is_text(path: str) -> bool:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True

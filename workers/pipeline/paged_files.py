"""Files of which several pages are wanted: each is fetched once for all pages of a shard that follow each other.

Its bytes are in a temporary file without a name, which the processes that decode read what they need of. So a page of a
file of 500 MB costs neither another download nor a copy of all its bytes.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
import threading
from typing import TYPE_CHECKING, NamedTuple

from workers.pipeline.retry import EmptyFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.objects.base import Fetched, ObjectStore
    from storage.objects.pages import PagePlace
    from workers.pipeline.budget import BytesBudget

MOST_BYTES = 2 * 1024 * 1024 * 1024
"""Of the disk: files that are open at the same time, unless a single one is larger."""


class FileId(NamedTuple):
    """Which file: its store, key and version."""

    store: ObjectStore
    key: str
    version: str


class SharedFile:
    """A fetched file, for all of its pages.

    Attributes:
        body: its bytes, which are not in memory until they are read.
        version: of the file.
        sha256: of its bytes.
        descriptor: of the open file.
        uses: how many images need it now. Changed by ``PagedFiles`` only.
    """

    def __init__(self, file_id: FileId, fetched: Fetched) -> None:
        self.id = file_id
        self.version = fetched.version
        self.sha256 = hashlib.sha256(fetched.body).digest()
        self.uses = 0
        self._file = tempfile.TemporaryFile(prefix="ramq-pages-")  # noqa: SIM115  (closed by `close`)
        try:
            self._file.write(fetched.body)
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise
        self.body = memoryview(self._map)

    @property
    def descriptor(self) -> int:
        """The number of the open file."""
        return self._file.fileno()

    def close(self) -> None:
        """Give the disk back."""
        self.body.release()
        self._map.close()
        self._file.close()

    def sha256_of(self, page: int) -> bytes:
        """Return what stands for the bytes of a page: the same page of a file with the same bytes has the same."""
        return hashlib.sha256(b"page %d of %s" % (page, self.sha256)).digest()


class PagedFiles:
    """The files of a pipeline that are open. Thread-safe.

    Args:
        budget: of the bytes in memory, for the time in which a file is fetched.
        most_bytes: bytes of open files; more are waited for, unless no other file is open.
    """

    def __init__(self, budget: BytesBudget, most_bytes: int = MOST_BYTES) -> None:
        self._budget = budget
        self._most_bytes = most_bytes
        self._open: dict[FileId, SharedFile] = {}
        self._fetching: dict[FileId, int] = {}  # the bytes of each
        self._changed = threading.Condition()

    def take(
        self, store: ObjectStore, place: PagePlace, size_bytes: int, fetch: Callable[[str, str], Fetched]
    ) -> SharedFile:
        """Return the file of a page, and fetch it if it is not open. Release it afterwards.

        Args:
            store: of the archive.
            place: where the page is.
            size_bytes: of the file, as listed.
            fetch: called with a key and a version. Raises the errors of the store.
        """
        wanted = FileId(store, place.key, place.version)
        with self._changed:
            while wanted in self._fetching or not (wanted in self._open or self._has_room(size_bytes)):
                self._changed.wait()
            if (known := self._open.get(wanted)) is not None:
                known.uses += 1
                return known
            self._fetching[wanted] = size_bytes
        try:
            file = self._fetched(wanted, size_bytes, fetch)
            with self._changed:
                file.uses += 1
                self._open[wanted] = file
                return file
        finally:
            with self._changed:
                del self._fetching[wanted]
                self._changed.notify_all()

    def release(self, file: SharedFile) -> None:
        """Say that an image no longer needs a file. The one that was used last stays open for the next page."""
        with self._changed:
            file.uses -= 1
            if file.uses == 0 and self._open.pop(file.id, None) is file:
                self._open[file.id] = file  # now the last one
            self._close_idle(keep=1)
            self._changed.notify_all()

    def close(self) -> None:
        """Close the files that no image needs: all of them, when the pipeline is empty."""
        with self._changed:
            self._close_idle(keep=0)

    def _has_room(self, size_bytes: int) -> bool:
        if self._held_bytes() + size_bytes > self._most_bytes:
            self._close_idle(keep=0)
        held = self._held_bytes()
        return not held or held + size_bytes <= self._most_bytes

    def _held_bytes(self) -> int:
        return sum(len(file.body) for file in self._open.values()) + sum(self._fetching.values())

    def _close_idle(self, keep: int) -> None:
        idle = [file for file in self._open.values() if not file.uses]
        for file in idle[: len(idle) - keep]:
            del self._open[file.id]
            file.close()

    def _fetched(self, wanted: FileId, size_bytes: int, fetch: Callable[[str, str], Fetched]) -> SharedFile:
        reserved = self._budget.acquire(size_bytes)
        try:
            fetched = fetch(wanted.key, wanted.version)
            if not len(fetched.body):
                raise EmptyFileError("the object has no bytes")
            return SharedFile(wanted, fetched)
        finally:
            self._budget.release(reserved)

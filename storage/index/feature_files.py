"""Files of stored features, next to the index: written once, checked on every read.

A file is written before any row refers to it, and deleted after no row refers to it. A worker that dies in between
leaves an unused file, which is collected after a day. It never leaves a row without its file.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from storage.index.manifest import DamagedError
from storage.results.features import NewFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from storage.index.file_storage import FileStorage

FOLDER = "features"
_READERS = 8
"""Files that are read at the same time. In a bucket each takes some hundredths of a second, most of it waiting."""
_FILES_IN_MEMORY = 8
"""A shard's images are in a few files, one for each batch that wrote them. A file of 64 images has about 5 MB."""


def folder_of(generation_id: int) -> str:
    """Return the folder of a generation's feature files."""
    return f"{FOLDER}/generation-{generation_id}"


class FeatureFiles:
    """The feature files in an index storage. Thread-safe.

    Args:
        place: where they are.
    """

    def __init__(self, place: FileStorage) -> None:
        self.place = place
        self._read: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def write(self, generation_id: int, kind: str, rows: NDArray[np.uint8]) -> NewFile:
        """Store (N, R) rows under a name that was never used before.

        Raises:
            ServiceUnavailableError: the storage does not answer.
        """
        stream = BytesIO()
        np.save(stream, rows, allow_pickle=False)
        data = stream.getvalue()
        # Content hash plus a unique number: a file that is being collected is never one that was just written again.
        name = f"{folder_of(generation_id)}/{sha256(data).hexdigest()}-{uuid4().hex[:8]}.npy"
        self.place.put(name, data)
        return NewFile(kind, name, len(rows), len(data))

    def row(self, name: str, position: int) -> NDArray[np.uint8]:
        """Return a row of a file.

        Raises:
            DamagedError: the file is missing, or differs from what was written.
            ServiceUnavailableError: the storage does not answer.
        """
        with self._lock:  # threads that need the same file share one read
            rows = self._read.get(name)
            if rows is None:
                rows = self._read[name] = self._checked(name)
                if len(self._read) > _FILES_IN_MEMORY:
                    self._read.popitem(last=False)
            self._read.move_to_end(name)
        if position >= len(rows):
            raise DamagedError(f"{name} has {len(rows)} rows, row {position + 1} is missing")
        row: NDArray[np.uint8] = rows[position]
        return row

    def rows(self, places: Sequence[tuple[str, int]]) -> NDArray[np.uint8]:
        """Return (N, R) rows, each of a file and a position in it. Files are read side by side, and not kept.

        Raises:
            DamagedError: a file is missing, or differs from what was written.
            ServiceUnavailableError: the storage does not answer.
        """
        rows, damaged = self.sound_rows(places)
        if damaged:
            raise next(iter(damaged.values()))
        return rows

    def sound_rows(self, places: Sequence[tuple[str, int]]) -> tuple[NDArray[np.uint8], dict[str, DamagedError]]:
        """Return the rows of those places whose files are sound, in the same order, and the damaged files by name.

        Raises:
            ServiceUnavailableError: the storage does not answer.
        """
        wanted: dict[str, list[int]] = {}
        for at, (name, _) in enumerate(places):
            wanted.setdefault(name, []).append(at)

        def read(name: str) -> NDArray[np.uint8] | DamagedError:
            positions = [places[at][1] for at in wanted[name]]
            try:
                rows = self._checked(name)
            except DamagedError as error:
                return error
            if max(positions) >= len(rows):
                return DamagedError(f"{name} has {len(rows)} rows, row {max(positions) + 1} is missing")
            some: NDArray[np.uint8] = rows[positions]
            return some

        with ThreadPoolExecutor(_READERS) as pool:
            parts = dict(zip(wanted, pool.map(read, wanted), strict=True))
        damaged = {name: part for name, part in parts.items() if isinstance(part, DamagedError)}
        sound = {name: part for name, part in parts.items() if not isinstance(part, DamagedError)}
        if not sound:
            return np.empty((0, 0), dtype=np.uint8), damaged
        found = np.empty((len(places), next(iter(sound.values())).shape[1]), dtype=np.uint8)
        for name, part in sound.items():
            found[wanted[name]] = part
        return found[[name in sound for name, _ in places]], damaged

    def is_lost(self, name: str) -> bool:
        """Return whether a file is gone or differs from what was written, and not only cannot be read now.

        Raises:
            ServiceUnavailableError: the storage does not answer.
        """
        try:
            self._checked(name)
        except DamagedError:
            folder, _, own = name.rpartition("/")
            if own not in self.place.names(folder):
                return bool(self.place.names(""))  # else the whole storage is not where it was, such as a disk
            try:
                self.place.read(name)
            except DamagedError:
                return False
            return True
        return False

    def _checked(self, name: str) -> NDArray[np.uint8]:
        data = self.place.read(name)
        if not name.rpartition("/")[2].startswith(f"{sha256(data).hexdigest()}-"):
            raise DamagedError(f"{name} was changed: its SHA-256 does not match its name")
        rows: NDArray[np.uint8] = np.load(BytesIO(data), allow_pickle=False)
        return rows

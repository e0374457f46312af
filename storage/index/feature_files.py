"""Files of stored features, in the place of the index: written once, checked whenever they are read.

A file is there before a row speaks of it, and no row speaks of it when it goes. So a worker that dies in between leaves
a file that nobody needs, which is collected after a day, and never a row without its file.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from storage.index.manifest import DamagedError
from storage.results.features import NewFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.file_storage import FileStorage

FOLDER = "features"
_FILES_IN_MEMORY = 8
"""A shard's images lie in a few files, one for each batch that wrote them; a file of 64 images has about 5 MB."""


def folder_of(generation_id: int) -> str:
    """Return the folder of a generation's feature files."""
    return f"{FOLDER}/generation-{generation_id}"


class FeatureFiles:
    """The feature files of a place. Thread-safe.

    Args:
        place: where they are.
    """

    def __init__(self, place: FileStorage) -> None:
        self.place = place
        self._read: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._lock = Lock()

    def write(self, generation_id: int, kind: str, rows: NDArray[np.uint8]) -> NewFile:
        """Store (N, R) rows under a name that no other file ever had.

        Raises:
            ServiceUnavailableError: the place does not answer.
        """
        stream = BytesIO()
        np.save(stream, rows, allow_pickle=False)
        data = stream.getvalue()
        # The content and a number of its own: what is collected is then never what somebody just wrote again.
        name = f"{folder_of(generation_id)}/{sha256(data).hexdigest()}-{uuid4().hex[:8]}.npy"
        self.place.put(name, data)
        return NewFile(kind, name, len(rows), len(data))

    def row(self, name: str, position: int) -> NDArray[np.uint8]:
        """Return a row of a file.

        Raises:
            DamagedError: the file is not there, or is not what was written.
            ServiceUnavailableError: the place does not answer.
        """
        with self._lock:  # threads that want rows of one file wait for one reading of it
            rows = self._read.get(name)
            if rows is None:
                rows = self._read[name] = self._checked(name)
                if len(self._read) > _FILES_IN_MEMORY:
                    self._read.popitem(last=False)
            self._read.move_to_end(name)
        if position >= len(rows):
            raise DamagedError(f"{name} has {len(rows)} rows, not {position + 1}")
        row: NDArray[np.uint8] = rows[position]
        return row

    def _checked(self, name: str) -> NDArray[np.uint8]:
        data = self.place.read(name)
        if not name.rpartition("/")[2].startswith(f"{sha256(data).hexdigest()}-"):
            raise DamagedError(f"{name} was changed: its SHA-256 is not in its name")
        rows: NDArray[np.uint8] = np.load(BytesIO(data), allow_pickle=False)
        return rows

"""Images with words in them, kept between searches.

These may be most images of an archive. Finding them takes PostgreSQL a microsecond or two for each. They are
therefore kept with the snapshot at which they were found. The next search for the same asks only what changed
since, so that it finds what was committed before it, exactly.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.moments import Asked, Moment

MAX_BYTES = 128 * 2**20
"""Of the ids that are kept: sixteen million."""

_OVERHEAD = 500
"""Bytes of an entry without images."""


class KeptImages:
    """Finds images by what is in them. One per process; thread-safe.

    Args:
        max_bytes: how much is kept. What was not asked for the longest is forgotten first.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Asked, tuple[Moment, NDArray[np.int64]]] = OrderedDict()
        self._lock = Lock()

    def matching(self, session: Session, asked: Asked) -> NDArray[np.int64]:
        """Return the ids, ascending, of the images that are asked for. They must not be changed."""
        with self._lock:
            kept = self._kept.get(asked)
        found = None if kept is None else _advanced(session, asked, kept)
        if found is None:
            found = asked.images(session)
            found[1].flags.writeable = False
        if found[0].is_public:
            self._keep(asked, found)
        return found[1]

    def _keep(self, key: Asked, found: tuple[Moment, NDArray[np.int64]]) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes -= 0 if before is None else before[1].nbytes + _OVERHEAD
            if found[1].nbytes + _OVERHEAD > self._max_bytes:
                return
            self._kept[key] = found
            self._bytes += found[1].nbytes + _OVERHEAD
            while self._bytes > self._max_bytes:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes + _OVERHEAD


def _advanced(
    session: Session, asked: Asked, kept: tuple[Moment, NDArray[np.int64]]
) -> tuple[Moment, NDArray[np.int64]] | None:
    """Return what was kept as it is now; None if that has to be found again."""
    moment, ids = kept
    changes = asked.changes(session, moment)
    if changes is None:
        return None
    if len(changes.changed):
        places = np.searchsorted(ids, changes.changed)
        places = places[np.append(ids, -1)[places] == changes.changed]
        ids = np.delete(ids, places)
        ids = np.insert(ids, np.searchsorted(ids, changes.matching), changes.matching)
        ids.flags.writeable = False
    return changes.now, ids

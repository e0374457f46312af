"""The stores of the archives that a worker reads.

They are kept open: opening sessions and connections costs more than a shard.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from storage.objects.pages import PageStore
from storage.objects.source import open_store, parse_source
from workers.pipeline.fitness import of_archive

if TYPE_CHECKING:
    from storage.objects.base import ObjectStore, S3Options
    from workers.pipeline.fitness import Fitness

STORE_SECONDS = 600.0
"""Age at which a store is opened again. This picks up new credentials if the current ones do not renew themselves."""
MOST_STORES = 16


class Stores:
    """Stores by the URI of their archive. For one thread.

    Args:
        s3: how to reach buckets.
        fitness: of the worker; a store that it could not read is opened again.
    """

    def __init__(self, s3: S3Options, fitness: Fitness) -> None:
        self._s3 = s3
        self._fitness = fitness
        self._opened: dict[str, tuple[float, ObjectStore]] = {}

    def open(self, archive_uri: str) -> ObjectStore:
        """Return the store of an archive, opened now or before."""
        opened_at, store = self._opened.get(archive_uri, (0.0, None))
        is_old = time.monotonic() - opened_at > STORE_SECONDS
        if store is None or is_old or self._fitness.doubts(of_archive(archive_uri)):
            store = PageStore(open_store(parse_source(archive_uri), self._s3))
            self._opened = {**dict(list(self._opened.items())[-MOST_STORES:]), archive_uri: (time.monotonic(), store)}
        return store

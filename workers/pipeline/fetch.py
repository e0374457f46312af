"""Fetch: read an object's bytes, within a memory budget and with a few retries."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from storage.errors import TransientError
from storage.index.feature_compaction import forget_lost
from storage.index.manifest import DamagedError
from storage.objects.base import ObjectChangedError
from storage.objects.pages import page_version, place_of
from storage.results.packing import CODE, unpack_vectors
from workers.messages import teaches_from
from workers.pipeline.retry import EmptyFileError, FeaturesMissingError, backoff_seconds

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.index.feature_files import FeatureFiles
    from storage.objects.base import Fetched, ObjectStore
    from workers.pipeline.paged_files import PagedFiles
    from workers.pipeline.work import Work

TRIES = 3


def fetch(work: Work, max_bytes: int, files: PagedFiles) -> None:
    """Fill in ``work.body``, of a page of a file from ``files``.

    Raises the errors of the store and ``EmptyFileError``.
    """
    store = work.lease.store
    assert store is not None
    if (place := place_of(work.image.key, work.version)) is not None:
        work.file = files.take(
            store, place, work.image.size_bytes, lambda key, version: _with_tries(store, key, version, max_bytes)
        )
        work.body, work.version = work.file.body, page_version(work.file.version, place.number)
        work.sha256 = work.file.sha256_of(place.number)
        return
    fetched = _with_tries(store, work.image.key, work.version, max_bytes)
    if not len(fetched.body):
        raise EmptyFileError("the object has no bytes")
    work.body, work.version = fetched.body, fetched.version
    work.sha256 = hashlib.sha256(fetched.body).digest()


def load_features(work: Work, retags_from: str, files: FeatureFiles, engine: Engine) -> None:
    """Fill in ``work.feature`` from the stored features of the image. No object is read. Lost files are forgotten.

    Raises:
        FeaturesMissingError: there are no stored features, or they are damaged.
        ServiceUnavailableError: the storage of the feature files does not answer.
    """
    kept = work.kept
    if kept is None:
        raise FeaturesMissingError("the record was deleted: recognise the image again")
    work.version, work.width, work.height = kept.version, kept.width, kept.height
    again = f"recognise the image again with RAMQ_FEATURES={teaches_from(work.lease.shard.model)}"
    work.sha256 = kept.sha256
    if retags_from == "vector":
        work.feature = unpack_vectors(kept.vector, len(kept.vector) // CODE.itemsize)[0]
        return
    if kept.file is None or kept.position is None:
        raise FeaturesMissingError(f"its features are not stored: {again}")
    try:
        work.feature = files.row(kept.file, kept.position)
    except DamagedError as error:
        forget_lost(engine, files, [kept.file])
        raise FeaturesMissingError(f"{error}: {again}") from error


def _with_tries(store: ObjectStore, key: str, version: str, max_bytes: int) -> Fetched:
    for attempt in range(TRIES - 1):
        try:
            return store.fetch(key, version, max_bytes)
        except TransientError:
            time.sleep(backoff_seconds(attempt, first=0.2, most=2.0))
        except ObjectChangedError:
            version = ""  # whatever is there now
    return store.fetch(key, version, max_bytes)

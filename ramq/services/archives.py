"""Archives: list, rename and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ramq.services.author import LOCAL
from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from storage.ledger import quotas, watches
from storage.objects.base import CHANGED_VERSION
from storage.objects.source import open_store, parse_source, require_allowed
from storage.remembered import read_only, remembered
from storage.results import archives, generations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.erasures import ErasureClient
    from ramq.settings import Settings
    from storage.index.index import VectorIndex
    from storage.objects.base import ObjectStore
    from storage.objects.source import Source
    from storage.results.erasure_views import DeletionReport
    from storage.results.views import ArchiveView

SAMPLES = 20
"""The number of keys to look for at a new address before an archive is renamed."""


class ArchiveName(NamedTuple):
    """The id and the URI of an archive."""

    id: int
    uri: str


class ArchiveClient:
    """Archives. Thread-safe.

    Args:
        engine: the database.
        settings: the options of the stores, and the archives that may be read.
        index: returns this process's reader of the index.
        erasures: returns the client that erases images. Called when an archive is removed.
        is_reachable: whether other machines can reach this process.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        index: Callable[[], VectorIndex],
        erasures: Callable[[], ErasureClient],
        is_reachable: bool,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._index = index
        self._erasures = erasures
        self._is_reachable = is_reachable

    def list(self) -> list[ArchiveView]:
        """Return every archive with its counts, oldest first."""
        with unit_of_work(self._engine) as session:
            serving = generations.default(session)
            recorded = {} if serving is None else self._index().archive_counts(session, serving.id)
            return archives.views(session, recorded)

    def names(self) -> Sequence[ArchiveName]:
        """Return the id and URI of every archive, oldest first, without counts."""
        with read_only(self._engine) as session:
            return remembered(session, "names of archives", lambda: _names(session))

    def get(self, archive: str) -> ArchiveView:
        """Return the archive with this id or URI.

        Raises:
            NotFoundError: there is no such archive.
            UsageError: ``archive`` names only a part of an archive.
        """
        with unit_of_work(self._engine) as session:
            archive_id = archives.whole(session, archive)
        return self._view(archive_id)

    def rename(self, archive: str, to: str, *, force: bool = False) -> ArchiveView:
        """Give an archive its new address after its bucket was copied or its folder was moved.

        All results stay. The next job finds changes.

        Args:
            archive: its id or URI.
            to: its new address. The keys there must be the same.
            force: rename it even if none of its images is found there.

        Raises:
            NotFoundError: there is no such archive, or nothing at the new address.
            ConflictError: the archive has an open job, another archive has this address, or none of its images is
                there.
            ForbiddenError: reading the new address is not allowed.
            UsageError: ``archive`` names only a part of an archive, or the keys would change.
        """
        place = parse_source(to)
        with unit_of_work(self._engine) as session:
            archive_id = archives.whole(session, archive)
            keys = archives.some_keys(session, archive_id, SAMPLES)
        before = self._view(archive_id)
        _require_same_keys(parse_source(before.uri), place)
        require_allowed(place, self._settings.archive_allow, reachable=self._is_reachable)
        store = open_store(place, self._settings.s3)
        store.check()
        if keys and not force and not any(_is_there(store, key, version) for key, version in keys.items()):
            raise ConflictError(
                f"none of the {len(keys)} checked images of {before.uri} is at {place.uri}; "
                "check the address, or force it (`--force`) if the images will be copied there later"
            )
        with unit_of_work(self._engine) as session:
            archives.rename(session, archive_id, place.uri)
            quotas.rename_archive(session, before.uri, place.uri)
        return self._view(archive_id)

    def remove(self, archive: str, *, by: str = LOCAL, keeps_keys: bool = False) -> DeletionReport:
        """Erase everything about an archive: its images and their results, its jobs and rules, and the archive itself.

        The originals are never touched. Repeat the call to resume it after an interruption.

        Args:
            archive: its id or URI.
            by: the author of the deletion.
            keeps_keys: keep the keys, so that the report of the deletion can list them.

        Raises:
            NotFoundError: there is no such archive.
            ConflictError: the archive has an open job.
            UsageError: ``archive`` names only a part of an archive.
        """
        with unit_of_work(self._engine) as session:
            archive_id = archives.whole(session, archive)
            archives.require_no_open_job(session, archive_id)
            watches.remove_all_of(session, archive_id)  # they would begin jobs meanwhile
        report = self._erasures().delete_archive(archive_id, by=by, keeps_keys=keeps_keys)
        with unit_of_work(self._engine) as session:
            archives.remove(session, archive_id)
        return report

    def _view(self, archive_id: int) -> ArchiveView:
        return next(view for view in self.list() if view.id == archive_id)


def _is_there(store: ObjectStore, key: str, version: str) -> bool:
    now = store.stat(key, version).version
    return now == CHANGED_VERSION or not now.startswith("!")


def _names(session: Session) -> Sequence[ArchiveName]:
    return [ArchiveName(view.id, view.uri) for view in archives.views(session, {})]


def _require_same_keys(old: Source, new: Source) -> None:
    """Refuse an address that would change every key. The keys of a bucket start with the prefix of the archive."""
    if old.kind != new.kind or old.scheme != new.scheme:
        raise UsageError(
            f"cannot rename {old.uri} to {new.uri}, which is of another kind; enqueue the new one, remove the old one"
        )
    if old.prefix == new.prefix:
        return
    raise UsageError(
        f"cannot rename {old.uri} to {new.uri}: its keys would start with {new.prefix!r} instead of {old.prefix!r}; "
        "enqueue the new one and remove the old one"
    )

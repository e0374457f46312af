"""Archives: which there are, one that moved to another address, one that is removed with all that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ramq.services.corrections import LOCAL
from storage.database import unit_of_work
from storage.errors import ConflictError, UsageError
from storage.objects.source import open_store, parse_source, require_allowed
from storage.results import archives, generations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from ramq.services.erasures import ErasureClient
    from ramq.settings import Settings
    from storage.index.index import VectorIndex
    from storage.objects.source import Source
    from storage.results.erasure_views import DeletionReport
    from storage.results.views import ArchiveView

SAMPLES = 20
"""Keys that are looked for at a new address before an archive is moved to it."""


class ArchiveName(NamedTuple):
    """What an archive is called."""

    id: int
    uri: str


class ArchiveClient:
    """Archives: which there are, and those that people rename and remove. Thread-safe.

    Args:
        engine: the database.
        settings: how stores are reached, and which archives may be read.
        index: gives this process's reader of the index.
        erasures: gives what erases images; called when one is removed.
        is_reachable: whether other machines can reach whoever uses this.
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
        """Return what every archive is called, oldest first, without counting what is recorded of each."""
        with unit_of_work(self._engine) as session:
            return [ArchiveName(view.id, view.uri) for view in archives.views(session, {})]

    def get(self, archive: str) -> ArchiveView:
        """Return the archive that an id or a URI means.

        Raises:
            NotFoundError: there is none.
            UsageError: a part of one is meant.
        """
        with unit_of_work(self._engine) as session:
            archive_id = archives.whole(session, archive)
        return self._view(archive_id)

    def rename(self, archive: str, to: str, *, force: bool = False) -> ArchiveView:
        """Say that an archive is at another address now: a bucket that was copied, a folder that was moved.

        Everything recorded stays. The next job finds what changed.

        Args:
            archive: its id or URI.
            to: where it is now; the keys in it must be the same.
            force: although none of some keys that were looked for is there.

        Raises:
            NotFoundError: there is no such archive, or nothing at the new address.
            ConflictError: a job on it is open; another archive has this address; none of its keys is there.
            ForbiddenError: the new address may not be read.
            UsageError: a part of an archive is meant, or the keys would not be the same.
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
        if keys and not force and all(store.stat(key).version.startswith("!") for key in keys):
            raise ConflictError(
                f"none of {len(keys)} images of {before.uri} that were looked for is at {place.uri}: is it the right "
                "place? Force it if the images are to come"
            )
        with unit_of_work(self._engine) as session:
            archives.rename(session, archive_id, place.uri)
        return self._view(archive_id)

    def remove(self, archive: str, *, by: str = LOCAL, keeps_keys: bool = False) -> DeletionReport:
        """Erase all that is known of an archive: its images with their results, its jobs and rules, and itself.

        The originals are never touched. Cut off in the middle, the same call goes on where it was.

        Args:
            archive: its id or URI.
            by: who wants it.
            keeps_keys: the report of the deletion tells the keys, which are then kept with it.

        Raises:
            NotFoundError: there is no such archive.
            ConflictError: a job on it is open.
            UsageError: a part of an archive is meant.
        """
        with unit_of_work(self._engine) as session:
            archive_id = archives.whole(session, archive)
            archives.require_no_open_job(session, archive_id)
        report = self._erasures().delete_below("", str(archive_id), by=by, keeps_keys=keeps_keys)
        with unit_of_work(self._engine) as session:
            archives.remove(session, archive_id)
        return report

    def _view(self, archive_id: int) -> ArchiveView:
        return next(view for view in self.list() if view.id == archive_id)


def _require_same_keys(old: Source, new: Source) -> None:
    """Refuse an address at which every key would be another: keys of a bucket begin with the archive's prefix."""
    if (old.scheme, old.prefix) == (new.scheme, new.prefix):
        return
    if old.scheme != new.scheme:
        raise UsageError(f"{old.uri} and {new.uri} are of different kinds: enqueue the new one, and remove the old one")
    raise UsageError(
        f"the keys of {new.uri} begin with {new.prefix!r}, those of {old.uri} with {old.prefix!r}: "
        "enqueue the new one, and remove the old one"
    )

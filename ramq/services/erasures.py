"""Deletions of images, and their verification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from ramq.services.erasing import Erasing, hash_of
from storage.database import unit_of_work
from storage.errors import DatabaseAwayError, NotFoundError, RamqError, UsageError
from storage.index import erasure_log
from storage.ledger import ignored
from storage.results import archives, erased_names, erasures, file_pages, lookup
from storage.results.erasure_views import ErasureReport, Trace
from storage.results.index_rows import indexed
from storage.tables import Deletion
from storage.texts import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.thumbnails import Thumbnails
    from storage.index.erasure_log import LoggedDeletion
    from storage.index.file_storage import FileStorage
    from storage.index.index import VectorIndex
    from storage.results.erasure_views import DeletionReport, DeletionView, Withdrawal


@dataclass(frozen=True, slots=True)
class Doomed:
    """What a deletion of named images would erase.

    Attributes:
        ids: the images that are named.
        images: how many images there are that are no files with pages.
        files: how many files with further pages.
        pages: how many pages these have as images, with their first ones.
    """

    ids: list[int]
    images: int
    files: int
    pages: int


class ErasureClient:
    """Deletions. Thread-safe. A large deletion takes many transactions. Repeat the call to resume it if interrupted.

    Args:
        engine: the database.
        index: returns this process's reader of the index.
        thumbnails: the thumbnails of this machine.
        place: the storage of the log of deletions.
        in_shadow: looks for images, by their ids, in the shadow of the index; there may be none.
    """

    def __init__(
        self,
        engine: Engine,
        index: Callable[[], VectorIndex],
        thumbnails: Thumbnails,
        place: FileStorage,
        in_shadow: Callable[[NDArray[np.int64]], list[Trace]],
    ) -> None:
        self._engine = engine
        self._index = index
        self._thumbnails = thumbnails
        self._place = place
        self._erasing = Erasing(engine, thumbnails, place)
        self._in_shadow = in_shadow

    def delete(
        self, images: Sequence[int | str], archive: str | None = None, *, by: str = LOCAL, keeps_keys: bool = False
    ) -> DeletionReport:
        """Erase images and everything derived from them. The originals are never touched.

        With the image of a file, which is its first page, go all of its pages.

        Args:
            images: ids, keys or URIs.
            archive: the archive of the keys. None: any.
            by: the author of the deletion.
            keeps_keys: keep the keys, so that the report can list them.

        Raises:
            NotFoundError: an image does not exist.
            UsageError: several images have this name.
        """

        def planned(session: Session) -> tuple[Deletion, Sequence[int]]:
            archive_id = archives.resolve(session, archive)[0] if archive is not None else None
            ids = [lookup.resolve(session, str(image), archive_id) for image in images]
            return Deletion(kind="images", archive_id=archive_id, said_by=by), file_pages.with_pages(session, ids)

        request = ["images", archive, sorted(map(str, images))]
        return self._erasing.carry_out(request, planned, keeps_keys=keeps_keys)

    def count(self, images: Sequence[int | str], archive: str | None = None) -> Doomed:
        """Return what ``delete`` would erase. Raises the same errors."""
        with unit_of_work(self._engine) as session:
            archive_id = archives.resolve(session, archive)[0] if archive is not None else None
            ids = {lookup.resolve(session, str(image), archive_id) for image in images}
            files = file_pages.of_files(session, sorted(ids))
            of_files = {*files, *(page for pages in files.values() for page in pages)}
            return Doomed(sorted(ids), len(ids - of_files), len(files), len(of_files))

    def delete_below(
        self, prefix: str, archive: str | None = None, *, by: str = LOCAL, keeps_keys: bool = False
    ) -> DeletionReport:
        """Erase every image whose key starts with ``prefix``, in one archive or, with None, in all. See ``delete``.

        The names of keys that jobs left out there are forgotten too.

        Raises:
            NotFoundError: there is no such archive, or no image there.
            UsageError: the archive is blank, or neither an archive nor a prefix is given; or the prefix may mean
                several, which differ in their Unicode form.
        """
        if archive is None and not prefix:
            raise UsageError("this would erase all images of all archives; give an archive or a prefix")

        def planned(session: Session) -> tuple[Deletion, Sequence[int]]:
            archive_id, below = archives.resolve(session, archive) if archive is not None else (None, "")
            ids = lookup.require_below(session, archive_id, below, prefix)
            return Deletion(kind="prefix" if prefix else "archive", archive_id=archive_id, said_by=by), ids

        def forget_left_out(session: Session) -> None:
            archive_id, below = archives.resolve(session, archive) if archive is not None else (None, "")
            ignored.forget_below(session, archive_id, below, prefix)

        request = ["prefix", archive, prefix]
        return self._erasing.carry_out(request, planned, keeps_keys=keeps_keys, once_logged=forget_left_out)

    def delete_archive(self, archive_id: int, *, by: str = LOCAL, keeps_keys: bool = False) -> DeletionReport:
        """Erase every image of an archive; there may be none. See ``delete``."""

        def planned(session: Session) -> tuple[Deletion, Sequence[int]]:
            ids = lookup.ids_below(session, archive_id)
            return Deletion(kind="archive", archive_id=archive_id, said_by=by), ids

        return self._erasing.carry_out(["prefix", str(archive_id), ""], planned, keeps_keys=keeps_keys)

    def count_below(self, prefix: str, archive: str | None = None) -> int:
        """Return the number of images that ``delete_below`` would erase. Raises the same errors."""
        with unit_of_work(self._engine) as session:
            archive_id, below = archives.resolve(session, archive) if archive is not None else (None, "")
            is_resumed = erasures.unfinished(session, hash_of(["prefix", archive, prefix])) is not None
            listed = lookup.ids_below if is_resumed else lookup.require_below
            return len(listed(session, archive_id, below, prefix))

    def resume(self, deletion_id: int) -> DeletionReport:
        """Erase what an unfinished deletion has left: see ``Erasing.resume``."""
        return self._erasing.resume(deletion_id)

    def withdraw(self, deletion_id: int) -> Withdrawal:
        """End an unfinished deletion, whose other images stay: see ``Erasing.withdraw``."""
        return self._erasing.withdraw(deletion_id)

    def unknown(self) -> tuple[list[LoggedDeletion], list[str]]:
        """Return the deletions of the log that this database does not have, and the files of the log that are damaged.

        There are some if the database was restored from a backup that is older than they are.
        """
        with unit_of_work(self._engine) as session:
            return erasure_log.unknown(session, self._place)

    def delete_again(
        self,
        deletions: Sequence[LoggedDeletion],
        *,
        renamed: bool = False,
        by: str = LOCAL,
    ) -> DeletionReport | None:
        """Erase the images of deletions of the log that exist again. See ``delete``.

        The log has them already, so this is not logged.

        Args:
            deletions: of ``unknown``.
            renamed: also erase images that have another name than the one that was deleted.
            by: the author of the deletion.

        Returns:
            None if there is no such image.
        """
        ids = {image_id for each in deletions for image_id in (*each.same, *(each.renamed if renamed else ()))}
        request = ["again", sorted(each.file for each in deletions), renamed]
        with unit_of_work(self._engine) as session:
            is_resumed = erasures.unfinished(session, hash_of(request)) is not None
        if not ids and not is_resumed:
            return None

        def planned(session: Session) -> tuple[Deletion, Sequence[int]]:
            return Deletion(kind="images", said_by=by), erased_names.existing(session, sorted(ids))

        return self._erasing.carry_out(request, planned, keeps_keys=False, is_logged=False)

    def strike(self, deletions: Sequence[LoggedDeletion]) -> None:
        """Take deletions out of the log, because they were wrong: their images stay."""
        erasure_log.strike(self._place, deletions)

    def verify(
        self, deletion_id: int, *, tells_images: bool = False, away: dict[str, str] | None = None
    ) -> ErasureReport:
        """Look for traces of a deletion's images in the database and the files of the index, and report them.

        A place that cannot be asked, such as a shadow that does not answer, is told in the report.

        Args:
            deletion_id: the deletion.
            tells_images: list the ids, and the keys if they were kept.
            away: why places could not be asked for other deletions just now. They are not asked again, since each may
                take its time not to answer; those that do not answer now are added.

        Raises:
            NotFoundError: there is no such deletion.
        """
        from storage.index.erasure_check import AGAIN, in_files, in_tables  # noqa: PLC0415  (faiss; only this needs it)

        with unit_of_work(self._engine) as session:
            found = erasures.views(session, deletion_id)
            if not found:
                raise NotFoundError(f"there is no deletion {deletion_id}")
            ids = erasures.ids(session, deletion_id)
            places = in_tables(session, deletion_id)
            sources = indexed(session, with_dropped=True)
            feature_files = erasures.feature_files(session, deletion_id)
            keys = erasures.keys(session, deletion_id) if tells_images else None
        # After the transaction, because reading files may take longer than a transaction may be idle.
        for place, look in (
            ("searches", lambda: self._in_searches(ids)),
            ("files of the index and of features", lambda: in_files(self._index().store, ids, feature_files, sources)),
            ("the shadow of the index", lambda: self._in_shadow(ids)),
        ):
            places += _asked(place, look, deletion_id, {} if away is None else away)
        thumbnails = sum(self._thumbnails.count(image_id) for image_id in ids.tolist())
        places.append(Trace("thumbnails of this machine", thumbnails, AGAIN))
        if erasures.hash_of(ids) != found[0].sha256:
            places.append(Trace("the ids of this deletion, which were changed", len(ids), "restore the database"))
        return ErasureReport(
            deletion=found[0],
            verified_at=datetime.now(UTC),
            is_clean=found[0].finished_at is not None and all(place.left == 0 for place in places),
            traces=places,
            ids=ids.tolist() if tells_images else None,
            keys=keys,
        )

    def _in_searches(self, ids: NDArray[np.int64]) -> list[Trace]:
        from storage.index.erasure_check import in_searches  # noqa: PLC0415  (faiss)

        with unit_of_work(self._engine) as session:
            return in_searches(session, self._index(), ids)

    def list(self, deletion_id: int | None = None) -> list[DeletionView]:
        """Return every deletion, or one of them, oldest first.

        Raises:
            NotFoundError: there is no such deletion.
        """
        with unit_of_work(self._engine) as session:
            found = erasures.views(session, deletion_id)
        if deletion_id is not None and not found:
            raise NotFoundError(f"there is no deletion {deletion_id}")
        return found


def _asked(place: str, look: Callable[[], list[Trace]], deletion_id: int, away: dict[str, str]) -> list[Trace]:
    """Return what ``look`` found, or a trace that says why the place could not be asked."""
    if place not in away:
        try:
            return look()
        except DatabaseAwayError:
            raise
        except RamqError as error:
            away[place] = without_secrets(str(error))
    again = f"when this is mended, ask again: `ramq erasures {deletion_id} --verify`"
    return [Trace(place, None, f"{away[place]}; {again}")]

"""How a deletion is carried out: planned, logged, erased in parts; or withdrawn."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from json import dumps
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, ServiceUnavailableError
from storage.index import erasure_log
from storage.ledger import ignored
from storage.results import erasures, withdrawals
from storage.results.erasure_views import DeletionReport
from storage.results.images import keys_by_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.thumbnails import Thumbnails
    from storage.index.file_storage import FileStorage
    from storage.results.erasure_views import DeletionView, Withdrawal
    from storage.tables import Deletion

_COUNTED = (
    "images",
    "records",
    "vectors",
    "failures",
    "corrections",
    "features",
    "readings",
    "localizations",
    "crops",
    "looks",
    "metadata",
    "keywords",
    "dataset_items",
    "dataset_labels",
    "dataset_reviews",
    "thumbnails",
)


class StoppedDeletionError(KeyboardInterrupt):
    """Ctrl-C during a deletion.

    Attributes:
        deletion_id: what to go on with; None if nothing was erased, and the deletion is withdrawn.
        erased: the number of images that are erased.
        images: the number of images of the deletion.
    """

    def __init__(self, deletion_id: int | None, erased: int, images: int) -> None:
        super().__init__()
        self.deletion_id = deletion_id
        self.erased = erased
        self.images = images


class Erasing:
    """Carries out deletions. Thread-safe.

    Args:
        engine: the database.
        thumbnails: the thumbnails of this machine.
        place: the storage of the log of deletions.
    """

    def __init__(self, engine: Engine, thumbnails: Thumbnails, place: FileStorage) -> None:
        self._engine = engine
        self._thumbnails = thumbnails
        self._place = place

    def carry_out(
        self,
        request: Sequence[object],
        planned: Callable[[Session], tuple[Deletion, Sequence[int]]],
        *,
        keeps_keys: bool,
        is_logged: bool = True,
        once_logged: Callable[[Session], None] | None = None,
    ) -> DeletionReport:
        """Plan a deletion, unless the same request began one, and erase its images.

        Args:
            request: what was asked for, as JSON has it. It tells whether a request is the same.
            planned: returns the deletion and the ids of its images.
            keeps_keys: keep the keys, so that the report can list them.
            is_logged: whether the log must have it.
            once_logged: erases what is no image, when the log has the deletion.

        Raises:
            ServiceUnavailableError: it cannot be logged. Nothing was erased, and nothing stays planned.
            StoppedDeletionError: Ctrl-C.
        """
        asked = hash_of(request)
        try:
            with unit_of_work(self._engine) as session:
                deletion_id = erasures.unfinished(session, asked)
                is_new = deletion_id is None
                if deletion_id is None:
                    deletion, ids = planned(session)
                    deletion.request_sha256 = asked
                    deletion_id = erasures.plan(session, deletion, ids, keeps_keys=keeps_keys)
        except KeyboardInterrupt as stop:
            raise StoppedDeletionError(None, 0, 0) from stop
        try:
            if is_logged:
                self._log(deletion_id, is_new=is_new)
            if once_logged is not None:
                with unit_of_work(self._engine) as session:
                    once_logged(session)
            return self._erase(deletion_id)
        except KeyboardInterrupt as stop:
            raise self._stopped(deletion_id) from stop

    def resume(self, deletion_id: int) -> DeletionReport:
        """Erase what an unfinished deletion has left.

        Raises:
            NotFoundError: there is no such deletion.
            ConflictError: it is finished.
            ServiceUnavailableError: it cannot be logged.
            StoppedDeletionError: Ctrl-C.
        """
        self._unfinished(deletion_id)
        try:
            self._log(deletion_id, is_new=False)
            return self._erase(deletion_id)
        except KeyboardInterrupt as stop:
            raise self._stopped(deletion_id) from stop

    def withdraw(self, deletion_id: int, *, only_whole: bool = False) -> Withdrawal:
        """End an unfinished deletion: images that are not erased stay, and the log does not name them any more.

        Args:
            deletion_id: the deletion.
            only_whole: only if it has erased nothing.

        Raises:
            NotFoundError: there is no such deletion.
            ConflictError: it is finished; or with ``only_whole``, it has erased images.
            ServiceUnavailableError: the log does not answer. Nothing changed.
        """
        self._unfinished(deletion_id)
        with unit_of_work(self._engine) as session:
            withdrawal = withdrawals.withdraw(session, deletion_id, only_whole=only_whole)
            erasure_log.withdraw(self._place, withdrawal)
        if withdrawal.erased_ids:
            self._erase(deletion_id)  # what it has begun with
        return withdrawal

    def _unfinished(self, deletion_id: int) -> DeletionView:
        with unit_of_work(self._engine) as session:
            found = erasures.views(session, deletion_id)
        if not found:
            raise NotFoundError(f"there is no deletion {deletion_id}; `ramq erasures` lists them")
        if found[0].finished_at is not None:
            raise ConflictError(f"deletion {deletion_id} is finished: its images are erased")
        return found[0]

    def _log(self, deletion_id: int, *, is_new: bool) -> None:
        with unit_of_work(self._engine) as session:
            for deletion in erasures.views(session, deletion_id):
                try:
                    erasure_log.write(session, self._place, deletion)
                except ServiceUnavailableError as error:
                    refusal = error
                    break
            else:
                return
        said = f"because the deletion cannot be logged: {refusal}. Let this process write to the folder "
        said += f"`{erasure_log.FOLDER}` in RAMQ_INDEX_URL, then "
        if not is_new:
            go_on = f"go on with `ramq erasures {deletion_id} --resume`"
            raise ServiceUnavailableError(f"nothing more was erased, {said}{go_on}") from refusal
        self._withdraw_refused(deletion_id)
        raise ServiceUnavailableError(f"nothing was erased, {said}ask again") from refusal

    def _withdraw_refused(self, deletion_id: int) -> None:
        """Forget a deletion that the log refused just now, so that it does not stay planned."""
        # Another process that was asked for the same may have logged it meanwhile, and erase it: then it stays.
        with suppress(ConflictError), unit_of_work(self._engine) as session:
            withdrawal = withdrawals.withdraw(session, deletion_id, only_whole=True)
            # The log can have it, if only the answer was lost. If it does not answer now either, `ramq doctor` tells of
            # such a file, and `ramq delete --again --except` removes it.
            with suppress(ServiceUnavailableError):
                erasure_log.withdraw(self._place, withdrawal)

    def _erase(self, deletion_id: int) -> DeletionReport:
        while self._erase_next(deletion_id):
            pass
        with unit_of_work(self._engine) as session:
            erasures.finish(session, deletion_id)
            found = erasures.views(session, deletion_id)
        if not found:
            raise ConflictError(f"deletion {deletion_id} was withdrawn meanwhile: nothing was erased")
        return DeletionReport(deletion_id, **{name: found[0].erased.get(name, 0) for name in _COUNTED})

    def _erase_next(self, deletion_id: int) -> bool:
        """Erase the next part of a deletion. Return False if there was none left."""
        with unit_of_work(self._engine) as session:
            part = erasures.next_part(session, deletion_id)
            if part is None:
                return False
            # A key may have been recognised before another job left it out.
            for archive_id, names in keys_by_archive(session, part.image_ids).items():
                ignored.forget(session, archive_id, names)
            counts = asdict(erasures.erase(session, part.image_ids))
            erasures.note(session, deletion_id, counts, counts.pop("feature_files"))
        # After the commit, because a user could create a thumbnail again as long as the image existed.
        thumbnails = sum(self._thumbnails.forget(image_id) for image_id in part.image_ids)
        with unit_of_work(self._engine) as session:
            erasures.note(session, deletion_id, {"thumbnails": thumbnails})
            erasures.close_part(session, part)
        return True

    def _stopped(self, deletion_id: int) -> StoppedDeletionError:
        """Return what was erased until Ctrl-C. Withdraw the deletion if that is nothing."""
        with unit_of_work(self._engine) as session:
            [view] = erasures.views(session, deletion_id)
        if not view.erased:
            try:
                self.withdraw(deletion_id, only_whole=True)
            except (ConflictError, ServiceUnavailableError):
                # Another process erases it, or the log is away: it stays planned, and the caller says how to go on.
                return StoppedDeletionError(deletion_id, 0, view.images)
            return StoppedDeletionError(None, 0, view.images)
        return StoppedDeletionError(deletion_id, view.erased.get("images", 0), view.images)


def hash_of(request: Sequence[object]) -> str:
    """Return what tells whether two requests are the same."""
    return sha256(dumps(request).encode()).hexdigest()

"""Where it is kept which manifest, or collection, of each generation is published.

That of the index is a row in PostgreSQL: ``storage.results.vectors`` has these functions. That of a *shadow*, a second
index that is only compared with the first, is a file beside it. So nothing that happens to a shadow changes a row of
the index, and losing the file means that the shadow is filled again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import func, select

from storage.errors import RamqError
from storage.index.manifest import DamagedError
from storage.results import vectors as repository
from storage.results.vectors import FORGOTTEN, Pointer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.index.file_storage import FileStorage
    from storage.results.vectors import Head

SHADOW_LOCK = repository.BUILDER_LOCK + 1
"""As ``BUILDER_LOCK``, of shadows: the builder of one never waits for that of the other."""


class ShadowUnreadyError(RamqError):
    """A shadow has nothing yet with which a search could be compared. Only comparisons meet it."""


class Pointers(Protocol):
    """See the functions of the same names in ``storage.results.vectors``, which is one of these."""

    def head(self, session: Session, generation_id: int) -> Head:
        """Return the session's snapshot and what is published."""

    def head_now(self, session: Session, generation_id: int) -> Head:
        """Return the same as it is now."""

    def published_seconds_ago(self, session: Session, generation_id: int) -> float | None:
        """Return the age of what is published; None if nothing is."""

    def lock_builder(self, session: Session, generation_id: int, *, wait: bool) -> bool:
        """Make this session's transaction the only builder."""

    def begin_epoch(self, session: Session, generation_id: int) -> int:
        """Return a new epoch."""

    def epoch(self, session: Session, generation_id: int) -> int:
        """Return the current epoch."""

    def publish(self, session: Session, generation_id: int, *, epoch: int, manifest: int, watermark: int) -> bool:
        """Make a manifest the published one. Return False if a later epoch has begun."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the file of a generation says.

    Attributes:
        system_identifier: of the database whose transactions the watermark counts.
        epoch: number of builds of the shadow.
        index_epoch: ``Head.epoch`` of the index at the last publication, which tells that its rows were erased at once.
    """

    system_identifier: str
    epoch: int = 0
    index_epoch: int = 0
    manifest: int = 0
    watermark: int = 0
    published_at: str | None = None


class ShadowPointers:
    """What is published of a shadow. Thread-safe.

    The lock that admits one builder is PostgreSQL's. A builder that lost it notices that at its connection. If the file
    should still name an older publication for a moment, that one is as right: it only has fewer rows.

    Args:
        place: storage of the shadow's files.
        for_searches: raise ``ShadowUnreadyError`` where searches would find everything in PostgreSQL, and nothing to
            compare.
    """

    def __init__(self, place: FileStorage, *, for_searches: bool = False) -> None:
        self._place = place
        self._for_searches = for_searches

    def head(self, session: Session, generation_id: int) -> Head:
        """See ``Pointers``."""
        return self._of_shadow(session, generation_id, repository.head(session, generation_id))

    def head_now(self, session: Session, generation_id: int) -> Head:
        """See ``Pointers``."""
        return self._of_shadow(session, generation_id, repository.head_now(session, generation_id))

    def published_seconds_ago(self, session: Session, generation_id: int) -> float | None:
        """See ``Pointers``."""
        published_at = self.head_now(session, generation_id).pointer.published_at
        return None if published_at is None else (_now(session) - published_at).total_seconds()

    def lock_builder(self, session: Session, generation_id: int, *, wait: bool) -> bool:
        """See ``Pointers``."""
        return repository.lock_builder(session, generation_id, wait=wait, lock=SHADOW_LOCK)

    def begin_epoch(self, session: Session, generation_id: int) -> int:
        """See ``Pointers``."""
        state = self._read(session, generation_id)
        self._write(generation_id, replace(state, epoch=state.epoch + 1))
        return state.epoch + 1

    def epoch(self, session: Session, generation_id: int) -> int:
        """See ``Pointers``. It also asks PostgreSQL, which keeps the transaction with the lock alive."""
        return self._read(session, generation_id).epoch

    def publish(self, session: Session, generation_id: int, *, epoch: int, manifest: int, watermark: int) -> bool:
        """See ``Pointers``."""
        state = self._read(session, generation_id)
        if state.epoch != epoch:
            return False
        index_epoch = repository.epoch(session, generation_id)
        at = _now(session).isoformat()
        state = replace(state, index_epoch=index_epoch, manifest=manifest, watermark=watermark, published_at=at)
        self._write(generation_id, state)
        return True

    def forget(self, generation_id: int) -> None:
        """Forget what is published."""
        self._place.delete(_name(generation_id))

    def _of_shadow(self, session: Session, generation_id: int, head: Head) -> Head:
        state = self._read(session, generation_id)
        pointer = Pointer(0, 0, None)
        if state.published_at is not None and head.epoch - state.index_epoch < FORGOTTEN:
            pointer = Pointer(state.manifest, state.watermark, datetime.fromisoformat(state.published_at))
        if self._for_searches and not 0 < pointer.watermark <= head.xmin:
            # A standby may not have all rows yet that the shadow has.
            raise ShadowUnreadyError(f"the shadow of generation {generation_id} is not filled yet")
        return replace(head, pointer=pointer)

    def _read(self, session: Session, generation_id: int) -> _State:
        identifier = repository.system_identifier(session)
        try:
            state = _State(**json.loads(self._place.read(_name(generation_id))))
        except (DamagedError, ValueError, TypeError):
            return _State(identifier)
        # Transactions of another database have other numbers.
        return state if state.system_identifier == identifier else _State(identifier, state.epoch)

    def _write(self, generation_id: int, state: _State) -> None:
        about = {name: getattr(state, name) for name in _State.__slots__}
        self._place.put(_name(generation_id), json.dumps(about).encode())


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now


def _name(generation_id: int) -> str:
    return f"published/generation-{generation_id}.json"

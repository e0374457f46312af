"""What a worker cannot do now for a reason of its own: no such device, no weights, a full disk, no credentials.

That is never a job's fault. The work is given back as if it had not been taken, others may do it, and this worker
takes no more of the kind until a pause is over; then it tries once again. Heartbeats carry the reasons, so that
`ramq workers` and `ramq doctor` tell them and a job that no worker can do says what it waits for.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from storage.errors import RamqError
from storage.ledger.waiting import Barred
from storage.ledger.worker_views import Unfitness
from workers.pipeline.retry import Action, backoff_seconds, verdict

if TYPE_CHECKING:
    from workers.pipeline.work import Lease

log = structlog.get_logger()

Key = tuple[str, str]
"""What a worker may be unfit for: a kind, and the name of the one that is meant."""

EVERYTHING: Key = ("everything", "")
INDEX: Key = ("index", "")
"""It recognises, but cannot publish vectors."""

_OF_AN_ARCHIVE = "credentials"
_OF_EVERYTHING = {"device", "disk_full"}


class UnfitError(RamqError):
    """This worker cannot do the work at hand, and another may. The message says why, and what to do.

    ``key`` is what it cannot do.
    """

    code = "unfit"

    def __init__(self, key: Key, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def of_model(name: str) -> Key:
    """Return the key of a model or captioner."""
    return ("model", name)


def of_archive(uri: str) -> Key:
    """Return the key of an archive."""
    return ("archive", uri)


@dataclass(slots=True)
class _Entry:
    reason: str
    tries: int
    again_at: float


class Fitness:
    """What this worker cannot do now, why, and when it tries again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}

    def declare(self, unfit: UnfitError) -> None:
        """Note what this worker cannot do; the pause before it tries again doubles each time, up to a minute."""
        key, reason, now = unfit.key, str(unfit).strip().splitlines()[0], time.monotonic()
        with self._lock:
            known = self._entries.get(key)
            if known is not None and known.again_at > now:  # several threads meet the same trouble at once
                known.reason = reason
                return
            tries = known.tries + 1 if known else 0
            self._entries[key] = _Entry(reason, tries, now + backoff_seconds(tries))
        if known is None:
            log.error("this worker is unfit", kind=key[0], name=key[1], reason=reason)

    def prove(self, *keys: Key) -> None:
        """Forget what was declared of these: the worker just did what it could not do before."""
        with self._lock:
            well = [key for key in keys if self._entries.pop(key, None) is not None]
        for kind, name in well:
            log.info("this worker is fit again", kind=kind, name=name)

    def barred(self) -> Barred:
        """Return what is not to be claimed now. What is to be tried again is not among it."""
        now = time.monotonic()
        with self._lock:
            waiting = [key for key, entry in self._entries.items() if entry.again_at > now]
        return Barred(
            EVERYTHING in waiting,
            [name for kind, name in waiting if kind == "model"],
            [name for kind, name in waiting if kind == "archive"],
        )

    def doubts(self, key: Key) -> bool:
        """Tell whether this was declared and not proved wrong since."""
        with self._lock:
            return key in self._entries

    def reasons(self) -> list[Unfitness]:
        """Return what to tell people, whether it is to be tried again or not."""
        with self._lock:
            return [Unfitness(kind, name, entry.reason) for (kind, name), entry in self._entries.items()]


def concerns_worker(error: Exception) -> bool:
    """Tell whether an error is about this worker or its process, and about no image."""
    return isinstance(error, UnfitError) or verdict(error).action in {Action.UNFIT, Action.STOP}


def own_trouble(error: Exception, *, model: str, archive: str | None = None) -> UnfitError | None:
    """Return ``error`` as this worker's own trouble with a model or an archive; None if it is not the worker's."""
    if isinstance(error, UnfitError):
        return error
    judged = verdict(error)
    if judged.action is not Action.UNFIT:
        return None
    if judged.code == _OF_AN_ARCHIVE and archive is not None:
        return UnfitError(of_archive(archive), str(error))
    if judged.code in _OF_EVERYTHING:
        return UnfitError(EVERYTHING, str(error))
    return UnfitError(of_model(model), str(error))


def own_trouble_with(lease: Lease, error: Exception) -> UnfitError | None:
    """Return ``error`` as this worker's own trouble with the shard that it holds; None if it is not the worker's."""
    return own_trouble(error, model=lease.shard.model, archive=lease.shard.archive_uri)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether there was too little memory, of the machine or of its GPU: PyTorch says so in several ways."""
    said = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said))
    )


def out_of_memory(model: str, error: Exception) -> str:
    """Say that a model does not fit, and what to do."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"not enough memory for {model}: stop what else runs on this device, or use a smaller model ({line})"

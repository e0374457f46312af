"""What this worker cannot do at the moment for reasons of its own: no device, no weights, no credentials, a full disk.

This is never a job's fault. The work is released as if it had not been claimed, and other workers may do it. This
worker takes no work of the same kind until a pause is over, then tries once again. Heartbeats carry the reasons: that
is how `ramq workers` and `ramq doctor` can show them, and a job that no worker can do can say what it waits for.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ram_core.errors import ModelError
from storage.errors import FatalError, RamqError, ServiceUnavailableError
from storage.ledger.waiting import Barred
from storage.ledger.worker_views import Unfitness
from workers.pipeline.retry import Action, DeviceLostError, backoff_seconds, verdict

if TYPE_CHECKING:
    from workers.pipeline.work import Lease

log = structlog.get_logger()

Key = tuple[str, str]
"""What a worker may be unfit for: a kind and a name."""

EVERYTHING: Key = ("everything", "")
INDEX: Key = ("index", "")
"""The worker recognises images but cannot publish vectors."""

_OF_AN_ARCHIVE = "credentials"
_OF_EVERYTHING = {"device", "disk_full"}


class UnfitError(RamqError):
    """This worker cannot do the current work, but another one may. The message says why and what to do.

    ``key`` names what it cannot do.
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
    """What this worker cannot do at the moment, why, and when it tries again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}

    def declare(self, unfit: UnfitError) -> None:
        """Record what this worker cannot do. The pause before the next try doubles each time, up to a minute."""
        key, reason, now = unfit.key, str(unfit).strip().splitlines()[0], time.monotonic()
        with self._lock:
            known = self._entries.get(key)
            if known is not None and known.again_at > now:  # several threads hit the same error at once
                known.reason = reason
                return
            tries = known.tries + 1 if known else 0
            self._entries[key] = _Entry(reason, tries, now + backoff_seconds(tries))
        if known is None:
            log.error("this worker is unfit", kind=key[0], name=key[1], reason=reason)

    def prove(self, *keys: Key) -> None:
        """Remove the entries of these keys: the worker has just succeeded at them."""
        with self._lock:
            well = [key for key in keys if self._entries.pop(key, None) is not None]
        for kind, name in well:
            log.info("this worker is fit again", kind=kind, name=name)

    def barred(self) -> Barred:
        """Return what must not be claimed now. Entries whose pause is over are not included."""
        now = time.monotonic()
        with self._lock:
            waiting = [key for key, entry in self._entries.items() if entry.again_at > now]
        return Barred(
            EVERYTHING in waiting,
            [name for kind, name in waiting if kind == "model"],
            [name for kind, name in waiting if kind == "archive"],
        )

    def doubts(self, key: Key) -> bool:
        """Return whether the key was declared and has not been proved since."""
        with self._lock:
            return key in self._entries

    def reasons(self) -> list[Unfitness]:
        """Return the reasons to show to people, whether or not their pause is over."""
        with self._lock:
            return [Unfitness(kind, name, entry.reason) for (kind, name), entry in self._entries.items()]


def concerns_worker(error: Exception) -> bool:
    """Return whether an error concerns this worker or its process and not an image."""
    return isinstance(error, UnfitError) or verdict(error).action in {Action.UNFIT, Action.STOP}


def as_unfit(error: Exception, *, model: str, archive: str | None = None) -> UnfitError | None:
    """Return ``error`` as an ``UnfitError`` for a model or an archive; None if this worker is not the cause."""
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


def as_unfit_for(lease: Lease, error: Exception) -> UnfitError | None:
    """Return ``error`` as an ``UnfitError`` for the shard that is held; None if this worker is not the cause."""
    return as_unfit(error, model=lease.shard.model, archive=lease.shard.archive_uri)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the machine or its GPU ran out of memory. PyTorch reports that in several ways."""
    message = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message))
    )


def out_of_memory(model: str, error: Exception) -> str:
    """Return a message that a model does not fit into memory, and what to do."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"not enough memory for {model}: stop other programs on this device, or use a smaller model ({line})"


def is_orderly(error: BaseException) -> bool:
    """Return whether a fatal error shows by its class that no image is to blame.

    After any other error, and after a lost device, the shards are not released but their leases expire. The ledger
    counts that as the death of a holder. That way an image that does this to every worker is found like one that kills
    workers.
    """
    expected = isinstance(error, FatalError | ModelError | ServiceUnavailableError)
    return expected and not isinstance(error, DeviceLostError)

"""The only table of errors: retry, record on the image, leave the work to other workers, or stop the worker.

It lists every leaf class of error that a stage may raise; a test checks that it is complete. The codes are stable: they
are stored, used as filters (``ramq failures --class``) and documented in ``docs/errors.md``.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass
from enum import Enum

from ram_core.errors import CheckpointError, DeviceError, ImageError, UnknownModelError, VocabularyError
from storage.errors import (
    DatabaseAwayError,
    FatalError,
    ForbiddenError,
    NotFoundError,
    PermanentError,
    RamqError,
    ServiceUnavailableError,
    TransientError,
)
from storage.objects.base import (
    BadKeyError,
    CredentialsError,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectRefusedError,
    ObjectTooLargeError,
    SourceError,
    StoreUnavailableError,
    TarError,
)


class Action(Enum):
    """What to do about an error."""

    RETRY = "retry"
    RECORD = "record"
    UNFIT = "unfit"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the current image.

    Attributes:
        action: retry the shard later, record a failure and continue, leave the work to others, or stop the worker.
        code: the stable name of the failure class.
        about_content: whether the bytes are to blame. Then they need not be read again until they change.
    """

    action: Action
    code: str
    about_content: bool = False


class UndecodableError(PermanentError):
    """The bytes cannot be decoded as an image. Leaf classes say why.

    ``pages`` is how many pages the file has, as far as that is known.
    """

    pages: int = 1


class EmptyFileError(UndecodableError):
    """The object has no bytes."""

    code = "empty"


class NotAnImageError(UndecodableError):
    """The bytes are not an image."""

    code = "not_an_image"


class UnsupportedImageError(UndecodableError):
    """The image is in a format that is not decoded here."""

    code = "unsupported"


class TruncatedImageError(UndecodableError):
    """The image is cut short."""

    code = "truncated"


class CorruptImageError(UndecodableError):
    """The image is damaged."""

    code = "corrupt"


class TooManyPixelsError(UndecodableError):
    """The image is larger than the limit: decoding it could take all memory."""

    code = "too_large"


class NoPageError(UndecodableError):
    """The file has no such page: it was replaced by another one after its pages were counted."""

    code = "no_page"


class DecoderCrashedError(UndecodableError):
    """The decoder process crashed on this image, twice."""

    code = "decoder_crash"


class DecoderTimeoutError(UndecodableError):
    """The image was not decoded in time. The machine may have been at fault."""

    code = "decoder_timeout"
    about_content = False


class DecoderMemoryError(UndecodableError):
    """Decoding the image takes more memory than is available or allowed."""

    code = "decoder_memory"
    about_content = False


class ModelFailedError(PermanentError):
    """The model raised an error on this image alone."""

    code = "model_error"
    about_content = False


class FeaturesMissingError(PermanentError):
    """New tags need the stored features of this image, and there are none."""

    code = "features_missing"
    about_content = False


class UnstorableResultError(PermanentError):
    """The database refused this image's results."""

    code = "unstorable"
    about_content = False


class WorkerCrashedError(PermanentError):
    """Several workers died while they processed only this image."""

    code = "worker_crash"


class DeviceLostError(FatalError):
    """The GPU failed in the middle of a batch. Only a new process can use it again.

    The shards are not released: their leases have to expire. The ledger then counts this as the death of a holder. That
    way an image that does this to every worker is found like one that kills workers.
    """

    code = "device_lost"


REFUSALS: tuple[type[UndecodableError], ...] = (
    NotAnImageError,
    UnsupportedImageError,
    TruncatedImageError,
    CorruptImageError,
    TooManyPixelsError,
    NoPageError,
)
"""What a decoder says about bytes that it does not decode."""

_RECORDED: tuple[type[PermanentError], ...] = (
    # About one object.
    ObjectMissingError,
    ObjectForbiddenError,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectRefusedError,
    ObjectTooLargeError,
    BadKeyError,
    SourceError,
    TarError,
    # About its bytes.
    EmptyFileError,
    *REFUSALS,
    DecoderCrashedError,
    DecoderTimeoutError,
    DecoderMemoryError,
    # About the processing of the image.
    ModelFailedError,
    FeaturesMissingError,
    UnstorableResultError,
    WorkerCrashedError,
)
_RETRIED: tuple[type[TransientError], ...] = (StoreUnavailableError, ServiceUnavailableError, DatabaseAwayError)
_STOPPING: tuple[type[FatalError], ...] = (DeviceLostError, FatalError)

_TABLE: dict[type[Exception], Verdict] = {
    **{kind: Verdict(Action.RECORD, kind.code, kind.about_content) for kind in _RECORDED},
    **{kind: Verdict(Action.RETRY, kind.code) for kind in _RETRIED},
    **{kind: Verdict(Action.STOP, kind.code) for kind in _STOPPING},
    # About an object here, although in other places these are a user's mistake.
    NotFoundError: Verdict(Action.RECORD, "missing"),
    ForbiddenError: Verdict(Action.RECORD, "forbidden"),
    # Errors of ram_core, which has no error families.
    ImageError: Verdict(Action.RECORD, "corrupt", about_content=True),
    # About the worker: another one may be able to do it, and so may this one once the cause is fixed.
    CheckpointError: Verdict(Action.UNFIT, "checkpoint"),
    VocabularyError: Verdict(Action.UNFIT, "vocabulary"),
    UnknownModelError: Verdict(Action.UNFIT, "model"),
    DeviceError: Verdict(Action.UNFIT, "device"),
    CredentialsError: Verdict(Action.UNFIT, CredentialsError.code),
}

_FAMILIES: dict[type[RamqError], Action] = {
    TransientError: Action.RETRY,
    PermanentError: Action.RECORD,
    FatalError: Action.STOP,
}


_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def verdict(error: Exception) -> Verdict:
    """Classify ``error`` by its own class, else by its nearest base class, else as an unexpected permanent error."""
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _TABLE[kind]
        if kind in _FAMILIES:
            assert isinstance(error, RamqError)
            return Verdict(_FAMILIES[kind], error.code, getattr(error, "about_content", False))
    if isinstance(error, OSError) and error.errno in _DISK_TROUBLE:
        return Verdict(Action.UNFIT, "disk_full")
    if isinstance(error, MemoryError):
        return Verdict(Action.RECORD, "out_of_memory")
    return Verdict(Action.RECORD, "unexpected")


def codes() -> list[str]:
    """Return the codes of all failure classes, in alphabetical order."""
    recorded = {entry.code for entry in _TABLE.values() if entry.action in {Action.RETRY, Action.RECORD}}
    return sorted(recorded | {"out_of_memory", "unexpected"})


def backoff_seconds(tries: int, *, first: float = 2.0, most: float = 60.0) -> float:
    """Return how long to wait before try number ``tries + 1``: doubling, with jitter to spread the workers."""
    return float(min(most, first * 2 ** min(tries, 16)) * random.uniform(0.5, 1.0))  # noqa: S311  (not a secret)


def tries_allowed(*, has_progress: bool) -> int:
    """Return the number of rounds of transient errors after which an image is given up.

    If other images of the shard succeed, the error belongs to the image, and a few rounds are enough to tell. If none
    succeeds, it is an outage. Then an hour of waiting (at up to a minute each) is better than failing a whole archive.
    """
    return 5 if has_progress else 60

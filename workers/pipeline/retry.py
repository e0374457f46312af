"""The one table of errors: try again, record it on the image, leave the work to other workers, or stop the worker.

Every leaf class of error that a stage may raise stands here; a test holds the table complete. The codes are stable:
they are stored, filtered by (``ramq failures --class``) and documented in ``docs/errors.md``.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass
from enum import Enum

from ram_core.errors import CheckpointError, DeviceError, ImageError, UnknownModelError, VocabularyError
from storage.errors import (
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
)


class Action(Enum):
    """What to do about an error."""

    RETRY = "retry"
    RECORD = "record"
    UNFIT = "unfit"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the image at hand.

    Attributes:
        action: try the shard again later, record a failure and go on, leave the work to others, or stop the worker.
        code: the stable name of the class of failure.
        about_content: whether the bytes are to blame, so that they need not be read again while they are the same.
    """

    action: Action
    code: str
    about_content: bool = False


class UndecodableError(PermanentError):
    """The bytes are not a picture that may be decoded. Leaves say why."""


class EmptyFileError(UndecodableError):
    """There are no bytes."""

    code = "empty"


class NotAnImageError(UndecodableError):
    """The bytes are something else than a picture."""

    code = "not_an_image"


class UnsupportedImageError(UndecodableError):
    """A picture in a format that is not decoded here."""

    code = "unsupported"


class TruncatedImageError(UndecodableError):
    """The picture ends too early."""

    code = "truncated"


class CorruptImageError(UndecodableError):
    """The picture is damaged."""

    code = "corrupt"


class TooManyPixelsError(UndecodableError):
    """The picture is larger than the limit: decoding it could take all memory."""

    code = "too_large"


class DecoderCrashedError(UndecodableError):
    """The process that decoded it died, twice."""

    code = "decoder_crash"


class DecoderTimeoutError(UndecodableError):
    """It was not decoded in time. The machine may have been at fault."""

    code = "decoder_timeout"
    about_content = False


class DecoderMemoryError(UndecodableError):
    """Decoding it takes more memory than there is, or than it may take."""

    code = "decoder_memory"
    about_content = False


class ModelFailedError(PermanentError):
    """The model raised on this image alone."""

    code = "model_error"
    about_content = False


class FeaturesMissingError(PermanentError):
    """New tags were to be given from what was kept of this image, and it is not there."""

    code = "features_missing"
    about_content = False


class UnstorableResultError(PermanentError):
    """The database refused this image's results."""

    code = "unstorable"
    about_content = False


class WorkerCrashedError(PermanentError):
    """Workers died again and again while they had this image alone in their hands."""

    code = "worker_crash"


class DeviceLostError(FatalError):
    """The GPU failed in the middle of a batch: only a new process can use it again.

    The shards are not given back but left to run out, so that the ledger counts this as the death of a holder: an
    image that does this to every worker is found like one that kills them.
    """

    code = "device_lost"


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
    # About its bytes.
    EmptyFileError,
    NotAnImageError,
    UnsupportedImageError,
    TruncatedImageError,
    CorruptImageError,
    TooManyPixelsError,
    DecoderCrashedError,
    DecoderTimeoutError,
    DecoderMemoryError,
    # About what was done with it.
    ModelFailedError,
    FeaturesMissingError,
    UnstorableResultError,
    WorkerCrashedError,
)
_RETRIED: tuple[type[TransientError], ...] = (StoreUnavailableError, ServiceUnavailableError)
_STOPPING: tuple[type[FatalError], ...] = (DeviceLostError, FatalError)

_TABLE: dict[type[Exception], Verdict] = {
    **{kind: Verdict(Action.RECORD, kind.code, kind.about_content) for kind in _RECORDED},
    **{kind: Verdict(Action.RETRY, kind.code) for kind in _RETRIED},
    **{kind: Verdict(Action.STOP, kind.code) for kind in _STOPPING},
    # About an object, although elsewhere these are a person's mistake.
    NotFoundError: Verdict(Action.RECORD, "missing"),
    ForbiddenError: Verdict(Action.RECORD, "forbidden"),
    # Errors of the models, which know no families.
    ImageError: Verdict(Action.RECORD, "corrupt", about_content=True),
    # About the worker: another may be able to do it, and this one too, once it is fixed.
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
    """Say what to do about ``error``: by its own class, else its nearest base, else record it as unexpected."""
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
    """Return the codes that a failure may have, in alphabetical order."""
    recorded = {entry.code for entry in _TABLE.values() if entry.action in {Action.RETRY, Action.RECORD}}
    return sorted(recorded | {"out_of_memory", "unexpected"})


def backoff_seconds(tries: int, *, first: float = 2.0, most: float = 60.0) -> float:
    """Return how long to wait before try number ``tries + 1``: doubling, with jitter so that workers spread."""
    return float(min(most, first * 2 ** min(tries, 16)) * random.uniform(0.5, 1.0))  # noqa: S311  (not a secret)


def tries_allowed(*, has_progress: bool) -> int:
    """Return after how many rounds of passing trouble an image is given up.

    Where neighbours in the shard succeed, the trouble is the image's own and a few rounds tell. Where nothing does,
    it is an outage, and an hour of waiting (at up to a minute each) is better than failing a whole archive.
    """
    return 5 if has_progress else 60

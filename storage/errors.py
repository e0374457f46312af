"""The three families of errors. They tell who is at fault and whether to try again.

A leaf class has a ``code``: a stable, documented name that is stored, used as a filter and shown to people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sqlalchemy import Engine


class RamqError(Exception):
    """Base of every error that is raised on purpose. The message is one line that says what to do."""

    code: ClassVar[str] = "error"


class TransientError(RamqError):
    """A temporary error that nobody has to fix: the same call may succeed later."""

    code = "transient"


class PermanentError(RamqError):
    """An error about one image: trying again gives the same result until the image changes.

    Attributes:
        about_content: True if the bytes are the reason: an unchanged object need not be read again. False if something
            else is (permissions, a missing object).
    """

    code = "permanent"
    about_content: ClassVar[bool] = True


class FatalError(RamqError):
    """An error about this worker or its set-up: no image is to blame, and the worker must stop and say why."""

    code = "fatal"


class UsageError(RamqError):
    """The request cannot be fulfilled: an unknown tag, a missing folder, a wrong option.

    Attributes:
        at: the position in the text of a query, in characters from 0; None if the error is not about such a text.
        near: similar names as suggestions, the nearest first.
    """

    code = "usage"
    at: int | None = None
    near: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The error without its position in a text and without suggestions."""
        return str(self)


class NotFoundError(UsageError):
    """The given job, image or archive does not exist."""

    code = "not_found"


class NoGenerationError(NotFoundError):
    """The generation does not exist, or was dropped."""


class ConflictError(UsageError):
    """The thing exists, but its state does not allow this."""

    code = "conflict"


class ForbiddenError(UsageError):
    """The set-up does not allow this, for example for a source outside the allow-list."""

    code = "forbidden"


class ModelMissingError(UsageError):
    """This machine lacks a model that the request needs, or has it with other weights. The request is not to blame."""

    code = "model_missing"


class ServiceUnavailableError(TransientError):
    """A required service (database, broker, object store) cannot be reached."""

    code = "service_unavailable"


class DatabaseAwayError(ServiceUnavailableError):
    """A database did not answer.

    Attributes:
        engine: which one.
    """

    def __init__(self, engine: Engine, message: str) -> None:
        super().__init__(message)
        self.engine = engine

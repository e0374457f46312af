"""Whose fault an error is and whether to try again: the three families that every other error belongs to.

A leaf class has a ``code``: a stable, documented name that is stored, filtered by and shown to people.
"""

from __future__ import annotations

from typing import ClassVar


class RamqError(Exception):
    """Base of every error raised on purpose. The message is one line and says what to do."""

    code: ClassVar[str] = "error"


class TransientError(RamqError):
    """Nobody's fault and likely to pass: the same call may succeed later."""

    code = "transient"


class PermanentError(RamqError):
    """About one image: trying again gives the same answer until the image changes.

    Attributes:
        about_content: True when the bytes themselves are the reason, so that an unchanged object need not be read
            again; False when the surroundings are (permission, a missing object).
    """

    code = "permanent"
    about_content: ClassVar[bool] = True


class FatalError(RamqError):
    """About this worker or its set-up: no image may be blamed, the worker must stop and say why."""

    code = "fatal"


class UsageError(RamqError):
    """What was asked for cannot be done: an unknown tag, a folder that is not there, a wrong option.

    Attributes:
        at: the character of a query's text that it is about, counted from 0; None when it is not about such a text.
        near: names that may have been meant, the nearest first.
    """

    code = "usage"
    at: int | None = None
    near: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """What is wrong, without its place in a text and without suggestions."""
        return str(self)


class NotFoundError(UsageError):
    """The job, image or archive that was named does not exist."""

    code = "not_found"


class ConflictError(UsageError):
    """The thing exists but is in a state that does not allow this."""

    code = "conflict"


class ForbiddenError(UsageError):
    """The set-up does not allow this, for example a source outside the allow-list."""

    code = "forbidden"


class ServiceUnavailableError(TransientError):
    """A service that is needed (database, broker, object store) cannot be reached."""

    code = "service_unavailable"

"""What an object is, what can go wrong with it, and what every kind of archive can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from storage.errors import FatalError, PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

PAGE_SIZE = 1_000
"""Keys in one page of a listing; what S3 returns at most."""

MAX_KEY_BYTES = 2_000
"""Longer keys do not fit an index entry. S3 allows 1,024 bytes; only deep folders get there."""

MISSING_VERSION = "!missing"
"""The version of a key that a listing or a manifest names but behind which there was no object."""

UNREADABLE_VERSION = "!unreadable-folder"
"""The version of a folder that could not be looked into: it stands in the counters with the reason."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How buckets are reached, beside the credentials, which boto3 finds.

    Attributes:
        endpoint_url: an S3-compatible server, or None for AWS.
        requester_pays: the buckets that are told with each request that we pay for it.
        addressing: ``path`` or ``virtual``; ``auto``: what the AWS configuration says, or what suits the endpoint.
    """

    endpoint_url: str | None = None
    requester_pays: frozenset[str] = frozenset()
    addressing: Literal["auto", "path", "virtual"] = "auto"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One key as it was listed.

    Attributes:
        key: the S3 key, or the path below the folder with ``/`` between its parts.
        version: opaque; changes when the content does (ETag, or size and modification time). Empty: not known yet.
        size_bytes: as listed.
        modified_at: as listed, None where it is not known.
        is_marker: an empty object whose key ends in ``/``, which stands for a folder and holds no picture.
    """

    key: str
    version: str
    size_bytes: int
    modified_at: datetime | None
    is_marker: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an object and the version they are of, which may be newer than the one listed."""

    body: bytes | memoryview
    version: str


class ObjectStore(Protocol):
    """An archive's objects: list after a key, fetch."""

    def check(self) -> None:
        """Raise the error that a job on this archive would meet at once: no such folder, no permission, no answer."""

    def pages(self, prefix: str, after: str | None) -> Iterator[list[ObjectInfo]]:
        """Yield pages of the keys at or below ``prefix`` in byte order, beginning after the key ``after``."""

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known about one object without reading it; of one that is not there, ``MISSING_VERSION``.

        Raises:
            StoreUnavailableError, CredentialsError: as ``fetch``.
        """

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Return an object's bytes. A newer version than ``version`` is returned as such.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectTooLargeError, BadKeyError, ObjectChangedError: about this
                object.
            StoreUnavailableError: worth another try later.
            CredentialsError: nothing can be fetched until the set-up is mended.
        """

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Return ``length`` bytes of an object from ``start`` on, in chunks, in bounded memory.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectChangedError: about this object, before the first chunk.
            StoreUnavailableError, CredentialsError: as ``fetch``; when it breaks off in the middle, between chunks.
        """


CHUNK_BYTES = 256 * 1024


class ObjectMissingError(PermanentError):
    """The key was listed but there is no object now."""

    code = "missing"
    about_content = False


class ObjectForbiddenError(PermanentError):
    """This object may not be read with the credentials at hand."""

    code = "forbidden"
    about_content = False


class ObjectArchivedError(PermanentError):
    """The object is in cold storage and must be restored before it can be read."""

    code = "archived"
    about_content = False


class ObjectChangedError(PermanentError):
    """The object was being written while it was read, more than once."""

    code = "changed"
    about_content = False


class ObjectRefusedError(PermanentError):
    """The store answers that it will not give this object, whoever asks and however often: see its own words."""

    code = "refused"
    about_content = False


class ObjectTooLargeError(PermanentError):
    """The object has more bytes than the set limit."""

    code = "too_large"


class BadKeyError(PermanentError):
    """The key cannot be stored or opened: not UTF-8, or too long."""

    code = "bad_key"


class StoreUnavailableError(TransientError):
    """The object store did not answer, answered 5xx or broke off in the middle."""

    code = "store_unavailable"


class CredentialsError(FatalError):
    """The store refuses this worker altogether: wrong, expired or missing credentials, or a clock that is off."""

    code = "credentials"


class SourceError(PermanentError):
    """The archive itself is not there or cannot be listed."""

    code: ClassVar[str] = "source"
    about_content = False


def is_below(key: str, prefix: str) -> bool:
    """Tell whether ``key`` is ``prefix`` itself or below it as in a folder: ``a`` holds ``a/b`` but not ``ab``."""
    folder = prefix.strip("/")
    return not folder or key == folder or key.startswith(f"{folder}/")

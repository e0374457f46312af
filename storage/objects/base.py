"""Objects, their errors, and the operations that every kind of archive offers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from storage.errors import FatalError, PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from storage.objects.ignoring import Ignoring

PAGE_SIZE = 1_000
"""Keys in one page of a listing; the maximum that S3 returns."""

LOOKS_AT_ONCE = 32
"""Keys that are looked up in a store at the same time."""

MAX_KEY_BYTES = 2_000
"""Longer keys do not fit an index entry. S3 allows 1,024 bytes, so only deep folders exceed this."""

INODE = "-c"
"""In the version of a file, before the time of the last change of its inode."""

MISSING_VERSION = "!missing"
"""Version of a key that a listing or a manifest names but that has no object."""

TOO_LONG_VERSION = "!too-long"
"""Version of a key that is too long. Only its beginning is kept: see ``shortened``."""

CHANGED_VERSION = "!changed"
"""Version of a member of a tar file that is another one than the caller knows: it may be anywhere in it."""

UNREADABLE_VERSION = "!unreadable-folder"
"""Version of an unreadable folder. It becomes a key that fails with the reason, so that it is counted."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach buckets, apart from the credentials, which boto3 finds.

    Attributes:
        endpoint_url: an S3-compatible server, or None for AWS.
        requester_pays: buckets for which every request declares that the requester pays.
        addressing: ``path`` or ``virtual``; ``auto``: from the AWS configuration, or the default for the endpoint.
    """

    endpoint_url: str | None = None
    requester_pays: frozenset[str] = frozenset()
    addressing: Literal["auto", "path", "virtual"] = "auto"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One key as listed.

    Attributes:
        key: the S3 key, or the path below the folder with ``/`` between its parts.
        version: opaque; changes when the content does (ETag, or size and modification time). Empty: not yet known.
        size_bytes: as listed.
        modified_at: as listed; None if unknown.
        is_marker: an empty object whose key ends in ``/``. It stands for a folder and is not an image.
        ignored: why it is left out, one of ``ignoring.REASONS``; None: it is listed.
        stands_for_all: a folder that is left out and was not read. Its key ends in ``/``, and everything in it is left
            out.
    """

    key: str
    version: str
    size_bytes: int
    modified_at: datetime | None
    is_marker: bool = False
    ignored: str | None = None
    stands_for_all: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an object and their version, which may be newer than the listed one."""

    body: bytes | memoryview
    version: str


class ObjectStore(Protocol):
    """The objects of an archive: list after a key, fetch."""

    @property
    def holds_version(self) -> bool:
        """Whether all bytes that ``open`` returns are of the version that it was asked for."""

    def check(self) -> None:
        """Raise the error that a job on this archive would meet first: no such folder, no permission, no answer."""

    def pages(self, prefix: str, after: str | None, ignoring: Ignoring | None = None) -> Iterator[list[ObjectInfo]]:
        """Yield pages of the keys at or below ``prefix`` in byte order, starting after the key ``after``.

        Keys that ``ignoring`` leaves out come with the reason. Files ``.ramqignore`` are given to it; None: they count
        as any other file.

        Raises:
            UsageError: a file ``.ramqignore`` is damaged or cannot be read.
        """

    def read_rules(self, ignoring: Ignoring, keys: Sequence[str]) -> None:
        """Give ``ignoring`` the files ``.ramqignore`` that a listing of these keys would meet.

        Raises:
            UsageError: one is damaged or cannot be read.
        """

    def stat(self, key: str, known: str = "") -> ObjectInfo:
        """Return the properties of one object without reading it. A missing object has ``MISSING_VERSION``.

        Args:
            key: of the object.
            known: the version that the caller knows, if any. It tells where a member of a tar file is.

        Raises:
            StoreUnavailableError, CredentialsError: as ``fetch``.
        """

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Return an object's bytes. If the object changed after ``version``, return the new version.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectTooLargeError, BadKeyError, ObjectChangedError: about this
                object.
            StoreUnavailableError: try again later.
            CredentialsError: nothing can be fetched until the set-up is fixed.
        """

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes of an object from ``start`` on, in chunks, in bounded memory.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectChangedError: about this object, before the first chunk.
            StoreUnavailableError, CredentialsError: as ``fetch``; also between chunks, if the connection breaks.
        """


@runtime_checkable
class RangedStore(ObjectStore, Protocol):
    """A store whose keys several workers can list at the same time, each a range of them."""

    def pages(
        self, prefix: str, after: str | None, ignoring: Ignoring | None = None, until: str | None = None
    ) -> Iterator[list[ObjectInfo]]:
        """Yield pages as ``ObjectStore.pages`` does, up to where a listing that begins after ``until`` goes on.

        The two have each key once. None: to the end.
        """

    def cut(self, prefix: str, after: str, until: str | None) -> str | None:
        """Return a string between ``after`` and ``until``, with keys on both sides if possible; None: none was found.

        Stores that are known not to list keys in the order of their bytes are not cut.
        """


CHUNK_BYTES = 256 * 1024


class ObjectMissingError(PermanentError):
    """The key was listed, but now there is no object."""

    code = "missing"
    about_content = False


class ObjectForbiddenError(PermanentError):
    """This object may not be read with the current credentials."""

    code = "forbidden"
    about_content = False


class ObjectArchivedError(PermanentError):
    """The object is in cold storage and must be restored before it can be read."""

    code = "archived"
    about_content = False


class ObjectChangedError(PermanentError):
    """The object changed repeatedly while it was read."""

    code = "changed"
    about_content = False


class ObjectRefusedError(PermanentError):
    """The store permanently refuses to return this object, for reasons in its own message."""

    code = "refused"
    about_content = False


class ObjectTooLargeError(PermanentError):
    """The object is larger than the configured limit."""

    code = "too_large"


class BadKeyError(PermanentError):
    """The key cannot be stored or opened: not UTF-8, or too long."""

    code = "bad_key"


class TarError(PermanentError):
    """A tar file, or a part of it, is damaged, compressed, or no tar file at all."""

    code = "bad_tar"


class StoreUnavailableError(TransientError):
    """The object store did not answer, answered 5xx, or the connection broke."""

    code = "store_unavailable"


class CredentialsError(FatalError):
    """The store rejects this worker: wrong, expired or missing credentials, or a wrong clock."""

    code = "credentials"


class SourceError(PermanentError):
    """The archive itself does not exist or cannot be listed."""

    code: ClassVar[str] = "source"
    about_content = False


def shortened(key: str) -> str:
    """Return a key, or of a key that is too long the beginning. Others may have the same beginning."""
    encoded = key.encode()
    return key if len(encoded) <= MAX_KEY_BYTES else encoded[:MAX_KEY_BYTES].decode(errors="ignore")


def too_long() -> BadKeyError:
    """Return the error of a key that is too long."""
    return BadKeyError(
        f"the key is too long, over {MAX_KEY_BYTES:,} bytes, so only its beginning is kept: shorten its folders' names"
    )


def marked(page: Sequence[ObjectInfo], ignoring: Ignoring) -> list[ObjectInfo]:
    """Return a page of a listing in which what is left out has its reason."""
    return [replace(info, ignored=reason) if (reason := ignoring.reason(info.key)) else info for info in page]


def is_below(key: str, prefix: str) -> bool:
    """Return whether ``key`` is ``prefix`` or below it as in a folder: ``a`` contains ``a/b`` but not ``ab``."""
    folder = prefix.strip("/")
    return not folder or key == folder or key.startswith(f"{folder}/")

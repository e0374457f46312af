"""Parse an archive's address: ``s3://bucket/prefix``, a folder, ``file:///folder``; after ``tar+`` its tar files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from storage.errors import ForbiddenError, UsageError
from storage.objects.base import ObjectStore, S3Options, is_below
from storage.objects.folder import FolderStore
from storage.objects.tar_names import is_tar
from storage.objects.tars import TarStore

if TYPE_CHECKING:
    from storage.objects.ignoring import Kind
    from storage.objects.s3 import S3Store

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.IGNORECASE)

MAX_SOURCE = 4_096

_IN_TARS = re.compile(r"tar\+(?=s3://|file://|[/.~])", re.IGNORECASE)

HOP_BYTES = {"s3": 2 * 1024 * 1024, "file": 256 * 1024}
"""About as much is read in the time of a request: 30 ms at 70 MB/s, or 2 ms on a disk in the network."""

_NOT_IN_A_URI = re.compile(r"[%#?\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Source:
    """Address of an archive.

    Attributes:
        scheme: ``s3`` or ``file``.
        root: the bucket, or the absolute path of the folder.
        prefix: the keys are below it; empty for the whole bucket and for folders. A tar file in a folder is one.
        in_tars: whether the keys are members of the tar files there; see ``storage.objects.tars``.
    """

    scheme: str
    root: str
    prefix: str
    in_tars: bool = False

    @property
    def uri(self) -> str:
        """The archive's name: ``s3://bucket/prefix`` or ``file:///folder``, never with a slash at its end."""
        scheme = f"{'tar+' if self.in_tars else ''}{self.scheme}"
        if self.scheme == "s3":
            return f"{scheme}://{self.root}/{self.prefix}".rstrip("/")
        # Escape only characters that have another meaning in a URI. The rest stays readable.
        path = f"{self.root.rstrip('/')}/{self.prefix}" if self.prefix else self.root
        return f"{scheme}://{_NOT_IN_A_URI.sub(lambda found: quote(found[0], safe=''), path)}"

    @property
    def kind(self) -> Kind:
        """Which names are left out by default."""
        if self.in_tars:
            return "tar"
        return "s3" if self.scheme == "s3" else "folder"

    def contains(self, other: Source) -> bool:
        """Return whether every key of ``other`` belongs to this source."""
        if (self.scheme, self.in_tars) != (other.scheme, other.in_tars):
            return False
        if self.scheme == "s3" or self.prefix:
            return self.root == other.root and is_below(other.prefix, self.prefix)
        return Path(other.root).is_relative_to(self.root)

    def key_prefix_in(self, archive: Source) -> str:
        """Return what the keys of this source begin with in an archive that contains it, without a slash at its end."""
        if self.scheme == "s3":
            return self.prefix
        return f"{self.root.removeprefix(archive.root).strip('/')}/{self.prefix}".strip("/")


def parse_source(text: str) -> Source:
    """Parse an address that a user typed. Relative folders are made absolute, and links in them are resolved.

    Raises:
        UsageError: it is neither a bucket nor a folder.
    """
    if not text.strip():
        raise UsageError("the source is empty: write s3://bucket/prefix or a folder")
    if len(text) > MAX_SOURCE:
        raise UsageError(f"the source has {len(text):,} characters, more than the limit of {MAX_SOURCE:,}")
    if "\x00" in text:
        raise UsageError("the source contains a NUL character: write s3://bucket/prefix or a folder")
    if found := _IN_TARS.match(text):
        return _in_tars(parse_source(text[found.end() :]))
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(f"{text!r} names no bucket: write s3://bucket/prefix")
        return Source("s3", bucket, prefix.strip("/"))
    if text.startswith("file://"):
        return _folder(_path_of(text))
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise UsageError(f"{text.partition('://')[0]}:// is not supported: write s3://bucket/prefix or a folder")
    return _folder(text)


def _folder(text: str) -> Source:
    try:
        path = Path(text).expanduser().resolve()
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError("the path of the folder is not valid UTF-8: rename the folder") from None
    except (RuntimeError, OSError) as error:  # a link to itself, or an unknown user's home
        raise UsageError(f"{text!r} is not a folder: {error}") from None
    return Source("file", str(path), "")


def _in_tars(source: Source) -> Source:
    """Return the source of the members of tar files. The given one may be a tar file itself, or a folder in one."""
    if source.scheme == "file":
        parts = Path(source.root).parts
        first = next((number for number, part in enumerate(parts) if is_tar(part)), None)
        if first is not None:
            return Source("file", str(Path(*parts[:first])), "/".join(parts[first:]), in_tars=True)
    return replace(source, in_tars=True)


def _path_of(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:  # a bracket in the host name
        raise UsageError(f"{uri!r} is not a URI: write file:///folder") from None
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(f"{uri!r} names another machine: write file:///folder")
    return unquote(parts.path)


def part_of(archive_uri: str, prefix: str) -> Source:
    """Return the part of an archive whose keys are ``prefix`` or below it, as a source of its own."""
    archive = parse_source(archive_uri)
    if archive.scheme == "s3" or archive.in_tars:
        return replace(archive, prefix=prefix.strip("/"))
    return Source("file", f"{archive.root.rstrip('/')}/{prefix}".rstrip("/") or "/", "")


def open_store(source: Source, s3: S3Options) -> ObjectStore:
    """Return the store of a source. Nothing is contacted yet."""
    base = FolderStore(Path(source.root)) if source.scheme == "file" else open_bucket(source.root, s3)
    return TarStore(base, HOP_BYTES[source.scheme]) if source.in_tars else base


def open_bucket(bucket: str, s3: S3Options) -> S3Store:
    """Return the store of a bucket. Nothing is contacted yet."""
    from storage.objects.s3 import S3Store  # noqa: PLC0415  (boto3 takes a third of a second to import)

    return S3Store(bucket, s3.endpoint_url, requester_pays=bucket in s3.requester_pays, addressing=s3.addressing)


def require_allowed(source: Source, allowed: tuple[str, ...], *, reachable: bool) -> None:
    """Raise ``ForbiddenError`` unless the allow-list covers ``source``.

    Args:
        source: the archive that a job would read.
        allowed: roots as in ``RAMQ_ARCHIVE_ALLOW``. Empty: everything is allowed on a private service, nothing on one
            that other machines can reach.
        reachable: whether other machines can reach the service.
    """
    if not allowed and not reachable:
        return
    # Who may read a bucket may read the tar files in it.
    asked = [source, replace(source, in_tars=False)] if source.in_tars else [source]
    if not any(parse_source(root).contains(each) for root in allowed for each in asked):
        raise ForbiddenError(
            f"{source.uri} is not on the list of archives that may be read: add it to RAMQ_ARCHIVE_ALLOW"
        )


def require_writable(source: Source, allowed: tuple[str, ...]) -> None:
    """Raise ``ForbiddenError`` unless a list covers ``source``: nothing is written into a bucket without being asked.

    Args:
        source: the bucket and prefix that would be written to.
        allowed: roots as in ``RAMQ_WRITE_ALLOW``. Empty: nothing is allowed.

    Raises:
        UsageError: an entry of the list names no bucket.
    """
    if not any(parse_source(root).contains(source) for root in allowed):
        raise ForbiddenError(f"nothing may be written to {source.uri}: add it to RAMQ_WRITE_ALLOW")


@dataclass(frozen=True, slots=True)
class ArchiveAccess:
    """Which archives a service may read, and how.

    Attributes:
        allow: roots that may be read, as in ``require_allowed``.
        is_reachable: whether other machines can reach this service.
        s3: options for access to buckets.
    """

    allow: tuple[str, ...]
    is_reachable: bool
    s3: S3Options

    def require(self, source: Source) -> None:
        """Raise ``ForbiddenError`` unless ``source`` may be read."""
        require_allowed(source, self.allow, reachable=self.is_reachable)

    def open(self, source: Source) -> ObjectStore:
        """Return the store of a source. Raises ``ForbiddenError`` unless it may be read."""
        self.require(source)
        return open_store(source, self.s3)

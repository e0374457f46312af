"""Storage of segments and manifests: a folder, or a prefix of a bucket.

It only adds, reads and deletes whole files and folders. PostgreSQL records which of them form the index. Therefore a
storage needs no atomic pointer, and it cannot disagree with the database.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import boto3
import botocore.config
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from storage.errors import ServiceUnavailableError, UsageError
from storage.index.manifest import DamagedError
from storage.index.segment import DESCRIPTION_FILE, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mypy_boto3_s3 import S3Client

_STAGING = ".staging-"


class FileStorage(Protocol):
    """Storage for segments (folders of files) and single files, under names with ``/``. Thread-safe.

    Every method raises ``ServiceUnavailableError`` if the storage does not answer.
    """

    def folder_of(self, name: str) -> Path | None:
        """Return the local folder of a segment's files; None if they must be fetched first."""

    def fetch(self, name: str, into: Path) -> None:
        """Copy a segment's files into an empty folder. Raises ``DamagedError`` if they are missing."""

    def staging(self, folder: str) -> AbstractContextManager[Path]:
        """Yield an empty folder to write a segment of ``folder`` in. Anything not added is removed at the end."""

    def add(self, staged: Path, name: str) -> None:
        """Publish a staged segment under its name, completely or not at all. Replace what had that name."""

    def read(self, name: str) -> bytes:
        """Return a file. Raises ``DamagedError`` if it is missing."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file, completely or not at all. Replace what had that name."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless the name is taken. Return whether it was written."""

    def names(self, folder: str) -> dict[str, float]:
        """Return the direct contents of a folder: last part of the name, and seconds since the last change."""

    def delete(self, name: str) -> None:
        """Remove a segment, a file, or a folder with its contents. A missing one is not an error."""


SETTING = "RAMQ_INDEX_URL"
"""The setting that errors name, unless another one has the location."""


def open_storage(url: str, below: str = "", *, endpoint_url: str | None = None, setting: str = SETTING) -> FileStorage:
    """Return the storage of a ``file:///folder`` or ``s3://bucket/prefix`` URL.

    Args:
        url: the location.
        below: a folder in it, with no slash around it; empty: the location itself.
        endpoint_url: of an S3 server that is not Amazon's.
        setting: the setting that has the location, for errors.

    Raises:
        UsageError: any other kind of URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are not closed
        parts = urlsplit("")
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return FolderStorage(Path(unquote(parts.path)) / below, setting)
    if parts.scheme == "s3" and parts.netloc:
        prefix = "/".join(filter(None, (parts.path.strip("/"), below)))
        return BucketStorage(parts.netloc, prefix, endpoint_url, setting)
    raise UsageError(f"the index cannot be kept at {url}: {setting} must be file:///folder or s3://bucket/prefix")


class FolderStorage:
    """Storage in a local folder."""

    def __init__(self, root: Path, setting: str = SETTING) -> None:
        self.root = root
        self.setting = setting

    def folder_of(self, name: str) -> Path | None:
        """See ``FileStorage``."""
        return self.root / name

    def fetch(self, name: str, into: Path) -> None:
        """See ``FileStorage``."""
        try:
            shutil.copytree(self.root / name, into, dirs_exist_ok=True)
        except OSError as error:
            raise DamagedError(f"{self.root / name} cannot be read") from error

    @contextmanager
    def staging(self, folder: str) -> Iterator[Path]:
        """See ``FileStorage``."""
        staged = self.root / folder / f"{_STAGING}{uuid4().hex}"
        with self._errors_named():
            staged.mkdir(parents=True)
            try:
                yield staged
            finally:
                shutil.rmtree(staged, ignore_errors=True)  # after ``add`` it no longer exists

    def add(self, staged: Path, name: str) -> None:
        """See ``FileStorage``."""
        target = self.root / name
        with self._errors_named():
            if target.exists():
                replaced = target.with_name(f"{_STAGING}{uuid4().hex}")
                target.rename(replaced)
                staged.rename(target)
                shutil.rmtree(replaced)
            else:
                staged.rename(target)
            sync_folder(target.parent)

    def read(self, name: str) -> bytes:
        """See ``FileStorage``."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise DamagedError(f"{self.root / name} cannot be read: {error.strerror}") from error

    def put(self, name: str, data: bytes) -> None:
        """See ``FileStorage``."""
        target = self.root / name
        staged = target.with_name(f"{_STAGING}{uuid4().hex}")
        with self._errors_named():
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_new(staged, data)
            staged.replace(target)
            sync_folder(target.parent)

    def create(self, name: str, data: bytes) -> bool:
        """See ``FileStorage``. A crash can leave an incomplete file. Its name then stays taken."""
        target = self.root / name
        with self._errors_named():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_new(target, data)
            except FileExistsError:
                return False
            sync_folder(target.parent)
        return True

    def names(self, folder: str) -> dict[str, float]:
        """See ``FileStorage``."""
        now = time.time()
        with self._errors_named():
            try:
                entries = list(os.scandir(self.root / folder))
            except FileNotFoundError:
                return {}
            return {entry.name: now - entry.stat(follow_symlinks=False).st_mtime for entry in entries}

    def delete(self, name: str) -> None:
        """See ``FileStorage``."""
        target = self.root / name
        with self._errors_named():
            if target.is_dir():
                # Rename it first: an incomplete segment must not be found under its name.
                doomed = target.with_name(f"{_STAGING}{uuid4().hex}")
                target.rename(doomed)
                shutil.rmtree(doomed)
            else:
                target.unlink(missing_ok=True)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServiceUnavailableError(
                f"index folder {self.root} ({self.setting}) failed: {error.strerror or error}"
            ) from error


class BucketStorage:
    """Storage under a prefix of an S3 bucket. An object is written completely or not at all, and visible at once."""

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None = None, setting: str = SETTING) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.endpoint_url = endpoint_url
        self.setting = setting

    @cached_property
    def _client(self) -> S3Client:
        session = boto3.Session()
        return session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=session.region_name or "us-east-1",
            config=botocore.config.Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 4},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if self.endpoint_url else {},
            ),
        )

    def folder_of(self, name: str) -> Path | None:  # noqa: ARG002  (a bucket has no local files)
        """See ``FileStorage``."""
        return None

    def fetch(self, name: str, into: Path) -> None:
        """See ``FileStorage``."""
        with self._errors_named(name):
            keys = [key for key, _ in self._objects(name)]
            if not keys:
                raise DamagedError(f"s3://{self.bucket}/{self._key(name)} does not exist")
            for key in keys:
                self._client.download_file(self.bucket, key, str(into / key.rpartition("/")[2]))

    @contextmanager
    def staging(self, folder: str) -> Iterator[Path]:  # noqa: ARG002  (any local disk works)
        """See ``FileStorage``."""
        with tempfile.TemporaryDirectory(prefix="ramq-index-") as staged:
            yield Path(staged)

    def add(self, staged: Path, name: str) -> None:
        """See ``FileStorage``. The description is written last: without it the segment does not exist."""
        files = sorted(staged.iterdir(), key=lambda path: (path.name == DESCRIPTION_FILE, path.name))
        with self._errors_named(name):
            for file in files:
                key = self._key(f"{name}/{file.name}")
                self._client.upload_file(str(file), self.bucket, key)
                stored = self._client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
                if stored != file.stat().st_size:
                    raise DamagedError(f"s3://{self.bucket}/{key} has {stored} bytes, not {file.stat().st_size}")

    def read(self, name: str) -> bytes:
        """See ``FileStorage``."""
        with self._errors_named(name):
            return self._client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()

    def put(self, name: str, data: bytes) -> None:
        """See ``FileStorage``."""
        with self._errors_named(name):
            self._client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data)

    def create(self, name: str, data: bytes) -> bool:
        """See ``FileStorage``."""
        try:
            with self._errors_named(name):
                self._client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data, IfNoneMatch="*")
        except _TakenError:
            return False
        return True

    def names(self, folder: str) -> dict[str, float]:
        """See ``FileStorage``."""
        start = len(self._key(folder)) + 1 if folder else len(self._key(""))
        now = time.time()
        found: dict[str, float] = {}
        with self._errors_named(folder):
            for key, modified_at in self._objects(folder):
                name = key[start:].partition("/")[0]
                found[name] = min(found.get(name, float("inf")), now - modified_at)
        return found

    def delete(self, name: str) -> None:
        """See ``FileStorage``."""
        with self._errors_named(name):
            keys = [self._key(name), *(key for key, _ in self._objects(name))]
            # A segment without its description does not exist, so delete that first.
            for key in sorted(keys, key=lambda key: not key.endswith(DESCRIPTION_FILE)):
                self._client.delete_object(Bucket=self.bucket, Key=key)

    def _objects(self, folder: str) -> Iterator[tuple[str, float]]:
        below = f"{self._key(folder)}/" if folder else self._key("")
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below):
            for item in page.get("Contents", []):
                yield item["Key"], item["LastModified"].timestamp()

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    @contextmanager
    def _errors_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in {"NoSuchKey", "404"}:
                raise DamagedError(f"s3://{self.bucket}/{self._key(name)} does not exist") from error
            if code in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
                raise _TakenError from error
            raise self._unavailable(error) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ServiceUnavailableError:
        place = f"s3://{self.bucket}/{self.prefix}"
        return ServiceUnavailableError(f"index {place} ({self.setting}) is unavailable: {error}")


class _TakenError(Exception):
    """An object of that name exists."""


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())

"""A bucket as an archive.

boto3 finds credentials, profiles and regions and lists, because it takes any key; obstore fetches, because it spends a
tenth of the CPU per object (``docs/decisions``). Keys that obstore would rewrite are fetched with boto3.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions
import obstore
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store as ObstoreS3

from ramq.kit.errors import ForbiddenError, NotFoundError, PermanentError, RamqError
from ramq.kit.logs import without_secrets
from storage.objects.ahead import KeyPage, list_ahead
from storage.objects.base import (
    CHUNK_BYTES,
    PAGE_SIZE,
    BadKeyError,
    CredentialsError,
    Fetched,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectInfo,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

# obstore normalises paths: only keys that it is sure to leave alone go through it.
_PLAIN_KEY = re.compile(
    r"(?!.*(?:^|/)\.{1,2}(?:/|$))(?!.*//)[^/\x00-\x1f\x7f%\\{}^`\[\]\"<>~#|?*][^\x00-\x1f\x7f%\\{}^`\[\]\"<>~#|?*]*(?<!/)"
)

_CREDENTIAL_CODES = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "RequestTimeTooSkewed", "AuthorizationHeaderMalformed",
}  # fmt: skip
_TRANSIENT_CODES = {
    "InternalError", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "RequestTimeout",
    "RequestLimitExceeded", "500", "502", "503", "504",
}  # fmt: skip

_PAYS = re.compile(r"request(?:er)?[ -]?pay", re.IGNORECASE)

_BAD_NAME = "!bad-name"
"""Version that a listing gives to a key that cannot be stored; ``fetch`` answers it with the reason."""

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 20
ATTEMPTS = 4


class S3Store:
    """Objects of one bucket. Thread-safe.

    Args:
        bucket: its name.
        endpoint_url: an S3-compatible server, or None for AWS.
        requester_pays: whether every request says that we pay for it.
    """

    def __init__(self, bucket: str, endpoint_url: str | None = None, *, requester_pays: bool = False) -> None:
        self.bucket = bucket
        self.endpoint_url = endpoint_url
        self.requester_pays = requester_pays

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session()

    @cached_property
    def _client(self) -> S3Client:
        client = self._session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self._session.region_name or "us-east-1",
            config=botocore.config.Config(
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                max_pool_connections=64,
                # Other servers answer neither of the newer checksum headers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if self.endpoint_url else {},
            ),
        )
        if self.requester_pays:
            # For all operations at once: HeadBucket needs the header too, and has no parameter for it.
            client.meta.events.register("before-call.s3", _say_that_we_pay)
        return client

    @cached_property
    def _fast(self) -> ObstoreS3:
        # boto3 also takes the endpoint from AWS_ENDPOINT_URL and from profiles.
        endpoint = self._client.meta.endpoint_url
        is_aws = (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        options: dict[str, Any] = {} if is_aws else {"endpoint": endpoint}
        return ObstoreS3(
            self.bucket,
            region=self._region_of_bucket() if is_aws else self._client.meta.region_name,
            virtual_hosted_style_request=False,
            request_payer=self.requester_pays,
            credential_provider=Boto3CredentialProvider(self._session),
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
                "timeout": timedelta(seconds=3 * READ_TIMEOUT_SECONDS),
            },
            retry_config={
                "max_retries": ATTEMPTS - 1,
                "retry_timeout": timedelta(seconds=READ_TIMEOUT_SECONDS),
                "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)},
            },
            **options,
        )

    def _fast_or_reason(self) -> ObstoreS3:
        try:
            credentials, fast = self._session.get_credentials(), None
            if credentials is not None:
                fast = self._fast
        except RamqError:
            raise
        except Exception as error:
            raise self._about_bucket(error) from error
        if fast is None:
            raise self._about_bucket(botocore.exceptions.NoCredentialsError())
        return fast

    def _region_of_bucket(self) -> str:
        """Ask AWS where the bucket is: boto3 follows to another region by itself, obstore does not."""
        try:
            answer = self._client.head_bucket(Bucket=self.bucket)
        except Exception as error:
            raise self._about_bucket(error) from error
        return answer.get("BucketRegion", self._client.meta.region_name)

    def check(self) -> None:
        """Raise what a job would meet at once: no such bucket, no permission, no answer, no credentials."""
        self.list_objects(MaxKeys=1)

    def time(self) -> datetime | None:
        """Return what time it is there, to the second; None where the server does not say. Raises as ``check``."""
        said = self.list_objects(MaxKeys=1)["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(said) if said else None

    def pages(self, prefix: str, after: str | None) -> Iterator[list[ObjectInfo]]:
        """Yield pages of the keys at or below ``prefix``; see ``ObjectStore.pages``."""
        folder = prefix.strip("/")
        if not folder:
            yield from self._pages_of("", after or "")
            return
        if not after:  # the object that is named like the folder sorts before everything in it
            yield from (page for page in [self._named(folder)] if page)
        yield from self._pages_of(f"{folder}/", after or "")

    def _named(self, key: str) -> list[ObjectInfo]:
        answer = self.list_objects(Prefix=key, MaxKeys=1)
        return [_info(item) for item in answer.get("Contents", []) if item["Key"] == key]

    def _pages_of(self, prefix: str, start: str) -> Iterator[list[ObjectInfo]]:
        return list_ahead(_FolderLister(self, prefix), prefix, start, PAGE_SIZE)

    def list_objects(self, **options: Any) -> Any:
        """Ask for one page of keys, in S3's own words. Raises what concerns the whole bucket."""
        try:
            return self._client.list_objects_v2(Bucket=self.bucket, **options)
        except Exception as error:
            raise self._about_bucket(error) from error

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Fetch one object; see ``ObjectStore.fetch``. An object that changed is fetched as it is now."""
        if version == _BAD_NAME:
            raise BadKeyError("the key holds a zero byte, which cannot be stored: copy the object to another key")
        plain = _PLAIN_KEY.fullmatch(key) is not None
        get = self._get_fast if plain else self._get_with_boto3
        try:
            return get(key, None if version.startswith("!") else version, max_bytes)
        except ObjectChangedError:
            return get(key, None, max_bytes)

    def _get_fast(self, key: str, version: str | None, max_bytes: int) -> Fetched:
        fast = self._fast_or_reason()
        try:
            result = obstore.get(fast, key, options={"if_match": f'"{version}"'} if version else None)
            meta = result.meta
            _refuse_large(meta["size"], max_bytes)
            body = result.bytes()
        except RamqError:
            raise
        except PreconditionError as error:
            raise ObjectChangedError("the object changed while it was read") from error
        except FileNotFoundError as error:
            raise ObjectMissingError("the object is gone") from error
        except (PermissionDeniedError, UnauthenticatedError):
            # S3 says 403 for a forbidden object, a wrong key and a wrong clock alike; boto3 tells which.
            return self._get_with_boto3(key, version, max_bytes)
        except (ObstoreError, OSError) as error:
            if "InvalidObjectState" in str(error):
                raise ObjectArchivedError("the object is in cold storage: restore it first") from error
            raise StoreUnavailableError(f"fetching from s3://{self.bucket} failed: {_first_line(error)}") from error
        if len(body) != meta["size"]:
            raise StoreUnavailableError(f"{len(body):,} of {meta['size']:,} bytes arrived")
        return Fetched(memoryview(body), (meta["e_tag"] or "").strip('"'))

    def _get_with_boto3(self, key: str, version: str | None, max_bytes: int) -> Fetched:
        condition: dict[str, Any] = {"IfMatch": f'"{version}"'} if version else {}
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=key, **condition)
            with answer["Body"] as stream:
                _refuse_large(answer["ContentLength"], max_bytes)
                body = stream.read()
        except RamqError:
            raise
        except Exception as error:
            raise self._about_object(error) from error
        return Fetched(body, answer["ETag"].strip('"'))

    def stat(self, key: str) -> ObjectInfo:
        """Return what is known about one object; see ``ObjectStore.stat``."""
        try:
            answer = self._client.head_object(Bucket=self.bucket, Key=key)
        except Exception as error:
            named = self._about_object(error)
            if isinstance(named, PermanentError):
                return ObjectInfo(key, f"!{named.code}", 0, None)
            raise named from error
        return ObjectInfo(key, answer["ETag"].strip('"'), answer["ContentLength"], answer["LastModified"])

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Read a part of one object; see ``ObjectStore.open``."""
        condition: dict[str, Any] = {"IfMatch": f'"{version}"'} if version and not version.startswith("!") else {}
        if length:
            condition["Range"] = f"bytes={start}-{start + length - 1}"
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=key, **condition)
        except Exception as error:
            raise self._about_object(error) from error
        ignored = 0 if answer.get("ContentRange") else start  # some servers know no ranges
        return self._chunks(answer["Body"], ignored, length)

    def _chunks(self, body: StreamingBody, ignored: int, length: int) -> Iterator[bytes]:
        with body:
            try:
                for chunk in body.iter_chunks(CHUNK_BYTES) if length else ():
                    wanted = chunk[ignored : ignored + length]
                    ignored = max(0, ignored - len(chunk))
                    length -= len(wanted)
                    if wanted:
                        yield wanted
                    if not length:
                        return
            except Exception as error:
                raise self._about_object(error) from error

    def download(self, key: str, file: IO[bytes]) -> str:
        """Write a whole object to ``file`` in bounded memory and return its version.

        Raises:
            ObjectMissingError, ObjectForbiddenError, StoreUnavailableError, CredentialsError: as ``fetch``.
        """
        for attempt in range(1, ATTEMPTS + 1):
            file.seek(0)
            file.truncate()
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
                with answer["Body"]:
                    # Not the stream that `with` gives: that one would not notice a body that is cut short.
                    for chunk in answer["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
            except (botocore.exceptions.HTTPClientError, botocore.exceptions.IncompleteReadError) as error:
                # botocore tries a request again, but not a body that broke off.
                if attempt == ATTEMPTS:
                    raise self._about_object(error) from error
            except Exception as error:
                raise self._about_object(error) from error
            else:
                file.flush()
                return answer["ETag"].strip('"')
        raise AssertionError  # the last attempt returned or raised

    def _about_object(self, error: Exception) -> RamqError:
        code, status = _code(error)
        if code in {"NoSuchKey", "NoSuchVersion"} or status == 404:
            return ObjectMissingError("the object is gone")
        if status == 412:
            return ObjectChangedError("the object changed while it was read")
        if code == "InvalidObjectState":
            return ObjectArchivedError("the object is in cold storage: restore it first")
        if code not in _CREDENTIAL_CODES and status == 403:
            return ObjectForbiddenError(f"s3://{self.bucket} answers {code}{self._hint(error)}")
        return self._about_bucket(error)

    def _hint(self, error: Exception) -> str:
        """Return what else may be amiss where S3 says 403: mostly it does not tell that the requester is to pay."""
        setting = f"RAMQ_S3_REQUESTER_PAYS=s3://{self.bucket}"
        if self.requester_pays:
            return ""
        if _PAYS.search(str(error)):
            return f": whoever reads it pays for it; set {setting} to do so"
        return "" if self.endpoint_url else f"; if whoever reads it pays for it, set {setting}"

    def _about_bucket(self, error: Exception) -> RamqError:  # noqa: PLR0911  (a list of causes, read from the top)
        """Name an error that concerns the whole bucket, in one line that says what to do."""
        where = f"s3://{self.bucket}" + (f" at {without_secrets(self.endpoint_url)}" if self.endpoint_url else "")
        code, status = _code(error)
        if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
            return CredentialsError(
                f"no credentials for {where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "for this process, where it is started"
            )
        if isinstance(error, botocore.exceptions.ProfileNotFound):
            return CredentialsError(f"{error}: check AWS_PROFILE")
        if code in _CREDENTIAL_CODES:
            return CredentialsError(f"{where} refuses the credentials ({code}): check AWS_* and the clock")
        if code == "NoSuchBucket" or status == 404:
            return NotFoundError(f"there is no bucket {where}")
        if status in {401, 403}:
            return ForbiddenError(f"{where} may not be read with these credentials ({code}){self._hint(error)}")
        if code in _TRANSIENT_CODES or status >= 500:
            return StoreUnavailableError(f"{where} answers {code}: try again later")
        if isinstance(error, botocore.exceptions.ParamValidationError):
            return NotFoundError(f"{self.bucket!r} cannot be the name of a bucket")
        if isinstance(error, botocore.exceptions.ClientError):
            return StoreUnavailableError(f"{where} answers {code}: {_first_line(error)}")
        return StoreUnavailableError(f"{where} cannot be reached: {_first_line(error)}")


class _FolderLister:
    """The requests that list what is below one folder of a bucket."""

    def __init__(self, store: S3Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def page(self, after: str) -> KeyPage:
        # After a key, not with a continuation token: a listing must go on after a restart, when the token is gone.
        answer = self._store.list_objects(Prefix=self._prefix, StartAfter=after, MaxKeys=PAGE_SIZE)
        contents = answer.get("Contents", [])
        keys = [item["Key"] for item in contents]
        return KeyPage(keys, [_info(item) for item in contents], not contents or not answer.get("IsTruncated"))

    def folders(self, above: str, after: str) -> list[str]:
        answer = self._store.list_objects(Prefix=above, StartAfter=after, Delimiter="/", MaxKeys=PAGE_SIZE)
        return [item["Prefix"] for item in answer.get("CommonPrefixes", [])]


def _say_that_we_pay(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def _info(item: Any) -> ObjectInfo:
    if "\x00" in item["Key"]:  # Postgres stores no such text
        return ObjectInfo(item["Key"].replace("\x00", r"\x00"), _BAD_NAME, item["Size"], item["LastModified"])
    return ObjectInfo(
        key=item["Key"],
        version=item["ETag"].strip('"'),
        size_bytes=item["Size"],
        modified_at=item["LastModified"],
        is_marker=item["Key"].endswith("/") and item["Size"] == 0,
    )


def _code(error: Exception) -> tuple[str, int]:
    if not isinstance(error, botocore.exceptions.ClientError):
        return type(error).__name__, 0
    response = error.response
    return response["Error"].get("Code", "?"), response["ResponseMetadata"].get("HTTPStatusCode", 0)


def _refuse_large(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise ObjectTooLargeError(f"{size_bytes:,} bytes, the limit is {max_bytes:,}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__

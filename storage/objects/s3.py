"""A bucket as an archive.

boto3 finds credentials, profiles and regions. It also lists, because it takes any key. obstore fetches, because it
needs a tenth of the CPU per object (``docs/decisions``). Keys that obstore would rewrite are fetched with boto3.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions
import botocore.session
import obstore
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store as ObstoreS3

from storage.errors import ForbiddenError, PermanentError, RamqError, UsageError
from storage.objects.base import (
    CHUNK_BYTES,
    PAGE_SIZE,
    TOO_LONG_VERSION,
    BadKeyError,
    Fetched,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    ObjectRefusedError,
    ObjectTooLargeError,
    StoreUnavailableError,
    marked,
    too_long,
)
from storage.objects.ignoring import FILE_NAME, MAX_FILE_BYTES
from storage.objects.s3_errors import Refusals, first_line
from storage.objects.s3_listing import BAD_NAME, BucketLister, info_of, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

    from storage.objects.ignoring import Ignoring

# obstore normalises paths: use it only for keys that it certainly does not change.
_PLAIN_KEY = re.compile(
    r"(?!.*(?:^|/)\.{1,2}(?:/|$))(?!.*//)[^/\x00-\x1f\x7f%\\{}^`\[\]\"<>~#|?*][^\x00-\x1f\x7f%\\{}^`\[\]\"<>~#|?*]*(?<!/)"
)

# obstore's messages when a server answered an error, or answered without a header that obstore needs.
_ANSWERED = re.compile(r"status code: (?:4\d\d|501)\b|[Hh]eader missing")

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 20
ATTEMPTS = 4


class S3Store:
    """Objects of one bucket. Thread-safe.

    Args:
        bucket: its name.
        endpoint_url: an S3-compatible server, or None for AWS.
        requester_pays: whether every request declares that the requester pays.
        addressing: see ``S3Options``.
    """

    def __init__(
        self,
        bucket: str,
        endpoint_url: str | None = None,
        *,
        requester_pays: bool = False,
        addressing: Literal["auto", "path", "virtual"] = "auto",
    ) -> None:
        self.bucket = bucket
        self.endpoint_url = endpoint_url
        self.requester_pays = requester_pays
        self._chosen_addressing = addressing
        self.refusals = Refusals(bucket, endpoint_url, requester_pays=requester_pays)
        self._lister = BucketLister(self.list_objects)
        # Until a server proves otherwise: some return other ETags than they list, or support no conditions.
        self._takes_conditions = True

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(botocore_session=self._configuration)

    @cached_property
    def _configuration(self) -> botocore.session.Session:
        return botocore.session.Session()

    @cached_property
    def _addressing(self) -> Literal["auto", "path", "virtual"]:
        """``path``, ``virtual``, or the choice of boto3 (``auto``)."""
        if self._chosen_addressing != "auto":
            return self._chosen_addressing
        configured = self._configuration.get_scoped_config().get("s3") or {}
        match configured.get("addressing_style") if isinstance(configured, dict) else None:
            case "virtual":
                return "virtual"
            case "path":
                return "path"
        return "path" if self.endpoint_url else "auto"

    @cached_property
    def client(self) -> S3Client:
        """The client of boto3, for requests that are not here. Its errors are for ``refusals``."""
        client = self._session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self._session.region_name or "us-east-1",
            config=botocore.config.Config(
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=READ_TIMEOUT_SECONDS,
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                max_pool_connections=64,
                # Other servers support neither of the newer checksum headers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": self._addressing},
            ),
        )
        if self.requester_pays:
            # For all operations: HeadBucket needs the header too, but has no parameter for it.
            client.meta.events.register("before-call.s3", _say_that_we_pay)
        return client

    @cached_property
    def _fast(self) -> ObstoreS3:
        # boto3 also takes the endpoint from AWS_ENDPOINT_URL and from profiles.
        endpoint = self.client.meta.endpoint_url
        is_aws = (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        is_virtual = self._addressing == "virtual"
        if is_virtual:
            scheme, _, host = endpoint.partition("://")
            endpoint = f"{scheme}://{self.bucket}.{host}"
        options: dict[str, Any] = {} if is_aws else {"endpoint": endpoint}
        return ObstoreS3(
            self.bucket,
            region=self._region_of_bucket() if is_aws else self.client.meta.region_name,
            virtual_hosted_style_request=is_virtual,
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
            raise self.refusals.about_bucket(error) from error
        if fast is None:
            raise self.refusals.about_bucket(botocore.exceptions.NoCredentialsError())
        return fast

    def _region_of_bucket(self) -> str:
        """Ask AWS for the bucket's region: boto3 follows redirects to another region, obstore does not."""
        try:
            answer = self.client.head_bucket(Bucket=self.bucket)
        except Exception as error:
            raise self.refusals.about_bucket(error) from error
        return answer.get("BucketRegion", self.client.meta.region_name)

    @property
    def holds_version(self) -> bool:
        """Until the server turns out to support no conditions."""
        return self._takes_conditions

    def check(self) -> None:
        """Raise the error that a job would meet first: no such bucket, no permission, no answer, no credentials."""
        self.list_objects(MaxKeys=1)

    def time(self) -> datetime | None:
        """Return the server's time, to the second; None if it does not send one. Raises as ``check``."""
        said = self.list_objects(MaxKeys=1)["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(said) if said else None

    def pages(
        self, prefix: str, after: str | None, ignoring: Ignoring | None = None, until: str | None = None
    ) -> Iterator[list[ObjectInfo]]:
        """Yield pages of the keys at or below ``prefix``; see ``ObjectStore.pages``.

        A file ``.ramqignore`` counts in the listed folder, and in those above it that belong to the archive.
        """
        if ignoring is not None:
            self.read_rules(ignoring, ())
        for page in self._all_pages(prefix, after, until):
            yield page if ignoring is None else marked(page, ignoring)

    def read_rules(self, ignoring: Ignoring, keys: Sequence[str]) -> None:  # noqa: ARG002  (only a folder's depend on them)
        """Give ``ignoring`` the files in the listed folder and above it; see ``ObjectStore.read_rules``."""
        for folder in ignoring.above():
            self._read_rules(ignoring, folder)

    def _read_rules(self, ignoring: Ignoring, folder: str) -> None:
        """Give a file ``.ramqignore``, if there is one, to ``ignoring``."""
        key = f"{folder}{FILE_NAME}"
        for info in self._named(key):  # whoever may list the bucket may ask this, whatever else may be read
            try:
                body = self.fetch(key, info.version, MAX_FILE_BYTES).body
            except PermanentError as error:
                raise UsageError(
                    f"s3://{self.bucket}/{key} cannot be read, and says what to leave out: {error}"
                ) from error
            ignoring.add_file(folder, bytes(body), f"s3://{self.bucket}/{key}")

    def cut(self, prefix: str, after: str, until: str | None) -> str | None:
        """Return where to cut a listing; see ``ObjectStore.cut``."""
        folder = prefix.strip("/")
        return self._lister.cut(f"{folder}/" if folder else "", after, until)

    def _all_pages(self, prefix: str, after: str | None, until: str | None) -> Iterator[list[ObjectInfo]]:
        folder = prefix.strip("/")
        if folder and not after:  # the object with the folder's name sorts before the folder's contents
            yield from (page for page in [self._named(folder)] if page)
        yield from self._lister.pages(f"{folder}/" if folder else "", after or "", PAGE_SIZE, until)

    def _named(self, key: str) -> list[ObjectInfo]:
        answer = self.list_objects(Prefix=key, MaxKeys=1)
        return [info_of(item) for item in answer.get("Contents", []) if item["Key"] == key]

    def list_objects(self, **options: Any) -> Any:
        """Request one page of keys; options and result are S3's own. Raises errors about the whole bucket."""
        try:
            return self.client.list_objects_v2(Bucket=self.bucket, **options)
        except Exception as error:
            raise self.refusals.about_bucket(error) from error

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Fetch one object; see ``ObjectStore.fetch``. If it changed, its current version is fetched."""
        if version == BAD_NAME:
            raise BadKeyError("the key contains a zero byte, which cannot be stored: copy the object to another key")
        if version == TOO_LONG_VERSION:
            raise too_long()
        get = self._get_fast if _PLAIN_KEY.fullmatch(key) else self._get_with_boto3
        listed = None if version.startswith("!") or not version else version
        try:
            fetched = get(key, listed if self._takes_conditions else None, max_bytes)
        except (ObjectChangedError, ObjectRefusedError) as error:
            if listed is None:
                raise
            fetched = get(key, None, max_bytes)
            if isinstance(error, ObjectChangedError) and fetched.version != listed != self._listed_version(key):
                return fetched  # the object did change
            self._takes_conditions = False
        # The bytes are those that were listed. Return the listed version, or the object would be read again each time.
        return Fetched(fetched.body, listed) if listed and not self._takes_conditions else fetched

    def _listed_version(self, key: str) -> str | None:
        """Return the version that a listing now gives for an object; None if it is not listed."""
        try:
            return next((info.version for info in self._named(key)), None)
        except ForbiddenError:  # reading is allowed here, listing is not
            return None

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
            raise ObjectMissingError("the object no longer exists") from error
        except (PermissionDeniedError, UnauthenticatedError):
            # S3 returns 403 for a forbidden object, a wrong key and a wrong clock. boto3 can tell which.
            return self._get_with_boto3(key, version, max_bytes)
        except (ObstoreError, OSError) as error:
            if _ANSWERED.search(str(error)):  # boto3 can tell the error
                return self._get_with_boto3(key, version, max_bytes)
            raise StoreUnavailableError(f"fetching from s3://{self.bucket} failed: {first_line(error)}") from error
        if len(body) != meta["size"]:
            raise StoreUnavailableError(f"only {len(body):,} of {meta['size']:,} bytes arrived")
        # If a conditional request succeeds without an ETag, the answer is the requested version.
        etag = meta["e_tag"] or version
        return Fetched(memoryview(body), version_of(etag, len(body), meta["last_modified"]))

    def _get_with_boto3(self, key: str, version: str | None, max_bytes: int) -> Fetched:
        condition: dict[str, Any] = {"IfMatch": f'"{version}"'} if version else {}
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key, **condition)
            with answer["Body"] as stream:
                length = answer.get("ContentLength")
                _refuse_large(length or 0, max_bytes)
                # A whole body is checked against its length. Without one, a truncated body raises an error by itself.
                body = stream.read() if length is not None else stream.read(max_bytes + 1)
                _refuse_large(len(body), max_bytes)
        except RamqError:
            raise
        except Exception as error:
            raise self.refusals.about_object(error) from error
        return Fetched(body, version_of(answer.get("ETag") or version, len(body), answer.get("LastModified")))

    def stat(self, key: str, known: str = "") -> ObjectInfo:  # noqa: ARG002  (the server tells it)
        """Return the properties of one object; see ``ObjectStore.stat``."""
        try:
            answer = self.client.head_object(Bucket=self.bucket, Key=key)
        except Exception as error:
            named = self.refusals.about_object(error)
            if isinstance(named, PermanentError):
                return ObjectInfo(key, f"!{named.code}", 0, None)
            raise named from error
        size_bytes, modified_at = answer.get("ContentLength", 0), answer.get("LastModified")
        return ObjectInfo(key, version_of(answer.get("ETag"), size_bytes, modified_at), size_bytes, modified_at)

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Read a part of one object; see ``ObjectStore.open``."""
        asked: dict[str, Any] = {"Range": f"bytes={start}-{start + length - 1}"} if length else {}
        has_condition = self._takes_conditions and version and not version.startswith("!")
        if has_condition:
            asked["IfMatch"] = f'"{version}"'
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key, **asked)
        except Exception as error:
            named = self.refusals.about_object(error)
            is_moot = isinstance(named, ObjectChangedError | ObjectRefusedError) and has_condition
            if not is_moot or self.stat(key).version != version:
                raise named from error
            self._takes_conditions = False
            return self.open(key, version, start, length)
        ignored = 0 if answer.get("ContentRange") else start  # some servers do not support ranges
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
                raise self.refusals.about_object(error) from error

    def download(self, key: str, file: IO[bytes]) -> str:
        """Write a whole object to ``file`` in bounded memory and return its version.

        Raises:
            ObjectMissingError, ObjectForbiddenError, StoreUnavailableError, CredentialsError: as ``fetch``.
        """
        for attempt in range(1, ATTEMPTS + 1):
            file.seek(0)
            file.truncate()
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
                with answer["Body"]:
                    # Not the stream that `with` returns: it would not notice a truncated body.
                    for chunk in answer["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
            except (botocore.exceptions.HTTPClientError, botocore.exceptions.IncompleteReadError) as error:
                # botocore retries a request, but not a body that was cut off.
                if attempt == ATTEMPTS:
                    raise self.refusals.about_object(error) from error
            except Exception as error:
                raise self.refusals.about_object(error) from error
            else:
                file.flush()
                return version_of(answer.get("ETag"), file.tell(), answer.get("LastModified"))
        raise AssertionError  # the last attempt returned or raised


def _say_that_we_pay(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def _refuse_large(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise ObjectTooLargeError(f"{size_bytes:,} bytes exceed the limit of {max_bytes:,} bytes")

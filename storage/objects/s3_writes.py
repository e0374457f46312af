"""Small objects that are written into a bucket so that nobody's edit is lost.

Each write has a condition: nothing is there (If-None-Match), or what was read is still there (If-Match). A store that
ignores conditions is found out with the first write, and nothing more is written to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from storage.objects.base import (
    BadKeyError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectRefusedError,
    ObjectTooLargeError,
)
from storage.objects.s3_errors import code_and_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.objects.s3 import S3Store

ATTEMPTS = 5
"""How often a change is made anew if somebody else wrote the object meanwhile."""

MOST_BYTES = 16 * 1024 * 1024
MOST_KEY_BYTES = 1024
"""Of a key, in UTF-8. (Amazon S3 User Guide, "Object key naming guidelines")"""

_NO_SUCH_ETAG = "0" * 32
# What a write would change of an object that is there, if it did not say it again.
_KEPT = ("ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "Metadata")


@dataclass
class BucketWriter:
    """Writes objects of one bucket. Thread-safe.

    Attributes:
        store: the bucket.
        content_type: of new objects.
        fault: why nothing more is written into this bucket; None: nothing is known against it.
    """

    store: S3Store
    content_type: str
    fault: str | None = None
    _is_proven: bool = False
    _lock: Lock = field(default_factory=Lock)

    def rewrite(self, key: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        """Replace an object. Return whether it was written.

        Args:
            key: the object's.
            change: gets the content, None if there is no object, and returns the new one, or None to leave it as it
                is. It is called again if somebody else wrote the object meanwhile.

        Raises:
            BadKeyError: the key is too long.
            ObjectForbiddenError: it may not be read or written.
            ObjectChangedError: others write it all the time.
            ObjectRefusedError: the store does not take conditions, or refuses for another reason.
            StoreUnavailableError: no answer.
        """
        if len(key.encode()) > MOST_KEY_BYTES:
            raise BadKeyError(f"{key!r} is longer than {MOST_KEY_BYTES:,} bytes")
        for _ in range(ATTEMPTS):
            held = self._read(key)
            after = change(None if held is None else held["body"])
            if after is None:
                return False
            try:
                self._write(key, after, held)
            except (ObjectChangedError, ObjectMissingError):
                continue
            return True
        raise ObjectChangedError(
            f"others wrote {key} each of the {ATTEMPTS} times that it was to be written: try again"
        )

    def _get(self, key: str) -> dict[str, Any]:
        """Return S3's own answer about an object, and its ``body``."""
        try:
            answer: dict[str, Any] = {**self.store.client.get_object(Bucket=self.store.bucket, Key=key)}
            with answer.pop("Body") as stream:
                body = stream.read(MOST_BYTES + 1)
        except Exception as error:
            raise self.store.refusals.about_object(error) from error
        if len(body) > MOST_BYTES:
            raise ObjectTooLargeError(f"{key} is larger than {MOST_BYTES // 1024 // 1024} MB")
        return {**answer, "body": body}

    def _put(self, key: str, body: bytes, **options: Any) -> None:
        try:
            self.store.client.put_object(Bucket=self.store.bucket, Key=key, Body=body, **options)
        except Exception as error:
            code, _ = code_and_status(error)
            if code in {"PreconditionFailed", "ConditionalRequestConflict"}:
                raise ObjectChangedError("somebody else wrote the object") from error
            raise self.store.refusals.about_object(error) from error

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            held = self._get(key)
        except ObjectMissingError:
            return None
        except ObjectForbiddenError as error:
            raise ObjectForbiddenError(
                f"{key} may not be read, or would not be seen if it were there: {error}"
            ) from error
        if not held.get("ETag"):
            raise ObjectRefusedError(f"the store says no ETag of {key}, so a change of somebody else could be lost")
        return held

    def _write(self, key: str, body: bytes, held: dict[str, Any] | None) -> None:
        said = (
            {"ContentType": self.content_type} if held is None else {name: held[name] for name in _KEPT if name in held}
        )
        condition = {"IfNoneMatch": "*"} if held is None else {"IfMatch": held["ETag"]}
        with self._lock:  # until the first write has proved the store
            if self.fault is not None:
                raise ObjectRefusedError(self.fault)
            if not self._is_proven:
                self._prove(key, body, {"IfMatch": f'"{_NO_SUCH_ETAG}"'}, said)
                self._put(key, body, **condition, **said)
                self._prove(key, body, {"IfNoneMatch": "*"}, said)
                self._is_proven = True
                return
        self._put(key, body, **condition, **said)

    def _prove(self, key: str, body: bytes, condition: dict[str, str], said: dict[str, Any]) -> None:
        """Raise ``ObjectRefusedError`` if a write is done whose condition does not hold."""
        try:
            self._put(key, body, **condition, **said)
        except (ObjectChangedError, ObjectMissingError):
            return
        self.fault = (
            f"s3://{self.store.bucket} ignores the conditions of writes ({', '.join(condition)}), so a change of "
            "somebody else could be lost: write into a folder with --out, and copy it from there"
        )
        raise ObjectRefusedError(self.fault)

"""Classify the errors of a bucket: who is at fault, and what to do. Messages quote the store's code and sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import botocore.exceptions

from storage.errors import ForbiddenError, NotFoundError
from storage.objects.base import (
    CredentialsError,
    ObjectArchivedError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectRefusedError,
    SourceError,
    StoreUnavailableError,
)
from storage.texts import without_secrets

if TYPE_CHECKING:
    from storage.errors import RamqError

_CREDENTIAL_CODES = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "RequestTimeTooSkewed", "AuthorizationHeaderMalformed",
}  # fmt: skip
_TRANSIENT_CODES = {
    "InternalError", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "RequestTimeout",
    "RequestLimitExceeded", "OperationAborted", "IncompleteBody", "500", "502", "503", "504",
}  # fmt: skip
# Errors that may disappear by themselves: time-outs, conflicts, too many requests.
_PASSING_STATUS = {408, 409, 425, 429}
_NOT_IMPLEMENTED = 501

_PAYS = re.compile(r"request(?:er)?[ -]?pay", re.IGNORECASE)
_VIRTUAL_ONLY = re.compile(r"virtual[ -]?host|SecondLevelDomain", re.IGNORECASE)


class Refusals:
    """Translates the errors of one bucket.

    Args:
        bucket: its name.
        endpoint_url: an S3-compatible server, or None for AWS.
        requester_pays: whether every request declares that the requester pays.
    """

    def __init__(self, bucket: str, endpoint_url: str | None, *, requester_pays: bool) -> None:
        self._bucket = bucket
        self._is_aws = endpoint_url is None
        self._where = f"s3://{bucket}" + (f" at {without_secrets(endpoint_url)}" if endpoint_url else "")
        self._pays = requester_pays

    def about_object(self, error: Exception) -> RamqError:
        """Translate an error about one object."""
        code, status = code_and_status(error)
        if code in {"NoSuchKey", "NoSuchVersion"} or status == 404:
            return ObjectMissingError("the object no longer exists")
        if status == 412:
            return ObjectChangedError("the object changed while it was read")
        if code == "InvalidObjectState":
            return ObjectArchivedError("the object is in cold storage: restore it first")
        if code not in _CREDENTIAL_CODES and status == 403:
            return ObjectForbiddenError(f"s3://{self._bucket} answers {_said(error)}{self._hint(error)}")
        if _is_for_good(code, status):
            return ObjectRefusedError(f"s3://{self._bucket} answers {_said(error)}")
        return self.about_bucket(error)

    def about_bucket(self, error: Exception) -> RamqError:  # noqa: PLR0911
        """Translate an error about the whole bucket into one line that says what to do."""
        code, status = code_and_status(error)
        if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
            return CredentialsError(
                f"no credentials for {self._where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "in the environment of this process"
            )
        if isinstance(error, botocore.exceptions.ProfileNotFound):
            return CredentialsError(f"{error}: check AWS_PROFILE")
        if code in _CREDENTIAL_CODES:
            return CredentialsError(f"{self._where} rejects the credentials ({code}): check AWS_* and the clock")
        if code == "NoSuchBucket" or status == 404:
            return NotFoundError(f"there is no bucket {self._where}")
        if status in {401, 403}:
            said = f"{self._where} may not be read with these credentials ({code})"
            return ForbiddenError(f"{said}{self._hint(error)}")
        if isinstance(error, botocore.exceptions.ParamValidationError):
            return NotFoundError(f"{self._bucket!r} is not a valid bucket name")
        if _is_for_good(code, status):
            return SourceError(f"{self._where} answers {_said(error)}")
        if isinstance(error, botocore.exceptions.ClientError):
            return StoreUnavailableError(f"{self._where} answers {_said(error)}: try again later")
        return StoreUnavailableError(f"{self._where} cannot be reached: {first_line(error)}")

    def _hint(self, error: Exception) -> str:
        """Return a further possible cause of a 403. S3 usually does not say that the requester has to pay."""
        if _VIRTUAL_ONLY.search(_said(error)):
            return ": set RAMQ_S3_ADDRESSING=virtual"
        setting = f"RAMQ_S3_REQUESTER_PAYS=s3://{self._bucket}"
        if self._pays:
            return ""
        if _PAYS.search(str(error)):
            return f": its readers have to pay; set {setting} to agree"
        return f"; if its readers have to pay, set {setting}" if self._is_aws else ""


def code_and_status(error: Exception) -> tuple[str, int]:
    """Return S3's code for an error and its HTTP status; the class name and 0 if no server answered."""
    if not isinstance(error, botocore.exceptions.ClientError):
        return type(error).__name__, 0
    response = error.response
    return response["Error"].get("Code", "?"), response["ResponseMetadata"].get("HTTPStatusCode", 0)


def _is_for_good(code: str, status: int) -> bool:
    """Return whether a retry gives the same error until somebody changes the object or the server."""
    if code in _TRANSIENT_CODES or code in _CREDENTIAL_CODES or status in _PASSING_STATUS:
        return False
    return 400 <= status < 500 or status == _NOT_IMPLEMENTED


def _said(error: Exception) -> str:
    """Return the code and the sentence of an error in one line."""
    if not isinstance(error, botocore.exceptions.ClientError):
        return first_line(error)
    code, _ = code_and_status(error)
    sentence = " ".join(error.response["Error"].get("Message", "").split())[:300]
    return f"{code}: {sentence}" if sentence else code


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__

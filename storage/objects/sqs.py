"""A queue of SQS to which S3 sends its event notifications."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions

from storage.errors import UsageError
from storage.objects.base import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

WAIT_SECONDS = 10
"""How long a request waits for a message. Twice of it has to be less than the lease of a watch allows to stop in."""

AT_ONCE = 10
"""Messages in an answer; SQS allows no more."""

_OF_AWS = re.compile(r"(sqs\.)?(?P<region>[a-z0-9-]+)\.(queue\.)?amazonaws\.com(\.cn)?")


class QueueError(UsageError):
    """The queue cannot be used as it is set up: no such queue, no permission, wrong credentials."""

    code = "queue"


class Message(NamedTuple):
    """A message, and what deletes it."""

    body: str
    receipt: str


class Queue:
    """A queue, by its URL. Credentials are found as for buckets. Nothing is contacted yet.

    The URL is one of AWS, or of the service that ``AWS_ENDPOINT_URL_SQS`` names on this machine: whoever may add a
    watch must not be able to let a worker send signed requests to any host.

    Raises:
        QueueError: the URL is of another service.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        host = urlsplit(url).netloc
        of_aws = _OF_AWS.fullmatch(host)
        session = boto3.Session()
        try:
            self._client: Any = session.client(
                "sqs",
                region_name=of_aws["region"] if of_aws else session.region_name or "us-east-1",
                config=botocore.config.Config(
                    connect_timeout=5,
                    read_timeout=WAIT_SECONDS + 10,
                    retries={"mode": "standard", "max_attempts": 2},
                ),
            )
        except (botocore.exceptions.BotoCoreError, ValueError) as error:
            raise QueueError(f"the queue {url} cannot be used: {error}") from error
        endpoint = str(self._client.meta.endpoint_url)
        if not of_aws and urlsplit(endpoint).netloc != host:
            raise QueueError(
                f"the queue {url} is neither at AWS nor at {endpoint}: set AWS_ENDPOINT_URL_SQS on the workers to the "
                "address of the service that has it"
            )

    def receive(self, wait_seconds: int = WAIT_SECONDS) -> list[Message]:
        """Return messages; none if none came in this time. They come again if they are not deleted.

        Raises:
            QueueError: see there.
            StoreUnavailableError: try again later.
        """
        answer = self._ask(
            "receive_message", MaxNumberOfMessages=AT_ONCE, WaitTimeSeconds=wait_seconds, VisibilityTimeout=60
        )
        return [Message(each.get("Body", ""), each["ReceiptHandle"]) for each in answer.get("Messages", [])]

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages whose keys are stored. One that is not deleted comes again, which does no harm."""
        entries = [{"Id": str(place), "ReceiptHandle": each.receipt} for place, each in enumerate(messages)]
        if entries:
            self._ask("delete_message_batch", Entries=entries)

    def _ask(self, operation: str, **options: Any) -> Any:
        try:
            return getattr(self._client, operation)(QueueUrl=self.url, **options)
        except botocore.exceptions.ClientError as error:
            said = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            words = f"the queue {self.url} answered {said.get('Code', status)}: {said.get('Message', '')}".strip(": ")
            if status >= 500 or status == 429:
                raise StoreUnavailableError(words) from error
            raise QueueError(f"{words}; the workers need sqs:ReceiveMessage and sqs:DeleteMessage") from error
        except botocore.exceptions.NoCredentialsError as error:
            raise QueueError(
                f"this worker has no credentials for the queue {self.url}: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise StoreUnavailableError(f"the queue {self.url} did not answer: {error}") from error
        except ValueError as error:
            raise QueueError(f"{self.url!r} is not the URL of a queue: {error}") from error


def check_url(url: str) -> None:
    """Raise ``UsageError`` unless this may be the URL of a queue."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.path.strip("/") != ""
    except ValueError:
        is_url = False
    if not is_url or parts.username or len(url) > 1_000:
        raise UsageError(
            f"{url[:200]!r} is not the URL of a queue: write sqs:https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        )

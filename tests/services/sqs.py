"""A queue that speaks as SQS does: the server of moto, in a thread."""

from __future__ import annotations

import json
import logging
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Queues:
    """The address of the server, and what tests do with its queues."""

    endpoint_url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL_SQS": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A client of boto3."""
        return boto3.client(
            "sqs",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def make(self) -> str:
        """Make a queue. Return its URL."""
        url: str = self.client().create_queue(QueueName=f"q-{uuid.uuid4().hex[:12]}")["QueueUrl"]
        return url

    def send(self, url: str, *bodies: str) -> None:
        """Put messages into a queue."""
        client = self.client()
        for body in bodies:
            client.send_message(QueueUrl=url, MessageBody=body)

    def left(self, url: str) -> tuple[int, int]:
        """How many messages wait, and how many were received and not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client().get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])


@contextmanager
def running_queues() -> Iterator[Queues]:
    """Provide the server during the block."""
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415
    except ImportError as error:
        missing(f"moto and its server are not installed: {error}")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Queues(f"http://{host}:{port}")
    finally:
        server.stop()


def event(bucket: str, *keys: str, name: str = "ObjectCreated:Put") -> str:
    """The message of S3 about these keys, which are encoded."""
    about = ({"bucket": {"name": bucket}, "object": {"key": key}} for key in keys)
    return json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": name, "s3": each} for each in about]})

"""What stores say when an object changes: which keys to look at.

An event is only a hint. Nothing of it is taken over but the key: whether the object is there, and in which version,
is asked of the store. So events may come twice, late, or in another order.

The forms, each as its sender documents it:

* the event notifications of S3 (docs.aws.amazon.com, "Event message structure"), which MinIO, Ceph and SeaweedFS send
  too; also inside a message of SNS;
* the events of EventBridge (``detail-type`` "Object Created" and the like);
* the event notifications of R2 (``action``, ``bucket``, ``object``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from storage.errors import UsageError
from storage.objects.base import MAX_KEY_BYTES, is_below
from storage.texts import is_storable

MOST_RECORDS = 10_000
"""Events in one message. S3 sends at most a few."""

_CHANGES = (
    "ObjectCreated:", "ObjectRemoved:", "ObjectRestore:Completed", "LifecycleExpiration:", "ObjectLifecycle:Expiration",
    "ObjectSynced:",
)  # fmt: skip
"""Beginnings of the names of events after which an object may be another one, or gone. Reading one is no change."""

_OF_EVENTBRIDGE = frozenset({"Object Created", "Object Deleted", "Object Restore Completed"})
_OF_R2 = frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject", "LifecycleDeletion"})


class EventError(UsageError):
    """A message is no event that ramq knows."""

    code = "event"


@dataclass(frozen=True, slots=True)
class Told:
    """The keys that a message tells to look at, each once, and how many of its events are about something else."""

    keys: tuple[str, ...]
    ignored: int = 0


def told(body: bytes | str, bucket: str, prefix: str) -> Told:
    """Read a message.

    Args:
        body: JSON in UTF-8.
        bucket: events of other buckets are ignored.
        prefix: keys that are not this key or below it are ignored.

    Raises:
        EventError: it has none of the known forms.
    """
    keys: dict[str, None] = {}
    ignored = 0
    for record in _records(_parsed(body)):
        named = [key for key in _keys(record, bucket) if is_below(key, prefix)]
        keys.update(dict.fromkeys(named))
        ignored += not named
    return Told(tuple(keys), ignored)


def _parsed(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise EventError("the message is not JSON in UTF-8: send the event notifications of S3 here") from None


def _records(message: Any, *, is_inside: bool = False) -> list[dict[str, Any]]:
    """Return the events of a message. A test event, which S3 sends when notifications are set up, has none."""
    if isinstance(message, dict):
        if message.get("Event") == "s3:TestEvent":
            return []
        inner = message.get("Message")
        if message.get("Type") == "Notification" and isinstance(inner, str) and not is_inside:
            return _records(_parsed(inner), is_inside=True)
        records = message.get("Records")
        if isinstance(records, list):
            if len(records) > MOST_RECORDS:
                raise EventError(f"the message has more than {MOST_RECORDS:,} events: send fewer at a time")
            if all(isinstance(record, dict) and isinstance(record.get("s3"), dict) for record in records):
                return records
        if "detail-type" in message or "action" in message:
            return [message]
    raise EventError(
        "the message is JSON, but no event notification of S3: it needs a list `Records`, each with `eventName` and "
        "`s3`, or the form of EventBridge or R2"
    )


def _keys(record: dict[str, Any], bucket: str) -> list[str]:
    """Return the key of an event, in each way in which it may be meant; none if it is about something else."""
    if "s3" in record:
        about, name = record["s3"], str(record.get("eventName", "")).removeprefix("s3:")
        is_change, encoded = name.startswith(_CHANGES), True
    elif "detail-type" in record:
        about, encoded = record.get("detail"), False
        is_change = str(record["detail-type"]) in _OF_EVENTBRIDGE
    else:
        about, encoded = {**record, "bucket": {"name": record.get("bucket")}}, False
        is_change = str(record["action"]) in _OF_R2
    place, item = (about.get("bucket"), about.get("object")) if isinstance(about, dict) else (None, None)
    if not isinstance(place, dict) or not isinstance(item, dict) or not isinstance(item.get("key"), str):
        raise EventError("an event names no bucket and key: it needs `bucket.name` and `object.key`")
    if not is_change or place.get("name") != bucket:
        return []
    found = [unquote_plus(item["key"])] if encoded else [item["key"]]
    # S3 and MinIO encode keys as forms do. Ceph sends some as they are. A key that does not exist costs one request.
    if encoded and record.get("eventSource") != "aws:s3":
        found.append(item["key"])
    return [key for key in dict.fromkeys(found) if _is_key(key)]


def _is_key(key: str) -> bool:
    """Return whether a key may be that of an image: no marker of a folder, and short enough to be kept."""
    return bool(key) and not key.endswith("/") and is_storable(key) and len(key.encode()) <= MAX_KEY_BYTES

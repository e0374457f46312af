"""What stores say of changes: which keys are looked at, whatever the form, and what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.objects.base import MAX_KEY_BYTES
from storage.objects.events import EventError, Told, told


def record(key: str, name: str = "s3:ObjectCreated:Put", bucket: str = "photos", source: str = "aws:s3") -> Any:
    about = {"bucket": {"name": bucket}, "object": {"key": key, "versionId": "3", "sequencer": "0A"}}
    return {"eventName": name, "eventSource": source, "s3": about}


def message(*records: Any) -> str:
    return json.dumps({"EventName": "s3:ObjectCreated:Put", "Key": "photos/a.jpg", "Records": list(records)})


def keys(body: str, prefix: str = "") -> tuple[str, ...]:
    return told(body, "photos", prefix).keys


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("a.jpg", "a.jpg"),
        ("summer+days/a+b.jpg", "summer days/a b.jpg"),
        ("a%2Bb.jpg", "a+b.jpg"),
        ("100%25.jpg", "100%.jpg"),
        ("%E6%B5%B7/%C3%A9.jpg", "海/é.jpg"),
    ],
)
def test_keys_of_s3_are_encoded_as_forms_are(sent: str, meant: str) -> None:
    assert keys(message(record(sent))) == (meant,)


def test_of_other_stores_the_key_as_it_is_sent_is_looked_at_too() -> None:
    assert keys(message(record("a+b.jpg", source="ceph:s3"))) == ("a b.jpg", "a+b.jpg")
    assert keys(message(record("a.jpg", source="minio:s3"))) == ("a.jpg",)


@pytest.mark.parametrize(
    "name",
    [
        "ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete", "ObjectRestore:Completed",
        "s3:ObjectLifecycle:Expiration:Current",
    ],
)  # fmt: skip
def test_after_a_change_of_any_kind_the_key_is_looked_at(name: str) -> None:
    assert keys(message(record("a.jpg", name))) == ("a.jpg",)


@pytest.mark.parametrize("name", ["s3:ObjectAccessed:Get", "ObjectTagging:Put", "ObjectAcl:Put", "ObjectRestore:Post"])
def test_reading_an_object_is_no_change_or_our_own_reading_would_never_end(name: str) -> None:
    assert told(message(record("a.jpg", name)), "photos", "") == Told((), 1)


def test_events_of_other_buckets_and_outside_of_the_prefix_are_counted_and_ignored() -> None:
    sent = message(
        record("2024/a.jpg"),
        record("2024/a.jpg", bucket="others"),
        record("2023/a.jpg"),
        record("20245.jpg"),
        record("2024/folder/"),
    )
    assert told(sent, "photos", "2024") == Told(("2024/a.jpg",), 4)


def test_repeated_and_reversed_events_are_one_key() -> None:
    sent = message(record("a.jpg", "ObjectRemoved:Delete"), record("a.jpg"), record("a.jpg"))
    assert told(sent, "photos", "") == Told(("a.jpg",), 0)


def test_the_test_event_of_s3_is_about_nothing() -> None:
    sent = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"})
    assert told(sent, "photos", "") == Told((), 0)


def test_a_message_may_come_through_sns_and_eventbridge_and_from_r2() -> None:
    sns = json.dumps({"Type": "Notification", "Message": message(record("a+b.jpg"))})
    assert keys(sns) == ("a b.jpg",)
    detail = {"bucket": {"name": "photos"}, "object": {"key": "a+b.jpg"}}
    bridge = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
    assert keys(json.dumps(bridge)) == ("a+b.jpg",)
    assert keys(json.dumps({**bridge, "detail-type": "Object Tags Added"})) == ()
    r2 = {"account": "1", "action": "PutObject", "bucket": "photos", "object": {"key": "a b.jpg", "size": 3}}
    assert keys(json.dumps(r2)) == ("a b.jpg",)
    assert keys(json.dumps({**r2, "bucket": "others"})) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"{", b"[]", b"3", b"null", b"{}", b'{"Records": {}}', b'{"Records": [3]}',
        b'{"Records": [{"s3": {}}]}', b'{"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {}}}]}',
        b'{"action": "PutObject"}', b'{"detail-type": "Object Created", "detail": 3}',
        b'{"Type": "Notification", "Message": "no"}', b"[" * 100_000,
        b'{"Records": [' + b'{"s3": {}},' * 10_000 + b'{"s3": {}}]}',
        json.dumps({"Type": "Notification", "Message": json.dumps({"Type": "Notification", "Message": "{}"})}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_in_words(body: bytes) -> None:
    with pytest.raises(EventError, match=r"message|event") as refused:
        told(body, "photos", "")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["a\x00.jpg", "\ud800.jpg", "a" * (MAX_KEY_BYTES + 1), ""])
def test_keys_that_cannot_be_kept_are_ignored(key: str) -> None:
    assert told(message(record(key)), "photos", "") == Told((), 1)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["Records", "s3", "bucket", "object", "key", "name", "eventName", "detail",
                                       "detail-type", "action", "Type", "Message"]), inner, max_size=4)
), max_leaves=12))  # fmt: skip
def test_any_json_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(EventError):
        assert isinstance(told(json.dumps(value), "photos", ""), Told)

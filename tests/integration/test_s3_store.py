"""Buckets as archives, on a real S3 server and behind a proxy that lets faults happen."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from storage.errors import ForbiddenError, NotFoundError, RamqError
from storage.objects import s3
from storage.objects.base import (
    BadKeyError,
    CredentialsError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
)
from storage.objects.s3 import S3Store
from storage.objects.s3_listing import info_of
from tests.services.fault_proxy import Cut, Refuse, Reset, Stall, Status
from tests.services.recording_s3 import recording_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storage.objects.base import ObjectInfo
    from tests.services.fault_proxy import FaultProxy
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services

KEYS = [
    "a b.jpg", "a+b.jpg", "a%20b.jpg", "a%.jpg", "a%2Fb", "a#b", "a?b=c", "a&b", "a=b", "a;b", "a:b", "a,b", "a@b",
    "a$b", "a!b", "a(b)", "a*b", "\u00e9.jpg", "e\u0301.jpg", "\U0001f600.jpg", "\u5199\u771f/\u732b.jpg", "new\nline",
    "tab\tb", 'double"quote', "single'quote", "<x>", "{x}", "[x]", "^", "`", "|", "~t", "\u202egpj.exe", "end ", "dot.",
    "a\x01b", "a\x7fb", "\u00a0", "\ufeffx", "\u2028", "-", "..jpg", "...", "deep/" * 40 + "x.jpg",
    "d" * 200 + "/" + "x" * 250,
]  # fmt: skip
UNTOUCHED = [
    "..", "../x", "a/../b", "a/./b", "./c", "a//b", "/lead", "//two", "back\\slash", "x" * 1024, "\u00fc" * 500,
    "trailing//", ".", "a/", "a b", "a+b", "a%2Fb", "new\nline",
]  # fmt: skip
"""Keys that AWS allows and the server of these tests does not keep."""


@pytest.fixture(autouse=True)
def _credentials(no_aws_environment: None, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    """An empty bucket that goes with its test: the server has room for some tens of them."""
    name = s3_server.make_bucket()
    yield name
    client = s3_server.client()
    client.delete_bucket(Bucket=name)  # this server also deletes what is in it
    client.close()


@pytest.fixture
def store(s3_server: S3Server, bucket: str) -> S3Store:
    return S3Store(bucket, s3_server.endpoint_url)


@pytest.fixture
def hasty(s3_proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A store behind the proxy that loses patience soon."""
    monkeypatch.setattr(s3, "READ_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(s3, "CONNECT_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    return S3Store(bucket, s3_proxy.url)


def listed(store: S3Store, prefix: str = "", after: str | None = None) -> list[ObjectInfo]:
    return [info for page in store.pages(prefix, after) for info in page]


def keys(store: S3Store, prefix: str = "", after: str | None = None) -> list[str]:
    return [info.key for info in listed(store, prefix, after)]


def is_plain(key: str) -> bool:
    return s3._PLAIN_KEY.fullmatch(key) is not None


# Keys --------------------------------------------------------------------------------------------------------------


def test_every_key_goes_from_the_listing_to_its_bytes(s3_server: S3Server, store: S3Store, bucket: str) -> None:
    contents = {key: f"content of {number}".encode() for number, key in enumerate(KEYS)}
    s3_server.put(bucket, contents)
    found = {info.key: info for info in listed(store)}
    assert set(found) == set(KEYS)
    for key, content in contents.items():
        assert found[key].size_bytes == len(content)
        for get in (store.fetch, store._get_with_boto3, *([store._get_fast] if is_plain(key) else [])):
            fetched = get(key, found[key].version, 1000)
            assert bytes(fetched.body) == content, (key, get)
            assert fetched.version == found[key].version, (key, get)


def test_ordinary_keys_take_the_quick_way_and_those_it_would_alter_do_not() -> None:
    assert all(
        map(is_plain, ["a.jpg", "2024/07/IMG_0001.JPG", "a b+c&d=e (1).jpg", "\u5199\u771f/\u732b.jpg", "..jpg"])
    )
    assert not any(map(is_plain, ["..", "a/../b", "a/./b", "a//b", "/a", "a/", "a%20b", "a\\b", "a\nb", ""]))


def test_keys_that_look_like_paths_to_elsewhere_are_asked_for_letter_by_letter() -> None:
    with recording_server() as (url, requests):
        store = S3Store("bucket", url)
        for key in UNTOUCHED:
            assert bytes(store.fetch(key, "", 10).body) == b"x"
            asked, _, _ = requests[-1].path.partition("?")
            assert unquote(asked) == f"/bucket/{key}"


def test_a_key_that_cannot_be_stored_is_listed_in_storable_form_and_fails_with_advice(store: S3Store) -> None:
    info = info_of({"Key": "a\x00b", "ETag": '"e"', "Size": 1, "LastModified": None})
    assert info.key == r"a\x00b"
    with pytest.raises(BadKeyError, match="copy the object to another key"):
        store.fetch(info.key, info.version, 100)


def test_a_marker_of_a_folder_is_told_from_a_picture(s3_server: S3Server, store: S3Store, bucket: str) -> None:
    s3_server.put(bucket, {"folder/": b"", "folder/a.jpg": b"a", "empty.jpg": b""})
    assert {info.key: info.is_marker for info in listed(store)} == {
        "empty.jpg": False,
        "folder/": True,
        "folder/a.jpg": False,
    }


# Listing -----------------------------------------------------------------------------------------------------------


def test_a_listing_of_many_pages_goes_on_after_any_key(
    s3_server: S3Server, store: S3Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(f"{number % 7}/{number:03}" for number in range(60))
    s3_server.put(bucket, dict.fromkeys(names, b"x"))
    monkeypatch.setattr(s3, "PAGE_SIZE", 9)
    assert [len(page) for page in store.pages("", None)] == [9] * 6 + [6]
    for position, key in enumerate(names):
        assert keys(store, after=key) == names[position + 1 :]
    assert keys(store, after="3/deleted since") == [name for name in names if name > "3/deleted since"]


@pytest.mark.slow
def test_more_keys_than_the_server_gives_at_once_are_all_listed(
    s3_server: S3Server, store: S3Store, bucket: str
) -> None:
    names = [f"{number:05}" for number in range(1_050)]
    s3_server.put(bucket, dict.fromkeys(names, b"x"))
    pages = list(store.pages("", None))
    assert [len(page) for page in pages] == [1_000, 50]
    assert [info.key for page in pages for info in page] == names


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(s3_server: S3Server, store: S3Store, bucket: str) -> None:
    s3_server.put(bucket, dict.fromkeys(["a/b", "a/c/d", "ab", "abc/d", "a.b", "b"], b"x"))
    assert keys(store, "a") == ["a/b", "a/c/d"]
    assert keys(store, "a/") == ["a/b", "a/c/d"]
    assert keys(store, "a/c") == ["a/c/d"]
    assert keys(store, "ab") == ["ab"]
    assert keys(store, "ab", after="ab") == []
    assert keys(store, "nothing") == []
    assert keys(store, "a", after="a/b") == ["a/c/d"]


# Fetching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a.jpg", "a%.jpg"])
def test_an_object_that_changed_since_it_was_listed_comes_as_it_is_now(
    s3_server: S3Server, store: S3Store, bucket: str, key: str
) -> None:
    s3_server.put(bucket, {key: b"old"})
    (before,) = listed(store)
    s3_server.put(bucket, {key: b"new content"})
    fetched = store.fetch(key, before.version, 100)
    assert bytes(fetched.body) == b"new content"
    assert fetched.version == listed(store)[0].version != before.version


@pytest.mark.parametrize("key", ["a.jpg", "a%.jpg"])
def test_an_object_that_is_gone_is_missing(s3_server: S3Server, store: S3Store, bucket: str, key: str) -> None:
    with pytest.raises(ObjectMissingError):
        store.fetch(key, "x", 100)


@pytest.mark.parametrize("key", ["a.jpg", "a%.jpg"])
def test_a_large_object_is_refused_before_its_body_is_read(
    s3_server: S3Server, s3_proxy: FaultProxy, bucket: str, key: str
) -> None:
    s3_server.put(bucket, {key: b"x" * 1_000_000})
    store = S3Store(bucket, s3_proxy.url)
    assert len(store.fetch(key, "", 1_000_000).body) == 1_000_000
    s3_proxy.fail(Stall(after_bytes=10_000))  # the body would never end
    with pytest.raises(ObjectTooLargeError, match="1,000,000 bytes exceed the limit of 999,999"):
        store.fetch(key, "", 999_999)


def test_many_threads_may_use_one_store_from_its_first_moment(s3_server: S3Server, store: S3Store, bucket: str) -> None:
    s3_server.put(bucket, {f"{number}%"[: 1 + number % 2] + str(number): str(number).encode() for number in range(16)})
    names = keys(store)
    fresh = S3Store(bucket, store.endpoint_url)
    bodies: dict[str, bytes] = {}
    gate = threading.Barrier(len(names))

    def get(key: str) -> None:
        gate.wait()
        bodies[key] = bytes(fresh.fetch(key, "", 100).body)

    threads = [threading.Thread(target=get, args=(key,)) for key in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == {key: bytes(store.fetch(key, "", 100).body) for key in names}


# FaultHooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Status(503), Status(500), Reset(), Cut(after_bytes=100)], ids=str)
@pytest.mark.parametrize("key", ["a.jpg", "a%.jpg"])
def test_a_short_fault_is_not_noticed(
    s3_server: S3Server, s3_proxy: FaultProxy, bucket: str, key: str, fault: Status | Reset | Cut
) -> None:
    s3_server.put(bucket, {key: b"x" * 100_000})
    store = S3Store(bucket, s3_proxy.url)
    store.check()
    s3_proxy.fail(fault, only="/a", times=1)
    try:
        body = store.fetch(key, "", 1_000_000).body
    except StoreUnavailableError:
        assert isinstance(fault, Cut)  # a cut body is the caller's to fetch again, and never taken for the whole
        body = store.fetch(key, "", 1_000_000).body
    assert bytes(body) == b"x" * 100_000


@pytest.mark.parametrize(
    "fault",
    [Status(503), Status(500), Reset(), Refuse(), Cut(after_bytes=100), Stall(), Stall(after_bytes=100)],
    ids=str,
)
@pytest.mark.parametrize("key", ["a.jpg", "a%.jpg"])
def test_a_lasting_fault_is_worth_another_try_later(
    s3_server: S3Server, s3_proxy: FaultProxy, hasty: S3Store, bucket: str, key: str, fault: Status
) -> None:
    s3_server.put(bucket, {key: b"x" * 100_000})
    hasty.check()
    s3_proxy.fail(fault)
    with pytest.raises(StoreUnavailableError) as caught:
        hasty.fetch(key, "", 1_000_000)
    assert "\n" not in str(caught.value)
    s3_proxy.heal()
    assert len(hasty.fetch(key, "", 1_000_000).body) == 100_000


@pytest.mark.parametrize("fault", [Status(503), Reset(), Refuse(), Stall(), Cut(after_bytes=10)], ids=str)
def test_a_listing_that_breaks_off_says_so_and_goes_on_where_it_was(
    s3_server: S3Server,
    s3_proxy: FaultProxy,
    hasty: S3Store,
    bucket: str,
    fault: Status,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{number:02}" for number in range(20)]
    s3_server.put(bucket, dict.fromkeys(names, b"x"))
    monkeypatch.setattr(s3, "PAGE_SIZE", 8)
    pages = hasty.pages("", None)
    assert [info.key for info in next(pages)] == names[:8]
    s3_proxy.fail(fault)
    with pytest.raises(StoreUnavailableError):
        next(pages)
    s3_proxy.heal()
    assert keys(hasty, after=names[7]) == names[8:]


def test_an_object_that_is_forbidden_is_that_objects_failure(
    s3_server: S3Server, s3_proxy: FaultProxy, bucket: str
) -> None:
    s3_server.put(bucket, {"a.jpg": b"x", "b.jpg": b"y"})
    store = S3Store(bucket, s3_proxy.url)
    s3_proxy.fail(Status(403), only="/a.jpg")
    with pytest.raises(ObjectForbiddenError, match="AccessDenied"):
        store.fetch("a.jpg", "", 100)
    assert bytes(store.fetch("b.jpg", "", 100).body) == b"y"


def test_a_bucket_that_may_not_be_listed_says_so(s3_proxy: FaultProxy, bucket: str) -> None:
    s3_proxy.fail(Status(403))
    with pytest.raises(ForbiddenError, match="may not be read with these credentials"):
        S3Store(bucket, s3_proxy.url).check()


def test_a_bucket_that_is_not_there_says_so(s3_server: S3Server) -> None:
    with pytest.raises(NotFoundError, match="there is no bucket s3://no-such-bucket at http"):
        S3Store("no-such-bucket", s3_server.endpoint_url).check()
    with pytest.raises(NotFoundError, match="is not a valid bucket name"):
        S3Store("NO/bucket", s3_server.endpoint_url).check()


ASKS: dict[str, Callable[[S3Store], object]] = {
    "check": lambda store: store.check(),
    "list": lambda store: list(store.pages("a", None)),
    "fetch": lambda store: store.fetch("a.jpg", "", 100),
    "fetch-slowly": lambda store: store.fetch("a%.jpg", "", 100),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "wrong-key"}, "InvalidAccessKeyId"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "check AWS_PROFILE"),
    ],
)
def test_credentials_that_are_wrong_are_the_set_ups_fault_and_the_message_says_what_to_do(
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    ask: str,
    environment: dict[str, str],
    advice: str,
) -> None:
    s3_server.put(bucket, {"a.jpg": b"x", "a%.jpg": b"x"})
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value) if value else patched.delenv(name)
        with pytest.raises(CredentialsError, match=advice) as caught:
            ASKS[ask](S3Store(bucket, s3_server.endpoint_url))
    message = str(caught.value)
    assert "\n" not in message
    assert "AWS_" in message
    for secret in ("wrong-secret", s3_server.secret_key, s3_server.access_key):
        assert secret not in message


def test_no_message_tells_a_secret(s3_server: S3Server, s3_proxy: FaultProxy, hasty: S3Store, bucket: str) -> None:
    with_password = S3Store("no-such-bucket", s3_server.endpoint_url.replace("//", "//somebody:their-password@"))
    told = []
    for fault in (Status(403), Status(404), Status(500), Reset(), Refuse(), Stall()):
        s3_proxy.fail(fault)
        for ask in ASKS.values():
            with pytest.raises(RamqError) as caught:
                ask(hasty)
            told.append(str(caught.value))
    with pytest.raises(RamqError) as caught:
        with_password.check()
    told.append(str(caught.value))
    for message in told:
        assert "\n" not in message
        for secret in (s3_server.secret_key, s3_server.access_key, "their-password", "Signature", "Credential="):
            assert secret not in message


def test_the_bucket_is_found_in_its_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store("bucket")
    monkeypatch.setattr(store.client, "head_bucket", lambda **_: {"BucketRegion": "eu-central-1"})
    assert store._fast.config["region"] == "eu-central-1"


def test_an_endpoint_from_the_environment_counts_for_both_ways_to_fetch(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.put(bucket, {"a.jpg": b"x", "a%.jpg": b"y"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    store = S3Store(bucket)
    assert [bytes(store.fetch(key, "", 10).body) for key in ("a.jpg", "a%.jpg")] == [b"x", b"y"]

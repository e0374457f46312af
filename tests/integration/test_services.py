"""The test services themselves: what other tests lean on must hold."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.exceptions import PermissionDeniedError
from obstore.store import S3Store
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from tests.services.fault_proxy import Cut, FaultProxy, Refuse, Reset, Stall, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.redis import RedisServer
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services

_BODY = bytes(range(256)) * 4096


def get_raw(url: str, path: str, *, timeout_seconds: float = 10) -> bytes:
    """All that the other side sends to a plain request until it closes."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout_seconds) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


@pytest.fixture
def store(s3_server: S3Server, s3_proxy: FaultProxy, bucket: str) -> S3Store:
    """A bucket with one object, read through the proxy without any second try."""
    s3_server.put(bucket, {"a/picture.jpg": _BODY})
    return S3Store(
        bucket,
        endpoint=s3_proxy.url,
        access_key_id=s3_server.access_key,
        secret_access_key=s3_server.secret_key,
        region=s3_server.region,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def test_each_test_gets_a_migrated_database_of_its_own(database_url: str, empty_database_url: str) -> None:
    tables = {}
    for url in (database_url, empty_database_url):
        engine = create_engine(url, poolclass=NullPool)
        tables[url] = inspect(engine).get_table_names()
        engine.dispose()
    assert "alembic_version" in tables[database_url]
    assert tables[empty_database_url] == []


def test_the_broker_is_empty(redis_server: RedisServer, broker_url: str) -> None:
    with redis_server.client() as client:
        assert client.dbsize() == 0


def test_the_s3_server_refuses_a_wrong_key_and_gives_the_right_one_what_was_put(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "été 猫.txt").write_bytes(b"meow")
    assert s3_server.upload_folder(tmp_path, bucket, "in/") == ["in/sub/été 猫.txt"]
    options = {"endpoint": s3_server.endpoint_url, "region": s3_server.region, "client_options": {"allow_http": True}}
    good = S3Store(bucket, access_key_id=s3_server.access_key, secret_access_key=s3_server.secret_key, **options)
    assert bytes(obstore.get(good, "in/sub/été 猫.txt").bytes()) == b"meow"
    bad = S3Store(bucket, access_key_id=s3_server.access_key, secret_access_key="wrong", **options)
    with pytest.raises(PermissionDeniedError):
        obstore.get(bad, "in/sub/été 猫.txt")


def test_the_proxy_hands_through_signed_requests_both_ways(
    store: S3Store, s3_proxy: FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    assert bytes(obstore.get(store, "a/picture.jpg").bytes()) == _BODY
    obstore.put(store, "b/other.jpg", _BODY[:100_000])
    assert bytes(obstore.get(store, "b/other.jpg").bytes()) == _BODY[:100_000]
    assert s3_proxy.requests[0] == ("GET", f"/{bucket}/a/picture.jpg")


def test_a_storm_of_503_passes_when_healed(store: S3Store, s3_proxy: FaultProxy) -> None:
    s3_proxy.fail(Status(503))
    with pytest.raises(Exception, match="503"):
        obstore.get(store, "a/picture.jpg")
    s3_proxy.heal()
    assert bytes(obstore.get(store, "a/picture.jpg").bytes()) == _BODY


def test_a_fault_hits_so_many_requests_of_the_keys_it_is_meant_for(store: S3Store, s3_proxy: FaultProxy) -> None:
    obstore.put(store, "b/other.jpg", b"x")
    s3_proxy.fail(Status(403), only="picture", times=1)
    assert bytes(obstore.get(store, "b/other.jpg").bytes()) == b"x"
    with pytest.raises(PermissionDeniedError):
        obstore.get(store, "a/picture.jpg")
    assert bytes(obstore.get(store, "a/picture.jpg").bytes()) == _BODY


def test_a_cut_body_ends_after_so_many_bytes_though_more_was_promised(
    store: S3Store, s3_proxy: FaultProxy, s3_server: S3Server, bucket: str
) -> None:
    s3_proxy.fail(Cut(after_bytes=1000))
    client = s3_server.client()
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/picture.jpg"})
    client.close()
    target = url.removeprefix(s3_server.endpoint_url)
    parts = urlsplit(s3_server.endpoint_url)
    with socket.create_connection(("127.0.0.1", urlsplit(s3_proxy.url).port or 0), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(_BODY)}".encode() in head.lower()
    assert body == _BODY[:1000]


def test_what_stalls_goes_on_when_healed(store: S3Store, s3_proxy: FaultProxy) -> None:
    s3_proxy.fail(Stall(after_bytes=10))
    healer = threading.Timer(0.5, s3_proxy.heal)
    healer.start()
    assert bytes(obstore.get(store, "a/picture.jpg").bytes()) == _BODY
    healer.join()


def test_a_stall_outlasts_the_patience_of_a_client(s3_proxy: FaultProxy) -> None:
    s3_proxy.fail(Stall())
    parts = urlsplit(s3_proxy.url)
    with socket.create_connection(("127.0.0.1", parts.port or 0), timeout=0.3) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_reset_reaches_the_client(s3_proxy: FaultProxy) -> None:
    s3_proxy.fail(Reset())
    with pytest.raises(ConnectionResetError):
        get_raw(s3_proxy.url, "/")


def test_a_refused_connection_is_taken_again_when_healed(s3_proxy: FaultProxy) -> None:
    s3_proxy.fail(Refuse())
    with pytest.raises(ConnectionRefusedError):
        get_raw(s3_proxy.url, "/")
    s3_proxy.heal()
    assert get_raw(s3_proxy.url, "/").startswith(b"HTTP/1.1 ")

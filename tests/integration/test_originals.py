"""The original of an image over HTTP: whole, in part, refused, hostile; and HEAD wherever GET is answered."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from ramq.services.originals import Original
from storage.objects.base import ObjectChangedError
from storage.objects.s3 import S3Store
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


def image_named(client: TestClient, key: str) -> int:
    return services_of(client).images.find(key)


@pytest.fixture
def cat(client: TestClient) -> str:
    return f"/v1/images/{image_named(client, 'chelsea.png')}/original"


def test_an_original_comes_as_it_is_and_not_again_if_it_is_known(client: TestClient, cat: str, archive: Path) -> None:
    answer = client.get(cat)
    assert answer.content == (archive / "chelsea.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''chelsea.png"
    assert answer.headers["content-length"] == str(len(answer.content))
    again = client.get(cat, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-99", 0, 100), ("100-100", 100, 101), ("-7", -7, None), ("200000-", 200_000, None), ("5-99999999999", 5, None)],
)
def test_a_part_is_sent_alone(
    client: TestClient, cat: str, archive: Path, asked: str, start: int, end: int | None
) -> None:
    whole = (archive / "chelsea.png").read_bytes()
    answer = client.get(cat, headers={"range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.content == whole[start:end]
    begin = start % len(whole)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(answer.content) - 1}/{len(whole)}"


def test_what_is_no_part_is_said_and_what_cannot_be_read_is_ignored(client: TestClient, cat: str) -> None:
    size = len(client.get(cat).content)
    answer = client.get(cat, headers={"range": f"bytes={size}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
    for odd in ("bytes=-", "lines=1-2", "bytes=1-2,5-6", f"bytes={'9' * 5000}-"):
        assert (client.get(cat, headers={"range": odd}).status_code, odd) == (200, odd)
    stale = client.get(cat, headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert (stale.status_code, len(stale.content)) == (200, size)


def test_a_file_that_is_no_picture_is_a_download_that_runs_nothing(client: TestClient) -> None:
    answer = client.get(f"/v1/images/{image_named(client, 'notes.jpg')}/original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


def test_an_original_that_is_gone_or_not_allowed_is_a_problem(
    make_client: Callable[..., TestClient], client: TestClient, cat: str, archive: Path
) -> None:
    assert_problem(make_client(archive_allow=("/elsewhere",)).get(cat), 403, "forbidden")
    assert_problem(client.get("/v1/images/999999/original"), 404, "not-found")
    hidden = archive / "hidden"
    (archive / "chelsea.png").rename(hidden)
    try:
        assert_problem(client.get(cat), 422, "missing")
    finally:
        hidden.rename(archive / "chelsea.png")


def test_an_original_in_a_bucket_is_read_in_parts_and_not_if_it_changes(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    body = b"\x89PNG\r\n\x1a\n" + os.urandom(1_000_000)
    s3_server.put(bucket, {"a.png": body})
    original = Original(S3Store(bucket, s3_server.endpoint_url), "a.png", "")
    info = original.info()
    assert original.media_type(info) == "image/png"
    chunks = list(original.read(info, 1_000, 700_000))
    assert hashlib.sha256(b"".join(chunks)).digest() == hashlib.sha256(body[1_000:701_000]).digest()
    assert len(chunks) > 1
    s3_server.put(bucket, {"a.png": b"other"})
    with pytest.raises(ObjectChangedError):
        original.read(info, 0, 10)


def test_head_is_answered_wherever_get_is(client: TestClient, cat: str) -> None:
    document = client.get("/v1/openapi.json").json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods and "{" not in path]
    screens = ["/", "/jobs", "/jobs/1", "/archives", "/generations", "/images/1", "/suggest?q=ca"]
    for path in (*paths, *screens, cat, "/v1/jobs/1", "/v1/jobs/1/events", "/v1/images/1/thumbnail"):
        params = {"a": 1, "b": 1} if path.endswith("compare") else {}
        answer, head = client.get(path, params=params), client.head(path, params=params)
        assert (head.status_code, head.content, path) == (answer.status_code, b"", path)
        assert head.headers["content-type"] == answer.headers["content-type"]
        if "content-length" in answer.headers and path not in {"/metrics", "/"}:
            assert head.headers["content-length"] == answer.headers["content-length"]
    assert client.head("/v1/jobs/1/pause").status_code == 405
    assert client.head("/v1/images/999999").status_code == 404


def test_a_parameter_that_an_address_does_not_take_is_refused_by_name(client: TestClient) -> None:
    problem: dict[str, Any] = assert_problem(
        client.get("/v1/search", params={"tags": "castle"}), 422, "invalid-request"
    )
    assert problem["errors"][0]["field"] == "query.tags"
    assert "the parameters are any, archive, cursor" in problem["detail"]
    for method, path in (
        ("GET", "/v1/jobs"),
        ("GET", "/v1/images/1"),
        ("POST", "/v1/jobs/1/pause"),
        ("GET", "/v1/tags"),
    ):
        assert client.request(method, path, params={"surprise": 1}).status_code == 422
    assert client.get("/", params={"utm_source": "mail"}).status_code == 200


def test_a_relative_folder_is_refused_over_http(client: TestClient) -> None:
    for source in ("photos", "./photos", "~/photos", "../photos", "list.csv"):
        problem = assert_problem(client.post("/v1/jobs", json={"source": source}), 422, "usage")
        assert "is a relative path" in problem["detail"]
    assert "is a relative path" in client.post("/jobs", data={"source": "photos"}).text


def test_a_server_without_credentials_says_so(client: TestClient, no_aws_environment: None) -> None:
    answer = client.post("/v1/jobs", json={"source": "s3://photos"})
    problem = assert_problem(answer, 503, "credentials")
    assert "this server cannot read s3://photos: no credentials" in problem["detail"]
    watch = assert_problem(client.post("/v1/watches", json={"source": "s3://photos"}), 503, "credentials")
    assert "this server cannot read s3://photos: no credentials" in watch["detail"]
    page = client.post("/jobs", data={"source": "s3://photos"})
    assert "no credentials" in page.text
    assert len(services_of(client).jobs.list().items) == 1

"""Sidecars in buckets: only where it is allowed, merged with what is there, and nobody's edit is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ram_core.xmp_packet import Words, written
from ramq.demo_photos import installed_photographs
from ramq.services.sidecars import SidecarPlace, write_sidecars
from ramq.wiring import Services
from storage.errors import ForbiddenError, UsageError
from storage.objects import s3_writes
from storage.objects.base import BadKeyError, ObjectChangedError, ObjectRefusedError
from storage.objects.s3 import S3Store
from storage.objects.s3_writes import BucketWriter
from storage.objects.source import parse_source
from storage.search.views import SearchQuery
from tests.services.command_line import run_here
from tests.services.recognised import CAT, recognise, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from mypy_boto3_s3 import S3Client
    from sqlalchemy import Engine

    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Client:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    client = s3_server.client()
    yield client
    client.close()


@pytest.fixture
def archive(s3: S3Client, bucket: str) -> str:
    """A bucket with two pictures below a prefix."""
    cat = next(path for path in installed_photographs() if path.name == "chelsea.png").read_bytes()
    for key in ("photos/2024/IMG 1+2.png", "photos/cat.png"):
        s3.put_object(Bucket=bucket, Key=key, Body=cat)
    return f"s3://{bucket}/photos"


@pytest.fixture
def services(s3_server: S3Server, archive: str, engine: Engine, tmp_path: Path) -> Services:
    settings = settings_for(tmp_path / "data", s3_endpoint_url=s3_server.endpoint_url)
    services = Services(settings, engine, None, is_reachable=False)
    assert recognise(services, archive).done == 2
    return services


@pytest.fixture
def run(services: Services, s3_server: S3Server, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    environment = {
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        **s3_server.environment,
    }

    def run(*words: str, allow: str = "") -> CompletedProcess[str]:
        return run_here(words, {**environment, "RAMQ_WRITE_ALLOW": allow})

    return run


def listed(s3: S3Client, bucket: str, prefix: str = "") -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def read(s3: S3Client, bucket: str, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def test_nothing_is_written_to_a_bucket_that_is_not_allowed(run: Any, s3: S3Client, bucket: str) -> None:
    for words in (("--beside",), ("--to", f"s3://{bucket}/sidecars")):
        for allow in ("", f"s3://{bucket}/other", f"s3://{bucket}/side"):
            told = run("sidecars", *words, allow=allow)
            assert told.returncode == 1, told
            assert "add it to RAMQ_WRITE_ALLOW" in told.stderr
    assert run("sidecars", "--beside", allow="/folder").returncode == 1
    assert len(listed(s3, bucket)) == 2


def test_sidecars_are_written_below_a_prefix_once_and_again_when_something_changed(
    run: Any, s3: S3Client, bucket: str
) -> None:
    words = ("sidecars", "--to", f"s3://{bucket}/sidecars/")
    told = run(*words, allow=f"s3://{bucket}/sidecars")
    assert (told.returncode, told.stdout) == (0, "2 sidecars written, 0 up to date, 0 left out\n"), told.stderr
    keys = ["sidecars/photos/2024/IMG 1+2.png.xmp", "sidecars/photos/cat.png.xmp"]
    assert listed(s3, bucket, "sidecars/") == keys
    assert CAT.encode() in read(s3, bucket, keys[0])
    assert s3.head_object(Bucket=bucket, Key=keys[0])["ContentType"] == "application/rdf+xml"
    assert run(*words, allow=f"s3://{bucket}").stdout == "0 sidecars written, 2 up to date, 0 left out\n"
    assert run("tag", "photos/cat.png", "--remove", CAT).returncode == 0
    assert run(*words, allow=f"s3://{bucket}").stdout == "1 sidecar written, 1 up to date, 0 left out\n"
    assert CAT.encode() not in read(s3, bucket, keys[1])


def test_beside_the_originals_words_of_people_stay_and_so_does_what_the_store_keeps_of_an_object(
    run: Any, services: Services, archive: str, s3: S3Client, bucket: str
) -> None:
    by_hand = written(None, Words(("Tom",)))
    assert by_hand is not None
    s3.put_object(
        Bucket=bucket, Key="photos/cat.png.xmp", Body=by_hand.replace(b"ramq:subject", b"ramq:other"),
        ContentType="application/xml", Metadata={"editor": "ann"},
    )  # fmt: skip
    s3.put_object(Bucket=bucket, Key="photos/2024/IMG 1+2.png.xmp", Body=b"notes of mine")
    told = run("sidecars", "--beside", allow=f"s3://{bucket}")
    assert (told.returncode, told.stdout) == (1, "1 sidecar written, 0 up to date, 1 left out\n"), told.stderr
    assert "(photos/2024/IMG 1+2.png): it is not XML" in told.stderr
    packet = read(s3, bucket, "photos/cat.png.xmp")
    assert b"Tom" in packet
    assert CAT.encode() in packet
    kept = s3.head_object(Bucket=bucket, Key="photos/cat.png.xmp")
    assert (kept["ContentType"], kept["Metadata"]) == ("application/xml", {"editor": "ann"})
    assert read(s3, bucket, "photos/2024/IMG 1+2.png.xmp") == b"notes of mine"
    job = recognise(services, archive)  # they are no pictures
    assert (job.listed, job.skipped) == (2, 2)


def test_an_edit_between_reading_and_writing_is_not_lost(s3: S3Client, s3_server: S3Server, bucket: str) -> None:
    writer = BucketWriter(S3Store(bucket, s3_server.endpoint_url), "text/plain")
    edits = [b"ann", b"ann, bob"]

    def change(held: bytes | None) -> bytes:
        if edits:  # somebody else is faster, twice: once the object is new, once it was there
            s3.put_object(Bucket=bucket, Key="note", Body=edits.pop(0))
        return b"ramq" if held is None else held + b", ramq"

    assert writer.rewrite("note", change)
    assert read(s3, bucket, "note") == b"ann, bob, ramq"
    assert not writer.rewrite("note", lambda _: None)
    number = iter(range(100))

    def always(_: bytes | None) -> bytes:
        s3.put_object(Bucket=bucket, Key="note", Body=str(next(number)).encode())
        return b"ramq"

    with pytest.raises(ObjectChangedError, match="others wrote note each of the 5 times"):
        writer.rewrite("note", always)
    assert read(s3, bucket, "note") == str(s3_writes.ATTEMPTS - 1).encode()
    with pytest.raises(BadKeyError):
        writer.rewrite("x" * 1_025, always)


@pytest.mark.parametrize("ignored", ["IfMatch", "IfNoneMatch"])
def test_a_store_that_ignores_conditions_is_written_to_no_further(
    services: Services, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    put = BucketWriter._put
    written_keys: list[str] = []

    def without(self: BucketWriter, key: str, body: bytes, **options: Any) -> None:
        options.pop(ignored, None)
        put(self, key, body, **options)
        written_keys.append(key)

    monkeypatch.setattr(BucketWriter, "_put", without)
    place = SidecarPlace(
        parse_source(f"s3://{bucket}/sidecars"), (f"s3://{bucket}",), services.settings.s3, services.engine
    )
    _, hits = services.search.export(SearchQuery())
    with pytest.raises(UsageError, match=rf"ignores the conditions of writes \({ignored}\).*--out"):
        write_sidecars(hits, place, lambda *_: None)
    assert len(set(written_keys)) == 1
    with pytest.raises(ObjectRefusedError):
        place._writer(bucket).rewrite("another", lambda _: b"")
    assert listed(s3, bucket, "another") == []


def test_credentials_that_may_not_write_are_told(
    services: Services, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.listing_access_key)
    place = SidecarPlace(
        parse_source(f"s3://{bucket}/sidecars"), (f"s3://{bucket}",), services.settings.s3, services.engine
    )
    _, hits = services.search.export(SearchQuery())
    told: list[str] = []
    found = write_sidecars(hits, place, lambda _, why: told.append(why))
    assert (found.written, found.left_out) == (0, 2)
    assert all("AccessDenied" in why or "may not be read" in why for why in told), told


def test_the_list_of_what_may_be_written_is_of_buckets(bucket: str, services: Services) -> None:
    with pytest.raises(ForbiddenError):
        SidecarPlace(parse_source(f"s3://{bucket}"), (f"s3://{bucket}/prefix",), services.settings.s3, services.engine)

"""Stores that are odd: each quirk, and what a job makes of it. Nothing is guessed, counted twice or read for ever."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from storage.errors import ForbiddenError
from storage.objects.base import SourceError
from storage.objects.s3 import S3Store
from storage.objects.s3_listing import BucketLister
from storage.objects.tars import TarStore
from tests.plan import Plan
from tests.services.fleet import check_counters, client_services, running_fleet, wait_for
from tests.services.quirky_s3 import ETAG, FEW, MANY, PICTURE, quirky_s3
from tests.tar_files import packed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.settings import Settings

pytestmark = pytest.mark.services

KEY = "p/000000.png"


@pytest.fixture(autouse=True)
def _credentials(no_aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    with quirky_s3() as running:
        yield running


# Objects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bucket",
    ["plain", "weak-etag", "other-etag", "no-etag", "no-last-modified", "chunked", "if-match-501"],
)
def test_an_object_is_read_under_the_version_that_it_was_listed_with(
    server: tuple[str, list[str]], bucket: str
) -> None:
    """Or every rescan would find another version, and recognise the whole archive again."""
    store = S3Store(bucket, server[0])
    listed = [info for page in store.pages("", None) for info in page]
    assert len(listed) == FEW
    for get in (store.fetch, S3Store(bucket, server[0]).fetch):
        for info in listed:
            fetched = get(info.key, info.version, 10_000)
            assert (bytes(fetched.body), fetched.version) == (PICTURE, info.version)
    info = store.stat(KEY)
    assert b"".join(store.open(KEY, info.version, 0, len(PICTURE))) == PICTURE
    assert b"".join(store.open(KEY, info.version, 5, 10)) == PICTURE[5:15]


@pytest.mark.parametrize(
    "bucket", ["plain", "weak-etag", "other-etag", "no-etag", "no-last-modified", "chunked", "if-match-501"]
)
def test_members_of_tar_files_have_one_version_in_every_store(bucket: str) -> None:
    with quirky_s3(packed({"a.png": PICTURE, "b.png": b"b"}), "tar") as (url, _):
        stores = [TarStore(S3Store(bucket, url), 1_000) for _ in range(2)]
        found = [{info.key: info.version for page in each.pages("", None) for info in page} for each in stores]
        assert found[0] == found[1]
        assert len(found[0]) == 2 * FEW
        for key, version in found[0].items():
            fetched = stores[1].fetch(key, version, 10_000)
            assert (fetched.body, fetched.version) == (PICTURE if "a.png" in key else b"b", version)


def test_a_store_whose_conditions_do_not_work_is_asked_once_for_each_object(server: tuple[str, list[str]]) -> None:
    url, asked = server
    store = S3Store("other-etag", url)
    store.fetch(KEY, ETAG, 10_000)
    before = len(asked)
    for number in (1, 2):
        store.fetch(f"p/00000{number}.png", ETAG, 10_000)
    assert len(asked) - before == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bucket", "detail"),
    [
        ("kms-400", "s3://kms-400 answers KMS.DisabledException: the key is disabled"),
        ("legal-451", "s3://legal-451 answers UnavailableForLegalReasons: blocked"),
    ],
)
def test_a_refusal_for_good_is_a_failure_at_once_in_the_stores_own_words(
    settings: Settings, server: tuple[str, list[str]], tmp_path: Path, bucket: str, detail: str
) -> None:
    ours = settings.model_copy(update={"s3_endpoint_url": server[0]})
    with client_services(ours) as services, running_fleet(ours, tmp_path, RAMQ_S3_ENDPOINT_URL=server[0]) as fleet:
        job = services.jobs.create(f"s3://{bucket}")
        fleet.start(1)
        view = wait_for(services, job.id, fleet, lambda view: view.is_over)
        assert (view.state, view.done, view.failures_by_class) == ("done", 0, {"refused": FEW})
        assert {failure.detail for failure in services.jobs.failures(job.id).items} == {detail}
        check_counters(services, job.id)


# Listings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["start-inclusive", "start-ignored", "start-refused"])
def test_a_listing_counts_every_key_once_however_the_store_takes_a_start_key(
    engine: Engine, server: tuple[str, list[str]], bucket: str
) -> None:
    plan = Plan(engine, f"s3://{bucket}", s3_endpoint_url=server[0], shard_size=1_000)
    view = plan.run()
    assert (view.listed, view.pending, view.note) == (MANY, MANY, None)


@pytest.mark.parametrize("bucket", ["start-inclusive", "start-ignored", "start-refused"])
def test_a_listing_goes_on_after_a_key(server: tuple[str, list[str]], bucket: str) -> None:
    store = S3Store(bucket, server[0])
    after = f"p/{MANY - 1_200:06}.png"
    keys = [info.key for page in store.pages("", after) for info in page]
    assert keys == [f"p/{number:06}.png" for number in range(MANY - 1_199, MANY)]


def test_a_listing_in_circles_ends_with_an_error() -> None:
    """A server that gives the same page whatever it is asked."""

    def ask(**_: object) -> dict[str, object]:
        items = [{"Key": f"{number}.png", "Size": 1, "ETag": '"e"'} for number in range(3)]
        return {"Contents": items, "IsTruncated": True, "NextContinuationToken": "again"}

    pages = BucketLister(ask).pages("", "", 3)
    assert len(next(pages)) == 3
    with pytest.raises(SourceError, match="lists in circles"):
        list(pages)


# Addresses -----------------------------------------------------------------------------------------------------------


def test_a_store_that_wants_the_bucket_in_its_host_name_says_how_to_set_it(server: tuple[str, list[str]]) -> None:
    with pytest.raises(ForbiddenError, match=r"SecondLevelDomainForbidden.*set RAMQ_S3_ADDRESSING=virtual"):
        S3Store("virtual-only", server[0]).check()


@pytest.fixture
def _names_of_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve names below ``localhost`` to this machine, as browsers do and the C library does not."""
    resolve = socket.getaddrinfo

    def resolve_here(host: str, *more: object, **named: object) -> object:
        return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)


@pytest.mark.usefixtures("_names_of_localhost")
@pytest.mark.parametrize("is_configured", [False, True])
def test_the_bucket_stands_in_the_host_name_where_that_is_set(
    server: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_configured: bool,
) -> None:
    """By ramq's own setting or by the AWS configuration's."""
    if is_configured:
        (tmp_path / "config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    url = server[0].replace("127.0.0.1", "localhost")
    store = S3Store("virtual-only", url, addressing="auto" if is_configured else "virtual")
    [page] = store.pages("", None)
    fetched = store._get_with_boto3(page[0].key, page[0].version, 10_000)
    assert bytes(fetched.body) == PICTURE

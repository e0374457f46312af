"""Buckets whose requester pays: every request says so, and none to other buckets does."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import botocore.exceptions
import pytest

from storage.errors import ForbiddenError
from storage.objects.base import ObjectForbiddenError, S3Options
from storage.objects.manifest import Manifest
from storage.objects.s3 import S3Store
from storage.objects.source import Source, open_bucket
from tests.services.recording_s3 import recording_server

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _credentials(no_aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


ASKS: dict[str, Callable[[S3Store], object]] = {
    "check": lambda store: store.check(),
    "list": lambda store: list(store.pages("a", None)),
    "fetch": lambda store: store.fetch("a.jpg", "", 100),
    "fetch-slowly": lambda store: store.fetch("a%.jpg", "", 100),
    "download": lambda store: store.download("a.jpg", io.BytesIO()),
}
ALL_ASKS: dict[str, Callable[[S3Store], object]] = {
    **ASKS,
    "stat": lambda store: store.stat("a.jpg"),
    "time": lambda store: store.time(),
    "region": lambda store: store._region_of_bucket(),
}


@pytest.mark.parametrize("ask", ALL_ASKS)
def test_every_request_to_a_bucket_whose_requester_pays_says_so_and_signs_it(ask: str) -> None:
    with recording_server(refusal="Access Denied") as (url, requests):
        ALL_ASKS[ask](S3Store("bucket", url, requester_pays=True))
        assert requests
        assert {(asked.payer, asked.is_signed) for asked in requests} == {("requester", True)}


@pytest.mark.parametrize("ask", ALL_ASKS)
def test_no_request_to_another_bucket_offers_to_pay(ask: str) -> None:
    with recording_server() as (url, requests):
        options = S3Options(url, frozenset({"bucket-of-others"}))
        ALL_ASKS[ask](open_bucket("bucket", options))
        assert {asked.payer for asked in requests} == {None}
        open_bucket("bucket-of-others", options).check()
        assert requests[-1].payer == "requester"


@pytest.mark.parametrize("ask", ASKS)
def test_a_bucket_that_says_that_its_requester_pays_leads_to_the_setting(ask: str) -> None:
    advice = "its readers have to pay; set RAMQ_S3_REQUESTER_PAYS=s3://bucket to agree"
    with (
        recording_server(refusal="Anonymous users cannot read a Requester Pays bucket") as (url, _),
        pytest.raises((ForbiddenError, ObjectForbiddenError), match=advice),
    ):
        ASKS[ask](S3Store("bucket", url))


def test_where_s3_does_not_say_that_somebody_must_pay_aws_alone_is_suspected() -> None:
    answer: Any = {"Error": {"Code": "AccessDenied", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = botocore.exceptions.ClientError(answer, "ListObjectsV2")
    assert "; if its readers have to pay" in str(S3Store("bucket").refusals.about_bucket(error))
    assert "RAMQ_S3_REQUESTER_PAYS" not in str(S3Store("bucket", requester_pays=True).refusals.about_bucket(error))
    assert "RAMQ_S3_REQUESTER_PAYS" not in str(S3Store("bucket", "http://127.0.0.1:1").refusals.about_bucket(error))


def test_a_manifest_in_such_a_bucket_is_read_at_our_cost() -> None:
    with recording_server(refusal="Access Denied") as (url, requests):
        options = S3Options(url, frozenset({"bucket"}))
        manifest = Manifest("s3://bucket/list.txt", options)
        manifest.version()
        pages = list(manifest.pages(Source("s3", "bucket", ""), "", None))
        assert [info.key for _, page in pages for info in page] == ["x"]
        assert {asked.payer for asked in requests} == {"requester"}

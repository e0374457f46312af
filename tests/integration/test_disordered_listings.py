"""Stores that do not list keys in the order of their bytes: nothing that is there is marked as missing, or left out."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import ranges
from storage.objects import s3
from storage.objects.base import SourceError
from storage.objects.ignoring import Selection
from storage.objects.s3_listing import BucketLister
from tests.plan import Plan
from workers import planner as planner_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from tests.services.s3 import S3Server

KEYS = [f"{name}{number:02}.jpg" for name in ("a/", "a-b/", "a.b", "b/") for number in range(12)]
"""A server that keeps folders lists ``a/`` before ``a-b/`` and ``a.b``. Their bytes have the opposite order."""


class Bucket:
    """A bucket on the S3 server, whose listings have the order of its folders."""

    def __init__(self, server: S3Server, name: str, engine: Engine) -> None:
        self.name = name
        self.plan = Plan(engine, f"s3://{name}", s3_endpoint_url=server.endpoint_url)
        self._client = server.client()
        server.put(name, {key: key.encode() for key in KEYS})

    def put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=body)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self._client.delete_object(Bucket=self.name, Key=key)

    def listed(self, prefix: str = "", selection: Selection | None = None) -> int:
        """List, work off, and return the job."""
        job_id = self.plan.start(prefix, selection=selection or Selection())
        self.plan.go_through()
        self.plan.work()
        assert not self.plan.ledger.view(job_id).is_listing
        return job_id

    def missing(self) -> list[str]:
        with unit_of_work(self.plan.engine) as session:
            return list(session.scalars(text("SELECT key FROM image WHERE missing_since IS NOT NULL ORDER BY key")))


@pytest.fixture
def bucket_of_folders(engine: Engine, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(s3, "PAGE_SIZE", 5)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3_server, bucket, engine)


@pytest.mark.services
def test_the_server_has_its_own_order_or_these_tests_show_nothing(bucket_of_folders: Bucket) -> None:
    keys = [
        item["Key"] for item in bucket_of_folders._client.list_objects_v2(Bucket=bucket_of_folders.name)["Contents"]
    ]
    assert sorted(keys) == sorted(KEYS)
    assert keys != sorted(keys)


@pytest.mark.services
def test_what_is_there_is_never_missing_and_what_is_gone_is(bucket_of_folders: Bucket) -> None:
    for _ in range(3):
        view = bucket_of_folders.plan.ledger.view(bucket_of_folders.listed())
        assert (view.state, view.listed) == ("done", len(KEYS))
        assert bucket_of_folders.missing() == []
    gone = [KEYS[0], KEYS[5], KEYS[13], KEYS[26], KEYS[-1]]
    bucket_of_folders.delete(*gone)
    bucket_of_folders.listed()
    assert bucket_of_folders.missing() == sorted(gone)
    bucket_of_folders.put(gone[2], b"again")
    bucket_of_folders.listed()
    assert bucket_of_folders.missing() == sorted({*gone} - {gone[2]})


@pytest.mark.services
def test_what_pages_marked_before_the_order_was_known_is_taken_back(bucket_of_folders: Bucket) -> None:
    bucket_of_folders.listed()
    engine = bucket_of_folders.plan.engine
    with unit_of_work(engine) as session:  # as older versions left it
        session.execute(text("UPDATE archive SET disordered_at = NULL"))
        session.execute(text("UPDATE image SET missing_since = now() WHERE key LIKE 'a/%'"))
    bucket_of_folders.delete(KEYS[3])
    bucket_of_folders.listed()
    assert bucket_of_folders.missing() == [KEYS[3]]
    assert bucket_of_folders.plan.ledger.scalar("SELECT missing FROM archive") == 1


@pytest.mark.services
def test_a_part_marks_that_part_and_what_is_left_out_stays_as_it_is(bucket_of_folders: Bucket) -> None:
    bucket_of_folders.listed()
    bucket_of_folders.delete(KEYS[0], KEYS[12], KEYS[36])
    bucket_of_folders.listed("a")
    assert bucket_of_folders.missing() == [KEYS[0]]
    bucket_of_folders.listed(selection=Selection(exclude=("a-b/*",)))
    assert bucket_of_folders.missing() == sorted([KEYS[0], KEYS[12], KEYS[36]])


@pytest.mark.services
def test_a_planner_that_is_killed_before_the_end_leaves_marking_to_the_next_one(
    bucket_of_folders: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket_of_folders.listed()
    bucket_of_folders.delete(KEYS[7])
    plan = bucket_of_folders.plan
    job_id = plan.start()

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(planner_module.Planner, "_settle", killed)
        with pytest.raises(SystemExit):
            plan.go_through()
    assert plan.ledger.view(job_id).is_listing
    assert bucket_of_folders.missing() == []
    with unit_of_work(plan.engine) as session:
        ranges.reset(session, [job_id])
    plan.go_through(plan.another(s3_endpoint_url=plan.planner._s3.endpoint_url))
    assert not plan.ledger.view(job_id).is_listing
    assert bucket_of_folders.missing() == [KEYS[7]]


# Stores that cannot begin after a key ---------------------------------------------------------------------------------


def unordered(keys: list[str]) -> Callable[..., dict[str, Any]]:
    """Return the answers of a store that lists in no order and only goes on with tokens, as directory buckets do."""

    def ask(**options: Any) -> dict[str, Any]:
        if "StartAfter" in options:
            raise SourceError("StartAfter is not supported")
        start, most = int(options.get("ContinuationToken", 0)), options["MaxKeys"]
        items = [{"Key": key, "Size": 1, "ETag": '"e"'} for key in keys[start : start + most]]
        more = {"NextContinuationToken": str(start + most)} if start + most < len(keys) else {}
        return {"Contents": items, "IsTruncated": bool(more), **more}

    return ask


@pytest.mark.parametrize("seed", range(5))
def test_a_listing_without_any_order_goes_on_where_it_stopped(seed: int) -> None:
    keys = list(KEYS)
    random.Random(seed).shuffle(keys)
    whole = [info.key for page in BucketLister(unordered(keys)).pages("", "", 5) for info in page]
    assert whole == keys
    for stopped in (1, 7, len(keys) - 1, len(keys)):
        rest = [info.key for page in BucketLister(unordered(keys)).pages("", keys[stopped - 1], 5) for info in page]
        assert rest == keys[stopped:]


def test_where_the_last_key_is_gone_bytes_tell_the_place_or_an_error_says_what_to_do() -> None:
    ordered = sorted(KEYS)
    rest = [info.key for page in BucketLister(unordered(ordered)).pages("", f"{ordered[8]}!", 5) for info in page]
    assert rest == ordered[9:]
    with pytest.raises(SourceError, match=r"'gone\.jpg'.* enqueue the archive again"):
        list(BucketLister(unordered(ordered[::-1])).pages("", "gone.jpg", 5))

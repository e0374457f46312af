"""What may happen while an archive is listed whose store has an order of its own: events, other planners, odd keys."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import jobs, ranges
from storage.objects import s3, tar_listing
from storage.objects.base import MISSING_VERSION, ObjectInfo
from storage.results import archives, sidecars
from tests.plan import Plan
from workers import planner as planner_module
from workers.sidecars import Sidecars

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.ledger.views import JobView
    from tests.services.s3 import S3Server

    Order = Callable[[str], Any]

NAMES = [f"{folder}/{number}.jpg" for folder in ("a", "a-b", "b") for number in range(5)]


def of_folders(key: str) -> list[str]:
    return key.split("/")


def of_bytes(key: str) -> str:
    return key


class Bucket:
    """A bucket whose server lists keys in ``order``, five at a time, and has what ``keys`` has."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, order: Order, names: list[str]) -> None:
        self.order, self.keys = order, dict.fromkeys(names, "e")
        monkeypatch.setattr(s3, "PAGE_SIZE", 5)
        monkeypatch.setattr(s3.S3Store, "list_objects", lambda _, **asked: self._answer(**asked))
        monkeypatch.setattr(s3.S3Store, "stat", lambda _, key, *_known: self._stat(key))
        self.plan = Plan(engine, "s3://odd")

    def _stat(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, self.keys.get(key, MISSING_VERSION), 1, None)

    def _answer(self, **asked: Any) -> dict[str, Any]:
        prefix, most, start = asked.get("Prefix", ""), asked["MaxKeys"], asked.get("StartAfter", "")
        start = asked.get("ContinuationToken", start)
        keys = sorted((key for key in self.keys if key.startswith(prefix)), key=self.order)
        keys = [key for key in keys if not start or self.order(key) > self.order(start)]
        folders: list[str] = []
        if "Delimiter" in asked:
            below = [key for key in keys if "/" in key[len(prefix) :]]
            folders = list(dict.fromkeys(key[: key.index("/", len(prefix)) + 1] for key in below))[:most]
            keys = [key for key in keys if key not in below]
        page = keys[:most]
        return {
            "Contents": [{"Key": key, "Size": 1, "ETag": f'"{self.keys[key]}"', "LastModified": None} for key in page],
            "CommonPrefixes": [{"Prefix": folder} for folder in folders],
            "IsTruncated": len(keys) > most,
            "NextContinuationToken": page[-1] if page else "",
        }

    def listed(self) -> JobView:
        return self.gone_through(self.plan.start())

    def gone_through(self, job_id: int) -> JobView:
        self.plan.go_through()
        self.plan.work()
        view = self.plan.ledger.view(job_id)
        assert (view.state, view.is_listing) == ("done", False)
        return view

    def listed_past(self, key: str) -> int:
        """Begin a listing, stop when a key was listed, and recognise what was; return the job."""
        job_id = self.plan.start()
        self.plan.planner.begin(lambda: False)
        cursor = "SELECT coalesce(cursor, '') FROM listing_range WHERE job_id = :id"
        while self.order(str(self.plan.ledger.scalar(cursor, id=job_id))) < self.order(key):
            self.plan.planner.go_on(lambda: False)
        self.plan.work()
        assert self.plan.ledger.view(job_id).is_listing
        return job_id

    def missing(self) -> list[str]:
        with unit_of_work(self.plan.engine) as session:
            return list(session.scalars(text("SELECT key FROM image WHERE missing_since IS NOT NULL ORDER BY key")))

    def is_disordered(self) -> bool:
        return bool(self.plan.ledger.scalar("SELECT disordered_at IS NOT NULL FROM archive"))

    def forget_order(self) -> None:
        """As an older version left it, or before the first folder that showed it."""
        self.plan.ledger.execute("UPDATE archive SET disordered_at = NULL")

    def look(self, *keys: str) -> None:
        """A job of events looks at keys, and ends, while other jobs are listed."""
        with unit_of_work(self.plan.engine) as session:
            job_id = jobs.create(
                session, archive=self.plan.ledger.archive, source=self.plan.ledger.archive.uri, prefix="",
                model="lite", captioner="none", priority="high", of_keys=True,
            )  # fmt: skip
            for key in keys:
                session.execute(text("INSERT INTO job_key VALUES (:id, :key)"), {"id": job_id, "key": key})
        others = "UPDATE listing_range SET lease_until = {} WHERE job_id <> :id AND done_at IS NULL"
        self.plan.ledger.execute(others.format("now() + interval '1 hour'"), id=job_id)
        planner = self.plan.another()
        while planner.begin(lambda: False) or planner.go_on(lambda: False):
            pass
        self.plan.ledger.execute(others.format("NULL"), id=job_id)
        self.plan.work()
        assert self.plan.ledger.view(job_id).state == "done"


@pytest.fixture
def make(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Order, list[str]], Bucket]:
    return lambda order, names: Bucket(engine, monkeypatch, order, names)


@pytest.fixture(params=[of_folders, of_bytes])
def known(
    request: pytest.FixtureRequest, make: Callable[[Order, list[str]], Bucket], monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """A bucket that was listed before, and is listed in steps of a page from now on."""
    made = make(request.param, NAMES)
    made.listed()
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    return made


def test_an_image_that_an_event_moved_to_a_listed_key_is_there(known: Bucket) -> None:
    same = "INSERT INTO content (image_id, version, hash) SELECT id, version, '\\x00' FROM image WHERE key = :key"
    known.plan.ledger.execute(same, key="b/4.jpg")
    moved = known.plan.ledger.scalar("SELECT id FROM image WHERE key = 'b/4.jpg'")
    del known.keys["b/4.jpg"]
    known.keys["a/new.jpg"] = "n"
    job_id = known.listed_past("a/new.jpg")
    known.plan.ledger.execute(same, key="a/new.jpg")
    known.look("b/4.jpg")
    assert known.plan.ledger.scalar("SELECT id FROM image WHERE key = 'a/new.jpg'") == moved
    known.gone_through(job_id)
    assert known.missing() == []


def test_a_key_that_comes_back_behind_a_listing_is_there(known: Bucket) -> None:
    del known.keys["a/2.jpg"]
    known.look("a/2.jpg")
    assert known.missing() == ["a/2.jpg"]
    job_id = known.listed_past("a/4.jpg")
    known.keys["a/2.jpg"] = "e"
    known.look("a/2.jpg")
    known.gone_through(job_id)
    assert known.missing() == []


def test_what_an_event_marked_behind_a_listing_stays_marked_also_if_the_order_is_found_out(known: Bucket) -> None:
    known.forget_order()
    job_id = known.listed_past("a/4.jpg")
    del known.keys["a/2.jpg"]
    known.look("a/2.jpg")
    known.gone_through(job_id)
    assert known.missing() == ["a/2.jpg"]


def test_a_sidecar_that_an_event_read_behind_a_listing_is_kept(known: Bucket) -> None:
    known.plan.planner._settling = planner_module.Settling(
        known.plan.engine, Sidecars(known.plan.engine, cast("Any", None), keep_place=True)
    )
    job_id = known.listed_past("a/4.jpg")
    known.keys["a/2.jpg.xmp"] = "x"
    with unit_of_work(known.plan.engine) as session:
        sidecars.put(session, known.plan.ledger.archive.id, {"a/2.jpg.xmp": ("x", {"rating": 5})})
    known.gone_through(job_id)
    assert known.plan.ledger.scalar("SELECT key FROM sidecar") == "a/2.jpg.xmp"


def test_further_pages_of_a_file_are_where_the_file_is(make: Callable[[Order, list[str]], Bucket]) -> None:
    bucket = make(of_folders, [*NAMES, "a-b/x.tif"])
    bucket.listed()
    bucket.plan.ledger.execute(
        """INSERT INTO image (archive_id, key, version, size)
           SELECT archive_id, key || '/page-00002', 'page=2@' || version, 1 FROM image WHERE key = 'a-b/x.tif'"""
    )
    bucket.forget_order()
    bucket.listed()
    assert bucket.missing() == []
    del bucket.keys["a-b/x.tif"]
    bucket.listed()
    assert bucket.missing() == ["a-b/x.tif", "a-b/x.tif/page-00002"]


def test_a_planner_that_learns_of_the_order_from_another_one_marks_nothing_by_bounds(
    make: Callable[[Order, list[str]], Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = make(of_folders, [f"Z/{number}.jpg" for number in range(5)] + NAMES)
    bucket.listed()
    bucket.forget_order()
    for number in range(5):
        del bucket.keys[f"a/{number}.jpg"]
    job_id = bucket.plan.start()
    with unit_of_work(bucket.plan.engine) as session:
        first = session.execute(text("SELECT id FROM listing_range WHERE job_id = :id"), {"id": job_id}).scalar_one()
        ranges.cut(session, first, "a/\U0010ffff")
    slow, other = bucket.plan.planner, bucket.plan.another()
    real, waited = planner_module.Planner._record_pages, []

    def after_the_other(self: planner_module.Planner, *args: Any) -> Any:
        found = real(self, *args)
        if self is slow and not waited:
            waited.append(True)
            while other.begin(lambda: False) or other.go_on(lambda: False):
                pass
        return found

    monkeypatch.setattr(planner_module.Planner, "_record_pages", after_the_other)
    bucket.gone_through(job_id)
    assert bucket.is_disordered()
    assert bucket.missing() == [f"a/{number}.jpg" for number in range(5)]


@pytest.mark.parametrize("order", [of_folders, of_bytes])
def test_an_object_named_like_a_folder_hides_nothing(make: Callable[[Order, list[str]], Bucket], order: Order) -> None:
    bucket = make(order, [*NAMES, "a/"])
    bucket.listed()
    del bucket.keys["a/2.jpg"]
    bucket.listed()
    assert bucket.missing() == ["a/2.jpg"]


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_keys_with_nul_do_not_look_like_another_order_and_hide_no_keys(
    make: Callable[[Order, list[str]], Bucket], monkeypatch: pytest.MonkeyPatch, *, is_taken_over: bool
) -> None:
    bucket = make(of_bytes, [f"a{n}.jpg" for n in range(4)] + [f"a3.jpg{end}" for end in ("\0x", *"-+AZz")])
    if is_taken_over:
        monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    for _ in range(2):
        job_id = bucket.plan.start()
        while bucket.plan.planner.begin(lambda: False) or bucket.plan.planner.go_on(lambda: False):
            if is_taken_over:
                bucket.plan.planner._readings.clear()
        bucket.plan.work()
        assert bucket.plan.ledger.view(job_id).listed == len(bucket.keys)
        assert (bucket.is_disordered(), bucket.missing()) == (False, [])


def test_an_archive_that_moves_to_another_store_may_have_another_order(
    make: Callable[[Order, list[str]], Bucket],
) -> None:
    bucket = make(of_folders, NAMES)
    bucket.listed()
    assert bucket.is_disordered()
    with unit_of_work(bucket.plan.engine) as session:
        archives.rename(session, bucket.plan.ledger.archive.id, "s3://amazon")
    bucket.order = of_bytes
    bucket.listed()
    assert not bucket.is_disordered()


def _tar(members: int) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        for number in range(members):
            info = tarfile.TarInfo(f"{number:02}.jpg")
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return body.getvalue()


@pytest.mark.services
@pytest.mark.parametrize("is_taken_over", [False, True])
@pytest.mark.parametrize("names", [("a/1", "a-b/1", "a.b", "b/1"), ("b/1", "b-c/1", "c/1")])
def test_members_of_tar_files_are_listed_whatever_the_order_of_the_tar_files_is(
    engine: Engine, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...],
    *, is_taken_over: bool,
) -> None:  # fmt: skip
    for module, size in ((s3, 5), (tar_listing, 3)):
        monkeypatch.setattr(module, "PAGE_SIZE", size)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    if is_taken_over:
        monkeypatch.setattr(planner_module, "TAR_STEP_SECONDS", 0.0)
    s3_server.put(bucket, {f"{name}.tar": _tar(10) for name in names})
    plan = Plan(engine, f"tar+s3://{bucket}", s3_endpoint_url=s3_server.endpoint_url)
    for _ in range(2):
        job_id = plan.start()
        while plan.planner.begin(lambda: False) or plan.planner.go_on(lambda: False):
            if is_taken_over:
                plan.planner._readings.clear()
        plan.work()
        view = plan.ledger.view(job_id)
        assert (view.state, view.listed) == ("done", 10 * len(names))
        assert plan.ledger.scalar("SELECT count(*) FROM image WHERE missing_since IS NOT NULL") == 0

"""Listing archives into shards: what is skipped, what is read again, and what happens when it is interrupted."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ram_core.errors import CheckpointError, DeviceError
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.ledger import unfound
from storage.objects import folder, s3
from storage.objects.base import ObjectInfo, S3Options
from storage.objects.source import parse_source
from storage.results import archives, images
from tests.plan import Plan
from tests.services.fault_proxy import Refuse, Status
from workers import planner as planner_module
from workers.pipeline.fitness import EVERYTHING, Fitness, of_model
from workers.planner import Planner

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.ledger.views import JobView
    from tests.services.fault_proxy import FaultProxy
    from tests.services.s3 import S3Server
    from workers.pipeline.fitness import Key

pytestmark = pytest.mark.services


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg", "f.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")
    return root


@pytest.fixture
def plan(engine: Engine, root: Path) -> Plan:
    return Plan(engine, str(root))


ALL = ["a.jpg", "b/c.jpg", "b/d.jpg", "e.jpg", "f.jpg"]


def counts(view: JobView) -> tuple[int, int, int, int, int]:
    return view.listed, view.done, view.skipped, view.failed, view.pending


def test_a_new_archive_is_listed_in_order_and_cut_into_shards(plan: Plan) -> None:
    view = plan.run()
    assert counts(view) == (5, 0, 0, 0, 5)
    assert not view.is_listing
    assert plan.waiting() == ALL
    assert plan.ledger.scalar("SELECT array_agg(cardinality(image_ids) ORDER BY id) FROM shard") == [4, 1]


def test_a_second_job_skips_what_is_recorded_and_is_done_at_once(plan: Plan) -> None:
    plan.run()
    plan.work()
    view = plan.run()
    assert counts(view) == (5, 0, 5, 0, 0)
    assert view.state == "done"


@pytest.mark.parametrize("change", ["size", "time"])
def test_what_changed_is_read_again_and_nothing_else(plan: Plan, root: Path, change: str) -> None:
    plan.run()
    plan.work()
    if change == "size":
        (root / "b/d.jpg").write_bytes(b"another picture")
    else:
        os.utime(root / "b/d.jpg", (1, 1))
    (root / "new.jpg").write_bytes(b"new")
    view = plan.run()
    assert counts(view) == (6, 0, 4, 0, 2)
    assert plan.waiting() == ["b/d.jpg", "new.jpg"]


def test_bad_bytes_are_not_read_again_until_they_change_but_bad_luck_is(plan: Plan, root: Path) -> None:
    plan.run()
    plan.work({"a.jpg": "corrupt", "b/c.jpg": "missing", "e.jpg": "store_unavailable"})
    plan.run()
    assert plan.waiting() == ["b/c.jpg", "e.jpg"]
    plan.work({"b/c.jpg": "forbidden"})
    (root / "a.jpg").write_bytes(b"mended picture")
    plan.run()
    assert plan.waiting() == ["a.jpg", "b/c.jpg"]


def test_another_generation_or_a_captioner_wants_everything_again(plan: Plan) -> None:
    plan.run()
    plan.work()
    assert plan.run(captioner="template").pending == 5
    plan.work()
    assert plan.run(captioner="none").skipped == 5
    with_new_weights = plan.ledger.scalar(
        """INSERT INTO generation (fingerprint, model, weights_sha256, preprocessing, vector_kind, vector_size,
           vocabulary_id) SELECT 'new', 'lite', 'new', '', '', vector_size, vocabulary_id FROM generation LIMIT 1
           RETURNING id"""
    )
    plan.models.generation_id = with_new_weights
    assert plan.run().pending == 5


def test_a_job_on_a_part_lists_that_part(plan: Plan) -> None:
    assert plan.run(prefix="b").listed == 2
    assert plan.waiting() == ["b/c.jpg", "b/d.jpg"]


def test_an_empty_archive_is_done_at_once(engine: Engine, tmp_path: Path) -> None:
    view = Plan(engine, str(tmp_path)).run()
    assert (counts(view), view.state) == ((0, 0, 0, 0, 0), "done")


def test_a_planner_that_dies_between_pages_is_followed_by_one_that_goes_on_after_the_last(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 2)
    job_id = plan.start()
    real, pages = Planner._record, iter(range(10))

    def die_in_the_second_page(self: Planner, *arguments: Any, **more: Any) -> Any:
        if next(pages) == 1:
            raise SystemExit
        return real(self, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Planner, "_record", die_in_the_second_page)
        with pytest.raises(SystemExit):
            plan.go_through()
    assert plan.ledger.view(job_id).listed == 2
    plan.go_through()
    assert plan.ledger.view(job_id).listed == 2  # its lease still runs
    plan.ledger.execute("UPDATE listing_range SET lease_until = now() - interval '1 second'")
    plan.go_through()
    assert counts(plan.ledger.view(job_id)) == (5, 0, 0, 0, 5)
    assert plan.waiting() == ALL


def test_a_planner_gives_way_after_a_while_and_goes_on_later(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 1)
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    job_id = plan.start()
    assert plan.planner.begin(lambda: False)
    assert plan.ledger.view(job_id).listed == 1
    assert plan.planner.go_on(lambda: True)
    assert plan.ledger.view(job_id).listed == 2
    plan.go_through()
    assert counts(plan.ledger.view(job_id)) == (5, 0, 0, 0, 5)


def test_two_planners_at_once_list_every_key_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 1)
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    job_ids = [plan.start(), plan.start()]
    threads = [threading.Thread(target=plan.go_through, args=(plan.another(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plan.go_through()
    for job_id in job_ids:
        assert counts(plan.ledger.view(job_id)) == (5, 0, 0, 0, 5)
    assert sorted(plan.waiting()) == sorted(ALL * 2)


def test_a_planner_that_lost_its_listing_writes_no_page_and_does_not_fail_the_job(
    plan: Plan, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = plan.start()
    plan.ledger.execute("UPDATE job SET generation_id = :id", id=plan.ledger.generation_id)
    real = Planner._list

    def taken_over_meanwhile(self: Planner, *arguments: Any) -> Any:
        plan.ledger.execute("UPDATE listing_range SET epoch = epoch + 1")
        return real(self, *arguments)

    monkeypatch.setattr(Planner, "_list", taken_over_meanwhile)
    assert plan.planner.go_on(lambda: False)
    assert plan.ledger.view(job_id).listed == 0
    assert plan.waiting() == []
    plan.ledger.execute("UPDATE listing_range SET lease_until = NULL")
    root.rename(root.parent / "moved")
    assert plan.planner.go_on(lambda: False)
    view = plan.ledger.view(job_id)
    assert (view.state, view.note) == ("running", None)


def test_a_pause_stops_a_listing_and_a_resume_lets_it_go_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 2)
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    job_id = plan.start()
    plan.planner.begin(lambda: False)
    plan.ledger.set_state(job_id, "paused")
    plan.go_through()
    assert plan.ledger.view(job_id).listed == 2
    plan.ledger.set_state(job_id, "running")
    plan.go_through()
    assert plan.ledger.view(job_id).listed == 5


def test_an_archive_that_is_gone_fails_the_job_with_one_line(plan: Plan, root: Path) -> None:
    root.rename(root.parent / "moved")
    view = plan.run()
    assert view.state == "failed"
    assert view.note == f"there is no folder {root}"


def test_an_archive_that_is_suddenly_empty_asks_before_its_images_are_missing(plan: Plan, root: Path) -> None:
    """A disk that is not mounted leaves an empty folder behind. Resumed, the job looks again."""
    plan.run()
    plan.work()
    elsewhere = root.parent / "mounted"
    root.rename(elsewhere)
    root.mkdir()
    view = plan.run()
    assert view.state == "paused"
    assert view.note is not None
    assert "is now empty, but had 5 images before" in view.note
    assert plan.ledger.scalar("SELECT count(*) FROM image WHERE missing_since IS NOT NULL") == 0

    root.rmdir()
    elsewhere.rename(root)
    plan.ledger.set_state(view.id, "running")
    plan.go_through()
    assert counts(plan.ledger.view(view.id)) == (5, 0, 5, 0, 0)

    root.rename(elsewhere)
    root.mkdir()
    view = plan.run()
    plan.ledger.set_state(view.id, "running")
    plan.go_through()
    assert plan.ledger.view(view.id).state == "done"
    assert plan.ledger.scalar("SELECT count(*) FROM image WHERE missing_since IS NOT NULL") == 5
    assert plan.run().state == "done"  # whose images are all missing has nothing to ask


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (CheckpointError("no checkpoint: run `ramq models pull lite`"), of_model("lite")),
        (DeviceError("device cuda:0 is not here"), EVERYTHING),
        (OSError(errno.ENOSPC, "No space left on device"), EVERYTHING),
    ],
)
def test_a_workers_own_trouble_leaves_the_listing_to_others(plan: Plan, error: Exception, key: Key) -> None:
    plan.models.error = error
    job_id = plan.start()
    plan.planner.begin(lambda: False)
    assert plan.fitness.doubts(key)
    assert not plan.planner.begin(lambda: False)  # not before a while has passed
    assert (plan.ledger.view(job_id).state, plan.ledger.view(job_id).note) == ("running", None)
    assert plan.ledger.scalar("SELECT attempts FROM listing_range") == 0
    plan.models.error, other = None, Fitness()
    Planner(engine=plan.engine, models=plan.planner._models, fitness=other, shard_size=4, s3=S3Options()).begin(
        lambda: False
    )
    assert plan.ledger.view(job_id).listed == 5


def test_tags_that_fit_no_worker_fail_the_job(plan: Plan) -> None:
    plan.models.error = UsageError("the tags of 'mine' do not go with ram")
    view = plan.run()
    assert (view.state, view.note) == ("failed", "the tags of 'mine' do not go with ram")


# Buckets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket_plan(
    engine: Engine, s3_server: S3Server, s3_proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Plan:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    for name, patience in (("READ_TIMEOUT_SECONDS", 1), ("CONNECT_TIMEOUT_SECONDS", 1), ("ATTEMPTS", 1)):
        monkeypatch.setattr(s3, name, patience)
    s3_server.put(bucket, dict.fromkeys(ALL, b"picture") | {"folder/": b""})
    plan = Plan(engine, f"s3://{bucket}", s3_endpoint_url=s3_proxy.url)
    monkeypatch.setattr(s3, "PAGE_SIZE", 2)
    return plan


def test_an_outage_in_the_middle_of_a_listing_is_waited_for_and_the_listing_goes_on(
    bucket_plan: Plan, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)
    job_id = bucket_plan.start()
    bucket_plan.planner.begin(lambda: False)
    assert bucket_plan.ledger.view(job_id).listed == 2
    for fault in (Status(503), Refuse()):
        s3_proxy.fail(fault)
        assert bucket_plan.planner.go_on(lambda: False)
        view = bucket_plan.ledger.view(job_id)
        assert view.state == "running"
        assert view.note is not None
        assert view.note.startswith("waiting: s3://")
        assert not bucket_plan.planner.go_on(lambda: False)  # not before a while has passed
        bucket_plan.ledger.execute("UPDATE listing_range SET next_at = now()")
    s3_proxy.heal()
    bucket_plan.go_through()
    view = bucket_plan.ledger.view(job_id)
    assert counts(view) == (6, 0, 1, 0, 5)
    assert view.note is None
    assert bucket_plan.waiting() == ALL


@pytest.mark.parametrize("is_forbidden", [False, True])
def test_a_worker_that_a_bucket_refuses_leaves_it_to_others(
    bucket_plan: Plan, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, s3_proxy: FaultProxy, is_forbidden: bool
) -> None:
    """The credentials were good where the job was enqueued: it is this host that lacks them."""
    if is_forbidden:
        s3_proxy.fail(Status(403))
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    view = bucket_plan.run()
    assert (view.state, view.note) == ("running", None)
    [unfit] = bucket_plan.fitness.reasons()
    assert (unfit.kind, unfit.name) == ("archive", view.archive)
    assert ("may not be read" if is_forbidden else "rejects the credentials") in unfit.reason
    s3_proxy.heal()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    bucket_plan.go_through()
    assert bucket_plan.ledger.view(view.id).pending == 5
    assert not bucket_plan.fitness.reasons()


def test_a_bucket_that_is_gone_fails_the_job_with_one_line(bucket_plan: Plan, s3_server: S3Server) -> None:
    client = s3_server.client()
    client.delete_bucket(Bucket=bucket_plan.ledger.archive.uri.removeprefix("s3://"))
    client.close()
    view = bucket_plan.run()
    assert view.state == "failed"
    assert view.note is not None
    assert view.note.startswith("there is no bucket s3://")
    assert "\n" not in view.note


def test_a_changed_etag_is_read_again(bucket_plan: Plan, s3_server: S3Server) -> None:
    bucket_plan.run()
    bucket_plan.work()
    assert counts(bucket_plan.run()) == (6, 0, 6, 0, 0)
    s3_server.put(bucket_plan.ledger.archive.uri.removeprefix("s3://"), {"e.jpg": b"changed"})
    bucket_plan.run()
    assert bucket_plan.waiting() == ["e.jpg"]


def test_a_folder_below_a_known_archive_belongs_to_it(engine: Engine, plan: Plan, root: Path) -> None:
    with unit_of_work(engine) as session:
        archive, prefix = archives.ensure(session, parse_source(str(root / "b")))
        assert (archive.id, prefix) == (plan.ledger.archive.id, "b")


def test_a_page_costs_no_more_in_a_large_archive(engine: Engine, root: Path) -> None:
    with unit_of_work(engine) as session:
        archive, _ = archives.ensure(session, parse_source(str(root)))
    keys = [f"{number // 50:03}/{number:05}.jpg" for number in range(6_000)]

    def rows_read(page: list[str], after: str | None, prefix: str) -> int:
        with unit_of_work(engine) as session:
            read = text(
                """SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
                   FROM pg_stat_xact_user_tables WHERE relname = 'image'"""
            )
            images.upsert_page(session, archive.id, [ObjectInfo(key, "v", 1, None) for key in page])
            before = int(session.scalar(read) or 0)
            unfound.mark_missing(session, archive.id, prefix, after, page[-1])
            return int(session.scalar(read) or 0) - before

    for begin in range(0, len(keys), 200):
        rows_read(keys[begin : begin + 200], keys[begin - 1] if begin else None, "")
    page = keys[3_000:3_200:2]
    assert rows_read(page, keys[2_999], "") < 10 * len(page)
    assert rows_read([keys[5_901]], None, "118") < 10 * 50

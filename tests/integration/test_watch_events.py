"""Jobs on the keys that events named: the store alone says what became of each."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.ledger import watch_events
from storage.objects.base import ObjectInfo, StoreUnavailableError
from storage.objects.folder import FolderStore
from storage.objects.s3 import S3Store
from tests.plan import Plan
from tests.watched import WISHES, Watched
from workers import named_keys

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("a.jpg", "b/c.jpg", "b/d.jpg", "b/e/f.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")
    return root


@pytest.fixture
def watched(services: Services, engine: Engine, root: Path) -> Watched:
    """Everything is listed and recorded."""
    one = Watched.new(services, Plan(engine, str(root)), str(root))
    one.do()
    return one


def counts(job: object) -> tuple[int, ...]:
    return tuple(getattr(job, name) for name in ("listed", "skipped", "done", "failed"))


def test_new_and_changed_files_are_recognised_and_known_ones_skipped(watched: Watched, root: Path) -> None:
    (root / "new.jpg").write_bytes(b"new")
    (root / "b/c.jpg").write_bytes(b"changed")
    job = watched.look("new.jpg", "b/c.jpg", "a.jpg")
    # A known file of which an event told is read once more: it may have traded names with an equally large and old one.
    assert counts(job) == (3, 0, 3, 0)
    assert (job.state, job.priority) == ("done", "high")
    assert watched.view.event_job == job.id
    assert watched.view.searchable_after_seconds is not None
    assert counts(watched.look("b/d.jpg", "a.jpg")) == (2, 1, 1, 0), "what was read since is not read again"


def test_no_job_has_a_higher_priority_than_the_user_of_the_watch_may_ask_for(watched: Watched, root: Path) -> None:
    (root / "new.jpg").write_bytes(b"new")
    watched.services.quotas.put("highest-priority", "normal")
    assert watched.look("new.jpg").priority == "normal"
    watched.services.quotas.put("highest-priority", "low")
    with unit_of_work(watched.services.engine) as session:
        watch_events.list_now(session, watched.id, "why")
    watched.pass_time(60)
    (listing,) = watched.do()
    assert (listing.of_keys, listing.priority) == (False, "low")


def test_a_deleted_file_is_missing_and_not_a_failure(watched: Watched, root: Path) -> None:
    (root / "a.jpg").unlink()
    assert counts(watched.look("a.jpg")) == (0, 0, 0, 0)
    assert watched.missing() == {"a.jpg"}


def test_a_file_that_comes_back_is_no_longer_missing(watched: Watched, root: Path) -> None:
    (root / "a.jpg").rename(root / "away")
    watched.look("a.jpg")
    (root / "away").rename(root / "a.jpg")
    assert counts(watched.look("a.jpg")) == (1, 0, 1, 0)
    assert watched.missing() == set()


def test_a_file_that_came_and_went_leaves_nothing(watched: Watched) -> None:
    before = watched.known()
    assert counts(watched.look("never.jpg")) == (0, 0, 0, 0)
    assert watched.known() == before


def test_folders_links_and_pipes_are_passed_over_as_in_a_listing(watched: Watched, root: Path) -> None:
    (root / "folder.jpg").mkdir()
    (root / "link.jpg").symlink_to(root / "a.jpg")
    os.mkfifo(root / "pipe.jpg")
    assert counts(watched.look("folder.jpg", "link.jpg", "pipe.jpg")) == (0, 0, 0, 0)


def test_what_was_in_a_folder_that_is_gone_is_missing(watched: Watched, root: Path) -> None:
    shutil.rmtree(root / "b")
    assert counts(watched.look("b/")) == (0, 0, 0, 0)
    assert watched.missing() == {"b/c.jpg", "b/d.jpg", "b/e/f.jpg"}


def test_a_folder_with_too_many_images_is_left_to_a_listing(
    watched: Watched, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_events, "MOST_KEYS", 2)
    shutil.rmtree(root / "b")
    listing = watched.view.listing_job
    watched.tell("b/")
    watched.pass_time(60)
    watched.step()
    assert "folders with more than 2 images" in str(watched.view.list_now_reason)
    watched.do()
    assert watched.view.listing_job != listing
    assert watched.missing() == {"b/c.jpg", "b/d.jpg", "b/e/f.jpg"}


def test_an_empty_folder_marks_nothing_since_its_disk_may_not_be_mounted(watched: Watched, root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    watched.look("a.jpg", "b/")
    assert watched.missing() == set()


def test_what_a_listing_leaves_out_events_do_not_bring_in(watched: Watched, root: Path) -> None:
    (root / "b/.ramqignore").write_text("private/\n*.gif\n")
    for name in ("b/private/x.jpg", "b/x.gif", "Thumbs.db", "film.mov", "kept.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    job = watched.look("b/private/x.jpg", "b/x.gif", "Thumbs.db", "film.mov", "kept.jpg")
    assert (job.listed, job.done, job.ignored) == (1, 1, 4)
    assert job.ignored_by_reason == {"default": 1, "film": 1, "ramqignore": 2}
    assert "b/x.gif" not in watched.known()


def test_a_damaged_ignore_file_fails_the_job_and_the_watch_says_so(watched: Watched, root: Path) -> None:
    (root / ".ramqignore").write_bytes(b"\xff")
    (root / "new.jpg").write_bytes(b"new")
    job = watched.look("new.jpg")
    assert job.state == "failed"
    assert ".ramqignore is not text" in str(watched.view.error)
    assert watched.view.state == "failing"
    (root / ".ramqignore").unlink()
    watched.pass_time(120)
    (job,) = watched.do()
    assert (job.of_keys, job.done) == (False, 1)
    assert watched.view.state == "active"


def test_keys_outside_of_the_watched_part_are_left_alone(services: Services, engine: Engine, root: Path) -> None:
    plan = Plan(engine, str(root))
    watched = Watched.new(services, plan, str(root / "b"))
    watched.do()
    assert counts(watched.look("a.jpg", "b/c.jpg", "bc.jpg")) == (1, 0, 1, 0)
    assert "a.jpg" not in watched.known()


def test_a_moved_file_keeps_its_image(watched: Watched, root: Path) -> None:
    before = watched.plan.ledger.scalar("SELECT id FROM image WHERE key = 'a.jpg'")
    watched.plan.ledger.execute(
        "INSERT INTO content (image_id, version, hash) SELECT id, version, 'same' FROM image WHERE key = 'a.jpg'"
    )
    (root / "a.jpg").rename(root / "moved.jpg")
    watched.tell("a.jpg", "moved.jpg")
    watched.pass_time(60)
    watched.step()
    watched.plan.go_through()
    watched.plan.ledger.execute(
        "INSERT INTO content (image_id, version, hash) SELECT id, version, 'same' FROM image WHERE key = 'moved.jpg'"
    )
    watched.plan.work()
    assert watched.plan.ledger.scalar("SELECT key FROM image WHERE id = :id", id=before) == "moved.jpg"


def test_a_listing_does_not_mark_what_another_job_found_since_it_began(watched: Watched, root: Path) -> None:
    """A page may be older than a file that an event named meanwhile."""
    ledger = watched.plan.ledger
    watched.pass_time(3_600)
    (job_id,) = watched.step()
    real = FolderStore.pages

    def older(*arguments: object, **more: object) -> object:
        pages = list(real(*arguments, **more))  # type: ignore[arg-type]
        (root / "b/cc.jpg").write_bytes(b"new")
        ledger.execute(
            """INSERT INTO image (archive_id, key, version, size, listed_at)
               SELECT archive_id, 'b/cc.jpg', 'v', 3, clock_timestamp() FROM image WHERE key = 'a.jpg'"""
        )
        return iter(pages)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FolderStore, "pages", older)
        watched.plan.go_through()
    assert ledger.view(job_id).listed == 4
    assert watched.missing() == set()


def test_a_planner_that_dies_is_followed_by_one_that_looks_at_the_rest(
    watched: Watched, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_keys, "PAGE", 2)
    names = [f"new-{number}.jpg" for number in range(5)]
    for name in names:
        (root / name).write_bytes(b"new")
    watched.tell(*names)
    watched.pass_time(60)
    (job_id,) = watched.step()
    real, pages = named_keys._record, iter(range(10))

    def die_in_the_second_page(*arguments: object) -> None:
        if next(pages) == 1:
            raise SystemExit
        real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(named_keys, "_record", die_in_the_second_page)
        with pytest.raises(SystemExit):
            watched.plan.go_through()
    assert watched.plan.ledger.view(job_id).listed == 2
    watched.plan.ledger.execute("UPDATE listing_range SET lease_until = now() - interval '1 second'")
    watched.plan.go_through()
    assert watched.plan.ledger.view(job_id).listed == 5
    assert sorted(watched.plan.waiting()) == names


def test_a_store_that_does_not_answer_is_asked_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailableError("the disk does not answer")

    watched.tell("a.jpg")
    watched.pass_time(60)
    (job_id,) = watched.step()
    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "stat", away)
        watched.plan.go_through()
    job = watched.plan.ledger.view(job_id)
    assert (job.state, job.note) == ("running", "waiting: the disk does not answer")
    watched.plan.ledger.execute("UPDATE listing_range SET next_at = NULL")
    watched.plan.go_through()
    watched.plan.work()
    watched.plan.go_through()
    assert watched.plan.ledger.view(job_id).state == "done"


# Buckets -----------------------------------------------------------------------------------------------------------

NAMES = ["2024/plain.jpg", "2024/summer days/a+b.jpg", "2024/100%.jpg", "2024/海.jpg", "2024/a%2Bb.jpg"]


def test_objects_with_any_name_are_looked_at_and_deleted_ones_missed(
    s3_settings: Settings, engine: Engine, s3_server: S3Server, bucket: str, services: Services
) -> None:
    from tests.services.fleet import client_services  # noqa: PLC0415

    s3_server.put(bucket, dict.fromkeys(NAMES, b"picture") | {"2023/other.jpg": b"other"})
    with client_services(s3_settings) as ramq:
        plan = Plan(engine, f"s3://{bucket}/2024", s3_endpoint_url=s3_server.endpoint_url)
        watched = Watched.new(ramq, plan, f"s3://{bucket}/2024", events="webhook")
        (listing,) = watched.do()
        assert listing.listed == len(NAMES)
        s3_server.put(bucket, dict.fromkeys(NAMES[:4], b"changed"))
        s3_server.client().delete_object(Bucket=bucket, Key=NAMES[4])
        job = watched.look(*NAMES, "2023/other.jpg", "2024/none.jpg")
    assert counts(job) == (4, 0, 4, 0)
    assert watched.missing() == {NAMES[4]}
    assert watched.known() == set(NAMES)


def test_a_key_that_the_store_refuses_and_nobody_knows_is_left_to_the_next_listing(
    s3_settings: Settings,
    engine: Engine,
    s3_server: S3Server,
    bucket: str,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.services.fleet import client_services  # noqa: PLC0415

    s3_server.put(bucket, dict.fromkeys(NAMES[:2], b"picture"))
    real = S3Store.stat

    def refusing(store: S3Store, key: str, known: str = "") -> ObjectInfo:
        is_shown = key == NAMES[1]
        return real(store, key, known) if is_shown else ObjectInfo(key, "!forbidden", 0, None)

    with client_services(s3_settings) as ramq:
        plan = Plan(engine, f"s3://{bucket}/2024", s3_endpoint_url=s3_server.endpoint_url)
        watched = Watched.new(ramq, plan, f"s3://{bucket}/2024", events="webhook")
        watched.do()
        monkeypatch.setattr(S3Store, "stat", refusing)
        job = watched.look("2024/made-up.jpg", *NAMES[:2])
    assert (job.state, job.listed) == ("done", 2), "a known one fails, as after a listing"
    assert watched.known() == set(NAMES[:2])


def test_the_events_of_a_bucket_are_not_for_a_folder(services: Services, root: Path) -> None:
    with pytest.raises(UsageError, match="is for buckets"):
        services.watches.add(str(root), WISHES, events="webhook")

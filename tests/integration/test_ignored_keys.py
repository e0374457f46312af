"""Folders and buckets as they are: what a job leaves out is counted, told, kept apart from failures, and erasable."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from ramq.services.jobs import ClientOptions, JobClient
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.ledger import ignored, reports
from storage.objects import folder
from storage.objects.base import S3Options
from storage.objects.ignoring import Selection
from storage.results import archives
from tests.junk import FILMS, FOLDERS, IN_FOLDERS, JUNK, LOOSE, PICTURES, SIDECARS, make_junk
from tests.plan import Plan
from workers import planner as planner_module
from workers.planner import Planner

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.ledger.views import JobReport, JobView
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_junk(tmp_path / "nas")
    return tmp_path / "nas"


@pytest.fixture
def plan(engine: Engine, root: Path) -> Plan:
    return Plan(engine, str(root))


def client(engine: Engine, endpoint: str | None = None) -> JobClient:
    return JobClient(engine, ClientOptions("lite", "none", (), False, S3Options(endpoint)))


def counts(view: JobView) -> tuple[int, int, int, int, int, int]:
    assert view.listed == view.done + view.skipped + view.failed + view.pending
    assert view.ignored == sum(view.ignored_by_reason.values())
    return view.listed, view.done, view.skipped, view.failed, view.pending, view.ignored


def outcomes(plan: Plan, job_id: int) -> dict[str, Any]:
    with unit_of_work(plan.engine) as session:
        entries = [json.loads(line) for line in reports.lines(session, job_id)]
    assert len({entry["key"] for entry in entries}) == len(entries)
    return {entry["key"]: entry.get("reason") or entry["outcome"] for entry in entries}


def report(plan: Plan, job_id: int) -> JobReport:
    with unit_of_work(plan.engine) as session:
        told = reports.summary(session, job_id)
    assert told.lines + told.erased + told.folder_markers == told.listed + told.ignored
    return told


def missing(plan: Plan) -> list[str]:
    return plan.ledger.scalar("SELECT array_agg(key) FROM image WHERE missing_since IS NOT NULL") or []


def test_three_photographs_among_junk_are_three_photographs(plan: Plan) -> None:
    view = plan.run()
    assert plan.waiting() == list(PICTURES)
    plan.work()
    view = plan.ledger.view(view.id)
    assert counts(view) == (3, 3, 0, 0, 0, 21)
    assert view.state == "done"
    assert view.ignored_by_reason == {"default": len(FOLDERS) + len(LOOSE), "film": 3, "sidecar": 6}
    assert plan.ledger.scalar("SELECT count(*) FROM image") == 3


def test_every_ignored_key_has_a_line_with_its_reason_and_the_hash_is_over_it(plan: Plan) -> None:
    job_id = plan.run().id
    plan.work()
    said = outcomes(plan, job_id)
    assert said == (
        dict.fromkeys(PICTURES, "done") | dict.fromkeys(FILMS, "film") | dict.fromkeys(SIDECARS, "sidecar")
        | dict.fromkeys((*FOLDERS, *LOOSE), "default")
    )  # fmt: skip
    assert list(said) == sorted(said, key=str.encode)
    with unit_of_work(plan.engine) as session:
        lines = list(reports.lines(session, job_id))
    told = report(plan, job_id)
    assert told.sha256 == hashlib.sha256(b"".join(lines)).hexdigest()
    assert (told.lines, told.ignored, told.ignored_by_reason["film"], told.folder_markers) == (24, 21, 3, 0)
    assert b'{"key": "2023/IMG_0100.JPG", "outcome": "done", "class": null}\n' in lines


@pytest.mark.parametrize("pages", range(1, 6))
def test_a_planner_that_dies_between_pages_counts_no_ignored_key_twice(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 4)
    whole = outcomes(plan, plan.run().id)
    plan.work()
    job_id = plan.start()
    real, numbers = Planner._record, iter(range(100))

    def die_after_some(self: Planner, *arguments: Any) -> Any:
        if next(numbers) == pages:
            raise SystemExit
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Planner, "_record", die_after_some)
        with pytest.raises(SystemExit):
            plan.go_through()
    assert counts(plan.ledger.view(job_id))[5] < 21
    plan.ledger.execute("UPDATE listing_range SET lease_until = now() - interval '1 second'")
    plan.go_through(plan.another())
    assert counts(plan.ledger.view(job_id)) == (3, 0, 3, 0, 0, 21)
    assert outcomes(plan, job_id).keys() == whole.keys()
    assert missing(plan) == []


def test_a_planner_that_lost_its_listing_counts_nothing(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = plan.start()
    real = Planner._record

    def taken_over_meanwhile(self: Planner, *arguments: Any) -> Any:
        plan.ledger.execute("UPDATE listing_range SET epoch = epoch + 1")
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Planner, "_record", taken_over_meanwhile)
        plan.planner.begin(lambda: False)
    assert plan.ledger.view(job_id).ignored == 0
    assert plan.ledger.scalar("SELECT count(*) FROM ignored") == 0


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_what_was_recorded_and_is_left_out_now_is_not_missing(
    plan: Plan, root: Path, monkeypatch: pytest.MonkeyPatch, page_size: int
) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", page_size)
    monkeypatch.setattr(planner_module, "STEP_SECONDS", 0.0)  # each page from another listing
    assert counts(plan.run(selection=Selection(has_defaults=False))) == (34, 0, 0, 0, 34, 0)
    plan.work()
    assert counts(plan.run()) == (3, 0, 3, 0, 0, 21)
    assert missing(plan) == []
    (root / PICTURES[0]).unlink()
    view = plan.run(selection=Selection(exclude=("IMG_0001.JPG",)))
    assert counts(view) == (1, 0, 1, 0, 0, 22)
    assert missing(plan) == [PICTURES[0]]
    # With other patterns everything that is there is listed again.
    assert counts(plan.run(selection=Selection(has_defaults=False))) == (33, 0, 33, 0, 0, 0)


def test_a_folder_that_is_left_out_is_not_read(plan: Plan, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = os.scandir

    def scandir(path: Any) -> Any:
        read.append(os.path.relpath(path, root))
        return real(path)

    monkeypatch.setattr(folder.os, "scandir", scandir)
    plan.run()
    assert set(read) == {".", "2023", "2024"}


def test_patterns_are_given_with_the_job_and_shown_with_it(engine: Engine, root: Path, plan: Plan) -> None:
    job = client(engine).create(str(root), selection=Selection(("/2024/",), ("*_0002*",), has_defaults=True))
    plan.go_through()
    view = plan.ledger.view(job.id)
    assert plan.waiting() == ["2024/IMG_0001.JPG"]
    assert (view.include, view.exclude, view.defaults) == (["/2024/"], ["*_0002*"], True)
    assert view.ignored_by_reason["pattern"] > 0
    with pytest.raises(UsageError, match="is not a pattern"):
        client(engine).create(str(root), selection=Selection(exclude=("[z-a]",)))


def test_files_of_patterns_count_in_the_root_and_below(plan: Plan, root: Path) -> None:
    (root / ".ramqignore").write_text("# mine\nIMG_0001.*\n")
    (root / "2024" / ".ramqignore").write_text("!IMG_0001.JPG\nIMG_0002.JPG\n", encoding="utf-8-sig")
    view = plan.run()
    assert plan.waiting() == ["2023/IMG_0100.JPG", "2024/IMG_0001.JPG"]
    assert view.ignored_by_reason["ramqignore"] == 2 + 1 + 3  # two files, one picture, and what goes with the other
    part = plan.run(prefix="2024")
    assert part.listed == 1


@pytest.mark.parametrize("trouble", ["pattern", "bytes", "link", "folder"])
def test_a_damaged_file_of_patterns_fails_the_job_and_says_where(plan: Plan, root: Path, trouble: str) -> None:
    file = root / "2024" / ".ramqignore"
    match trouble:
        case "pattern":
            file.write_text("*.gif\n[z-a]\n")
        case "bytes":
            file.write_bytes(b"\xff\xfe")
        case "link":
            file.symlink_to("/etc/hostname")
        case "folder":
            file.mkdir()
    view = plan.run()
    assert view.state == "failed"
    assert view.note is not None
    assert str(file) in view.note
    assert ("line 2: '[z-a]'" in view.note) == (trouble == "pattern")


def test_lists_of_keys_are_filtered_by_patterns_alone_and_a_key_counts_once(
    engine: Engine, plan: Plan, root: Path
) -> None:
    (root / ".ramqignore").write_text("*.JPG\n")
    names = [PICTURES[0], FILMS[0], "2024/Thumbs.db", PICTURES[1], FILMS[0], PICTURES[1], PICTURES[0]]
    (root / "list.txt").write_text("\n".join(names))
    job = client(engine).create(str(root / "list.txt"), selection=Selection(exclude=("2023/",)))
    plan.go_through()
    view = plan.ledger.view(job.id)
    assert counts(view) == (2, 0, 0, 0, 2, 2)
    assert outcomes(plan, job.id) == {
        PICTURES[0]: "pattern", FILMS[0]: "pattern", "2024/Thumbs.db": "pending", PICTURES[1]: "pending"
    }  # fmt: skip
    assert plan.ledger.scalar("SELECT count(*) FROM naming") == 0


def test_what_is_erased_is_erased_from_the_report_and_goes_with_the_archive(plan: Plan, root: Path) -> None:
    plan.run(selection=Selection(has_defaults=False))
    plan.work()
    job_id = plan.run(selection=Selection(exclude=("IMG_0001*",))).id
    archive_id = plan.ledger.archive.id
    with unit_of_work(plan.engine) as session:
        assert ignored.forget(session, archive_id, ["2024/IMG_0001.JPG", "none"]) == 1
    assert "2024/IMG_0001.JPG" not in outcomes(plan, job_id)
    told = report(plan, job_id)
    assert (told.ignored, told.lines, told.erased) == (22, 23, 1)
    with unit_of_work(plan.engine) as session:
        assert ignored.forget_below(session, archive_id, "", "2024/") > 5
    assert not any(key.startswith("2024/IMG_0001") for key in outcomes(plan, job_id))
    report(plan, job_id)
    plan.ledger.execute("DELETE FROM record")
    for table in ("vector", "failure", "image"):
        plan.ledger.execute(f"DELETE FROM {table}")
    with unit_of_work(plan.engine) as session:
        archives.remove(session, archive_id)
    assert plan.ledger.scalar("SELECT count(*) FROM ignored") == 0


def test_a_page_of_ignored_keys_is_one_row_for_each_reason(engine: Engine, tmp_path: Path) -> None:
    for number in range(1_500):
        (tmp_path / f"{number:04}.mov").write_bytes(b"")
    plan = Plan(engine, str(tmp_path))
    assert counts(plan.run()) == (0, 0, 0, 0, 0, 1_500)
    assert plan.ledger.scalar("SELECT count(*) FROM ignored") == 2


# Buckets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket_plan(engine: Engine, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.put(bucket, dict.fromkeys([*PICTURES, *JUNK], b"picture") | {"2024/@eaDir/": b""})
    return Plan(engine, f"s3://{bucket}", s3_endpoint_url=s3_server.endpoint_url)


def test_a_bucket_is_treated_like_a_folder_and_each_key_in_it_counts(bucket_plan: Plan) -> None:
    view = bucket_plan.run()
    assert bucket_plan.waiting() == list(PICTURES)
    assert counts(view) == (3, 0, 0, 0, 3, 32)
    assert view.ignored_by_reason == {"default": len(IN_FOLDERS) + len(LOOSE) + 1, "film": 3, "sidecar": 6}
    assert len(outcomes(bucket_plan, view.id)) == 35


def test_a_bucket_has_a_file_of_patterns_in_its_root_and_above_the_listed_part(
    bucket_plan: Plan, s3_server: S3Server, bucket: str
) -> None:
    s3_server.put(bucket, {".ramqignore": b"IMG_0001.*\n/2023/\n"})
    assert bucket_plan.run().ignored_by_reason["ramqignore"] == 9 + 4 + 1
    assert bucket_plan.waiting() == ["2024/IMG_0002.JPG"]
    bucket_plan.work()
    assert counts(bucket_plan.run(prefix="2024"))[:3] == (1, 0, 1)
    s3_server.put(bucket, {".ramqignore": b"[z-a]"})
    view = bucket_plan.run()
    assert view.state == "failed"
    assert view.note == f"s3://{bucket}/.ramqignore, line 1: '[z-a]' is not a pattern as in .gitignore"


def test_a_file_of_patterns_that_may_not_be_read_is_no_reason_to_read_everything(
    bucket_plan: Plan, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.listing_access_key)
    assert bucket_plan.run().pending == 3  # without the file, whoever may list needs nothing else to list
    s3_server.put(bucket, {".ramqignore": b"*"})
    view = bucket_plan.run()
    assert view.state == "failed"
    assert view.note is not None
    assert view.note.startswith(f"s3://{bucket}/.ramqignore cannot be read, and says what to leave out")


def test_what_was_recorded_from_a_bucket_and_is_left_out_now_is_not_missing(
    bucket_plan: Plan, s3_server: S3Server, bucket: str
) -> None:
    bucket_plan.run(selection=Selection(has_defaults=False))
    bucket_plan.work()
    gone = s3_server.client()
    gone.delete_object(Bucket=bucket, Key=IN_FOLDERS[0])
    gone.close()
    bucket_plan.run()
    assert missing(bucket_plan) == [IN_FOLDERS[0]]

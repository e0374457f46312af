"""Manifests as sources: what they name is planned once each, and what they cannot mean is refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import orc, parquet

from ramq.services.jobs import ClientOptions, JobClient
from storage.errors import ForbiddenError, NotFoundError, UsageError
from storage.objects import manifest as manifest_module
from storage.objects.base import S3Options
from tests.plan import Plan

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.ledger.views import JobView
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services

NAMES = ["a.jpg", "b/c.jpg", "b/é 1.jpg", "z.jpg"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


@pytest.fixture
def plan(engine: Engine) -> Plan:
    return Plan(engine, "s3://unrelated")


def client(engine: Engine, endpoint: str | None = None, allow: tuple[str, ...] = ()) -> JobClient:
    return JobClient(engine, ClientOptions("lite", "none", allow, False, S3Options(endpoint)))


def run(plan: Plan, source: Path | str, endpoint: str | None = None) -> JobView:
    job = client(plan.engine, endpoint).create(str(source))
    plan.go_through(plan.another(s3_endpoint_url=endpoint))
    return plan.ledger.view(job.id)


def write_list(path: Path, names: list[str]) -> Path:
    """The same entries in the format that the file's name says."""
    kind = path.name.partition(".")[2]
    if kind == "parquet":
        parquet.write_table(pa.table({"number": range(len(names)), "key": names}), path)
        return path
    body = {
        "txt": "".join(f"{name}\n" for name in names),
        "csv": "number,key\n" + "".join(f'{number},"{name}"\n' for number, name in enumerate(names)),
        "jsonl": "".join(json.dumps({"key": name}) + "\n" for name in names),
    }[kind.removesuffix(".gz")].encode()
    path.write_bytes(gzip.compress(body) if kind.endswith(".gz") else body)
    return path


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet", "txt.gz", "csv.gz", "jsonl.gz"])
def test_keys_beside_the_manifest_are_planned_once_each(plan: Plan, root: Path, kind: str) -> None:
    view = run(plan, write_list(root / f"keys.{kind}", [*NAMES, NAMES[1]]))

    assert (view.listed, view.pending, view.archive) == (4, 4, root.as_uri())
    assert sorted(plan.waiting()) == sorted(NAMES)
    assert plan.ledger.scalar("SELECT count(*) FROM naming") == 0


@pytest.mark.parametrize("spell", [str, Path.as_uri], ids=["path", "uri"])
def test_whole_paths_belong_to_the_folder_they_have_in_common(
    plan: Plan, root: Path, tmp_path: Path, spell: Any
) -> None:
    (tmp_path / "lists").mkdir()
    view = run(plan, write_list(tmp_path / "lists/keys.txt", [spell(root / name) for name in NAMES]))

    assert view.archive == root.as_uri()
    assert sorted(plan.waiting()) == sorted(NAMES)


def test_what_is_recorded_is_skipped_what_changed_is_read_again_and_what_is_gone_fails(plan: Plan, root: Path) -> None:
    keys = write_list(root / "keys.txt", NAMES)
    run(plan, keys)
    plan.work()
    (root / "a.jpg").write_bytes(b"changed")
    (root / "z.jpg").unlink()

    view = run(plan, keys)

    assert (view.listed, view.skipped, view.pending) == (4, 2, 2)
    assert sorted(plan.waiting()) == ["a.jpg", "z.jpg"]
    assert plan.ledger.scalar("SELECT array_agg(key) FROM image WHERE missing_since IS NOT NULL") == ["z.jpg"]


def test_duplicates_in_different_pages_count_once(plan: Plan, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "PAGE_SIZE", 3)
    view = run(plan, write_list(root / "keys.txt", NAMES * 5))

    assert (view.listed, view.pending) == (4, 4)


def test_a_planner_that_dies_is_followed_by_one_that_goes_on_behind_the_last_page(
    plan: Plan, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_module, "PAGE_SIZE", 1)
    job = client(plan.engine).create(str(write_list(root / "keys.txt", NAMES)))
    seen: list[str] = []
    monkeypatch.setattr("workers.planner.STEP_SECONDS", 0.0)
    while plan.ledger.view(job.id).is_listing:
        planner = plan.another()  # a new process remembers nothing
        assert planner.begin(lambda: False) or planner.go_on(lambda: False)
        seen = plan.waiting()

    assert seen == NAMES


def test_a_manifest_that_changed_since_ends_the_job_with_a_reason(plan: Plan, root: Path) -> None:
    keys = write_list(root / "keys.txt", NAMES)
    job = client(plan.engine).create(str(keys))
    write_list(keys, [*NAMES, "more.jpg"])
    plan.go_through()

    view = plan.ledger.view(job.id)
    assert view.state == "failed"
    assert view.note is not None
    assert "changed since" in view.note


BAD = {
    "empty.txt": (b"", "names no object"),
    "blank.txt": (b"\n\n", "names no object"),
    "latin.txt": ("é.jpg\n".encode("latin-1"), "not UTF-8"),
    "columns.csv": (b"name,size\na.jpg,3\n", "no column of keys"),
    "ragged.csv": (b"key,size\na.jpg\n", "row 1"),
    "not.jsonl": (b'{"key": "a.jpg"}\nnot json\n', "line 2"),
    "number.jsonl": (b'{"key": 3}\n', "entry 1"),
    "list.jsonl": (b"[]\n", "line 1"),
    "short.txt.gz": (gzip.compress(b"a.jpg\n" * 10_000)[:-20], "cut short"),
    "not.parquet": (b"a.jpg", "not Parquet"),
    "mixed.txt": (b"s3://one/a.jpg\ns3://two/b.jpg\n", "s3://two/b.jpg is not in s3://one"),
    "two.txt": (b"a.jpg\ns3://bucket/b.jpg\n", "s3://bucket/b.jpg"),
    "scheme.txt": (b"https://example.org/a.jpg\n", "https://example.org"),
    "nul.txt": (b"a\x00.jpg\n", "zero byte"),
    "bucket.txt": (b"s3://bucket\n", "names no object"),
    "manifest.json": (b"{}", "not an S3 Inventory"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_is_refused_in_one_line_when_it_is_enqueued(engine: Engine, root: Path, name: str) -> None:
    content, reason = BAD[name]
    (root / name).write_bytes(content)

    with pytest.raises(UsageError) as refused:
        client(engine).create(str(root / name))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_parquet_without_a_column_of_keys_and_a_manifest_that_is_not_there_are_refused(
    engine: Engine, root: Path
) -> None:
    parquet.write_table(pa.table({"name": NAMES}), root / "names.parquet")
    with pytest.raises(UsageError, match="no column of keys"):
        client(engine).create(str(root / "names.parquet"))
    with pytest.raises(NotFoundError):
        client(engine).create(str(root / "gone.txt"))


def test_the_allow_list_holds_for_the_manifest_and_for_every_entry(engine: Engine, root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    guarded = client(engine, allow=(str(root),))

    guarded.create(str(write_list(root / "keys.txt", NAMES)))
    for entry in ("../secret.jpg", str(tmp_path / "secret.jpg"), "link/secret.jpg", "s3://bucket/a.jpg"):
        with pytest.raises(UsageError):
            guarded.create(str(write_list(root / "bad.txt", ["a.jpg", entry])))
        with pytest.raises(ForbiddenError):
            guarded.create(str(write_list(root / "bad.txt", [entry])))
    with pytest.raises(ForbiddenError):
        guarded.create(str(write_list(tmp_path / "outside.txt", [str(root / "a.jpg")])))


def test_keys_of_a_bucket_are_planned_without_being_asked_for_and_skipped_by_their_etags(
    plan: Plan, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.put(bucket, {name: name.encode() for name in NAMES})
    keys = write_list(tmp_path / "keys.csv", [f"s3://{bucket}/{name}" for name in NAMES])
    s3_server.put(bucket, {"lists/keys.txt": "\n".join([*NAMES, "gone.jpg"]).encode()})

    first = run(plan, keys, s3_server.endpoint_url)
    assert (first.listed, first.pending, first.archive) == (4, 4, f"s3://{bucket}")
    # Only of a key that may be written in another way is it asked whether it exists.
    asked = "SELECT array_agg(key) FROM image WHERE version <> ''"
    assert plan.ledger.scalar(asked) == ["b/é 1.jpg"]
    for key in NAMES:  # as fetching finds out
        etag = hashlib.md5(key.encode()).hexdigest()
        plan.ledger.execute("UPDATE image SET version = :etag WHERE key = :key", etag=etag, key=key)
    plan.work()

    s3_server.put(bucket, {"a.jpg": b"changed"})
    again = run(plan, f"s3://{bucket}/lists/keys.txt", s3_server.endpoint_url)
    assert (again.listed, again.skipped, again.pending) == (5, 3, 2)
    assert sorted(plan.waiting()) == ["a.jpg", "gone.jpg"]


INVENTORY = {
    "bucket": ["photos"] * 4,
    "key": ["a b.jpg", "c/é.jpg", "old.jpg", "folder/"],
    "is_latest": [True, True, False, True],
    "is_delete_marker": [False] * 4,
    "size": [10, 20, 30, 0],
    "e_tag": ["e1", "e2", "e3", "e4"],
}


def write_inventory(folder: Path, format_: str) -> Path:
    """An S3 Inventory as it is delivered: its data beside the folder of the day."""
    data = folder / "inv/photos/daily/data"
    day = folder / "inv/photos/daily/2024-01-01T00-00Z"
    for one in (data, day):
        one.mkdir(parents=True)
    file = data / f"1.{format_.lower()}"
    if format_ == "CSV":
        rows = ['"photos","a+b.jpg","true","false","10","e1"', '"photos","c/%C3%A9.jpg","true","false","20","e2"']
        rows += ['"photos","old.jpg","false","false","30","e3"', '"photos","folder/","true","false","0","e4"']
        file.write_bytes(gzip.compress("\n".join(rows).encode()))
    elif format_ == "ORC":
        orc.write_table(pa.table(INVENTORY), file)
    else:
        parquet.write_table(pa.table(INVENTORY), file)
    (day / "manifest.json").write_text(
        json.dumps(
            {
                "sourceBucket": "photos",
                "fileFormat": format_,
                "fileSchema": "Bucket, Key, IsLatest, IsDeleteMarker, Size, ETag",
                "files": [
                    {
                        "key": file.relative_to(folder).as_posix(),
                        "size": file.stat().st_size,
                        "MD5checksum": hashlib.md5(file.read_bytes()).hexdigest(),
                    }
                ],
            }
        )
    )
    return day / "manifest.json"


@pytest.mark.parametrize("format_", ["CSV", "ORC", "Parquet"])
def test_an_inventory_gives_keys_sizes_and_versions_of_what_is_there_now(
    plan: Plan, tmp_path: Path, format_: str
) -> None:
    view = run(plan, write_inventory(tmp_path, format_))

    assert (view.archive, view.listed, view.pending) == ("s3://photos", 2, 2)
    with plan.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT key, version, size FROM image ORDER BY key").all()
    assert [tuple(row) for row in rows] == [("a b.jpg", "e1", 10), ("c/é.jpg", "e2", 20)]
    plan.work()
    assert run(plan, tmp_path / "inv/photos/daily/2024-01-01T00-00Z/manifest.json").skipped == 2


def test_an_inventory_whose_data_was_damaged_ends_the_job_with_a_reason(plan: Plan, tmp_path: Path) -> None:
    manifest = write_inventory(tmp_path, "CSV")
    data = tmp_path / "inv/photos/daily/data/1.csv"
    data.write_bytes(data.read_bytes() + b"x")

    view = run(plan, manifest)
    assert view.state == "failed"
    assert view.note is not None
    assert "checksum" in view.note


def test_an_inventory_in_a_bucket_is_read_there(
    plan: Plan, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    write_inventory(tmp_path, "Parquet")
    s3_server.upload_folder(tmp_path / "inv", bucket, "inv/")

    source = f"s3://{bucket}/inv/photos/daily/2024-01-01T00-00Z/manifest.json"
    view = run(plan, source, s3_server.endpoint_url)
    assert (view.archive, view.listed, view.pending, view.source) == ("s3://photos", 2, 2, source)


def test_a_folder_that_is_named_like_a_manifest_is_a_folder(plan: Plan, root: Path) -> None:
    folder = root / "odd.txt"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")

    assert run(plan, folder).listed == 1


def test_a_listing_marks_what_it_does_not_find_and_finds_it_again(plan: Plan, root: Path) -> None:
    def missing() -> list[str]:
        return plan.ledger.scalar("SELECT array_agg(key ORDER BY key) FROM image WHERE missing_since IS NOT NULL") or []

    run(plan, root)
    (root / "a.jpg").unlink()
    (root / "z.jpg").unlink()
    run(plan, root / "b")
    assert missing() == []
    run(plan, root)
    assert missing() == ["a.jpg", "z.jpg"]
    (root / "z.jpg").write_bytes(b"back")
    run(plan, root)
    assert missing() == ["a.jpg"]

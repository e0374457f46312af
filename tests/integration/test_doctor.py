"""The doctor finds faults that are really there, and says what to type next."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ram_core.checkpoints import entry
from ramq.doctor import examine, machine
from ramq.services.index import make_builder
from storage.database import make_engine, unit_of_work
from storage.ledger import workers as worker_rows
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.findings import Finding
    from tests.services.postgres import PostgresServer
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services


@pytest.fixture
def look(database_url: str, broker_url: str, tmp_path: Path) -> Callable[..., list[Finding]]:
    """Examines a set-up without faults, but for what is changed."""

    def look(source: str | None = None, **changes: Any) -> list[Finding]:
        healthy = {"database_url": database_url, "broker_url": broker_url, "device": "cpu"}
        return examine(settings_for(tmp_path / "data", **{**healthy, **changes}), source)

    return look


@pytest.fixture
def keys(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def faults(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state == "fault"]


def the_fault(findings: list[Finding]) -> Finding:
    (fault,) = faults(findings)
    assert fault.next
    assert "\n" not in fault.detail
    return fault


def test_a_set_up_without_faults_has_none_and_a_worker_that_is_not_there_is_worth_a_note(look: Any) -> None:
    findings = look()
    assert faults(findings) == []
    assert [(finding.name, finding.next) for finding in findings if finding.state == "note"] == [("workers", "ramq up")]


def test_a_broker_that_does_not_answer_or_is_not_set(look: Any) -> None:
    fault = the_fault(look(broker_url="redis://:their-password@127.0.0.1:1/0"))
    assert (fault.name, "127.0.0.1:1" in fault.detail, "their-password" in str(fault)) == ("broker", True, False)
    assert the_fault(look(broker_url=None)).detail.startswith("RAMQ_BROKER_URL is not set")


def test_a_database_that_does_not_answer_is_told_once(look: Any) -> None:
    fault = the_fault(look(database_url="postgresql+psycopg://somebody:their-password@127.0.0.1:1/ramq"))
    assert (fault.name, fault.next) == ("database", "ramq db run psql")
    assert "their-password" not in str(fault)


def test_a_standby_that_does_not_answer(look: Any, database_url: str) -> None:
    assert "standby" not in {finding.name for finding in look()}
    [same] = [finding for finding in look(search_database_url=database_url) if finding.name == "standby"]
    assert (same.state, "it follows no database" in same.detail) == ("note", True)
    fault = the_fault(look(search_database_url="postgresql+psycopg://somebody:their-password@127.0.0.1:1/ramq"))
    assert (fault.name, fault.next) == ("standby", 'psql "$RAMQ_SEARCH_DATABASE_URL"')
    assert "their-password" not in str(fault)


def test_a_database_at_another_revision_or_without_any(look: Any, engine: Engine, empty_database_url: str) -> None:
    assert the_fault(look(database_url=empty_database_url)).next == "ramq db upgrade"
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    fault = the_fault(look())
    assert (fault.next, "at revision 0002" in fault.detail) == ("ramq db upgrade", True)


def test_a_clock_that_is_wrong(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(minutes=7)

    monkeypatch.setattr(machine, "datetime", Late)
    fault = the_fault(look())
    assert fault.name == "clock"
    assert "differ by 420 s" in fault.detail


def test_an_archive_that_may_be_listed_and_not_read(
    look: Any, keys: pytest.MonkeyPatch, s3_server: S3Server, bucket: str
) -> None:
    s3_server.put(bucket, {"holiday/a.jpg": b"x"})
    options = {"s3_endpoint_url": s3_server.endpoint_url, "archive_allow": (f"s3://{bucket}/holiday",)}
    findings = look(**options)
    assert faults(findings) == []
    assert [finding.detail for finding in findings if finding.name == "archive"] == [
        f"s3://{bucket}/holiday can be listed and read"
    ]
    assert [finding.name for finding in findings].count("clock") == 2

    keys.setenv("AWS_ACCESS_KEY_ID", s3_server.listing_access_key)
    fault = the_fault(look(**options))
    assert "can be listed, but holiday/a.jpg cannot be read" in fault.detail
    assert "s3:GetObject" in fault.detail


def test_an_archive_that_is_not_there_or_refuses_the_credentials(
    look: Any, keys: pytest.MonkeyPatch, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    url = s3_server.endpoint_url
    assert "no bucket s3://nobody" in the_fault(look("s3://nobody", s3_endpoint_url=url)).detail
    assert the_fault(look(str(tmp_path / "gone"))).next == f"ls -ld {tmp_path / 'gone'}"
    assert the_fault(look("ftp://somewhere")).name == "archive"
    keys.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fault = the_fault(look(archive_allow=(f"s3://{bucket}",), s3_endpoint_url=url))
    assert "rejects the credentials" in fault.detail
    assert fault.next == f"aws s3 ls s3://{bucket}"


def test_a_gpu_that_is_not_there(look: Any) -> None:
    fault = the_fault(look(device="cuda:63"))
    assert (fault.name, fault.next) == ("device", "nvidia-smi")


def test_model_files_that_are_missing_and_one_that_is_damaged(look: Any, tmp_path: Path) -> None:
    fault = the_fault(look(model="ram_plus", models_dir=tmp_path))
    assert (fault.name, fault.next) == ("model files", "ramq models pull ram_plus")
    thresholds = entry("ram_plus").file("ram_tag_list_threshold.txt")
    folder = tmp_path / "ram_plus"
    folder.mkdir()
    (folder / thresholds.name).write_bytes(bytes(thresholds.size_bytes))  # its size, not its content
    fault = the_fault(look(model="ram_plus", models_dir=tmp_path))
    assert fault.next == "ramq models verify ram_plus"
    assert "sha256" in fault.detail


def test_a_folder_that_cannot_be_written_to_and_a_disk_that_is_nearly_full(
    look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place,) = [one for one in look(index_url="file:///proc/index") if one.name == "disk" and one.state == "fault"]
    assert (place.detail.startswith("cannot write to /proc"), place.next) == (True, "ls -ld /proc")
    monkeypatch.setattr(machine, "_LEAST_FREE_BYTES", 1 << 60)
    fault = the_fault(look())
    assert (fault.name, fault.next.startswith("du -sh ")) == ("disk", True)


@pytest.mark.parametrize("url", ["file://[host/x", "milvus+http://host:port"])
def test_an_address_of_the_index_that_is_none(look: Any, url: str) -> None:
    faults_of_index = [one for one in look(index_url=url) if one.name == "index"]
    assert [(one.state, one.next) for one in faults_of_index] == [("fault", "env | grep RAMQ_INDEX_URL")]
    assert "RAMQ_INDEX_URL must be" in faults_of_index[0].detail


def test_work_that_waits_while_the_only_worker_is_gone(look: Any, engine: Engine) -> None:
    with unit_of_work(engine) as session:
        worker_rows.beat(
            session, "w", host="attic", pid=7, device="cpu", model=None, job_id=None, images_per_second=0, stages={}
        )
        session.execute(text("UPDATE worker SET heartbeat_at = now() - interval '1 minute'"))
    (note,) = [finding for finding in look() if finding.name == "workers"]
    assert (note.state, note.next) == ("note", "ramq workers")
    assert "attic (process 7)" in note.detail
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO archive (uri) VALUES ('file:///photos')"))
        connection.execute(
            text(
                """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, state)
                   VALUES (1, 'file:///photos', '', 'lite', 'none', 0, 'running')"""
            )
        )
        connection.execute(text("INSERT INTO listing_range (job_id) SELECT id FROM job"))
    assert the_fault(look()).next == "ramq worker"


def test_an_index_that_was_published_and_is_gone(
    look: Any, postgres_server: PostgresServer, recognised: str, tmp_path: Path
) -> None:
    url = postgres_server.create_database(template=recognised)
    index = tmp_path / "index"
    settings = settings_for(tmp_path / "data", database_url=url, index_url=index.as_uri())
    engine = make_engine(url)
    make_builder(settings, engine).publish_new(1, force=True)
    engine.dispose()
    assert faults(look(database_url=url, index_url=index.as_uri())) == []
    shutil.rmtree(index)
    fault = the_fault(look(database_url=url, index_url=index.as_uri()))
    assert (fault.name, fault.next) == ("index", "ramq index rebuild")
    postgres_server.drop_database(url)

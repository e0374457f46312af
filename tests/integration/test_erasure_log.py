"""The log of deletions: what was deleted after a backup was taken is deleted again after its restore."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.doctor.database import restore_findings
from ramq.services.index import make_place
from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index import erasure_log
from tests.services.command_line import run_here
from tests.services.recognised import PHOTOGRAPHS
from tests.services.web import services_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.index.erasure_log import LoggedDeletion

pytestmark = pytest.mark.services


def entries(services: Services) -> list[Path]:
    return sorted((services.settings.data_dir / "index" / erasure_log.FOLDER).iterdir())


def count(services: Services, table: str = "image") -> int:
    with unit_of_work(services.engine) as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def as_of_an_older_backup(services: Services, image_ids: list[int]) -> None:
    """Logs a deletion of images that the database then knows nothing of: as if it was restored from before."""
    with unit_of_work(services.engine) as session:
        session.execute(
            text(
                """INSERT INTO deletion (request_sha256, kind, said_by, images, sha256)
                   VALUES ('', 'images', 'ann', 0, '')"""
            )
        )
        deletion_id = session.scalar(text("SELECT max(id) FROM deletion"))
        session.execute(
            text(
                """INSERT INTO deletion_part (deletion_id, number, image_ids)
                   SELECT :id, 0, range_agg(int8range(each, each, '[]')) FROM unnest(CAST(:ids AS bigint[])) AS each"""
            ),
            {"id": deletion_id, "ids": image_ids},
        )
    with unit_of_work(services.engine) as session:
        [deletion] = [each for each in services.erasures.list() if each.id == deletion_id]
        erasure_log.write(session, make_place(services.settings), deletion)
        session.execute(text("DELETE FROM deletion_part WHERE deletion_id = :id"), {"id": deletion_id})
        session.execute(text("DELETE FROM deletion WHERE id = :id"), {"id": deletion_id})


def unknown(services: Services) -> list[LoggedDeletion]:
    deletions, damaged = services.erasures.unknown()
    assert damaged == []
    return deletions


def test_a_deletion_is_logged_with_numbers_and_without_names(client: TestClient) -> None:
    services = services_of(client)
    services.erasures.delete([3, 5], by="ann")
    [file] = entries(services)
    entry = json.loads(file.read_text())
    assert [number for number, _ in entry["images"]] == [3, 5]
    assert entry["said_by"] == "ann"
    assert ".png" not in file.read_text()
    assert ".jpg" not in file.read_text()
    assert unknown(services) == []  # the database knows it


def test_nothing_is_deleted_that_cannot_be_logged_and_the_same_request_does_it_later(client: TestClient) -> None:
    services = services_of(client)
    folder = services.settings.data_dir / "index" / erasure_log.FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    before = count(services)
    with pytest.raises(ServiceUnavailableError, match="nothing was erased, because the deletion cannot be logged"):
        services.erasures.delete([3])
    assert count(services) == before
    folder.unlink()
    services.erasures.delete([3])
    assert count(services) == before - 1
    [file] = entries(services)
    assert [number for number, _ in json.loads(file.read_text())["images"]] == [3]


def test_what_was_deleted_after_the_backup_is_found_and_deleted_again(client: TestClient) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3, 5, 999])
    [found] = unknown(services)
    assert (found.said_by, found.images, found.same, found.renamed) == ("ann", 2, [3, 5], [])
    [finding] = restore_findings(services.settings, services.engine)
    assert finding.state == "fault"
    assert finding.detail == "2 images that were deleted after the backup was taken are here again"
    assert finding.next == "ramq delete --again"
    before = count(services)
    report = services.erasures.delete_again([found], by="ben")
    assert report is not None
    assert report.images == 2
    assert count(services) == before - 2
    assert services.erasures.verify(report.deletion_id).deletion.said_by == "ben"
    assert [each.same for each in unknown(services)] == [[]]
    assert len(entries(services)) == 1  # the log has it already
    assert restore_findings(services.settings, services.engine) == []
    assert services.erasures.delete_again(unknown(services)) is None


def test_an_image_that_got_the_number_since_is_left_alone_unless_somebody_says_so(client: TestClient) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3, 5])
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE image SET key = 'another.jpg' WHERE id = 5"))
    [found] = unknown(services)
    assert (found.same, found.renamed) == ([3], [5])
    before = count(services)
    services.erasures.delete_again([found])
    assert count(services) == before - 1
    services.erasures.delete_again(unknown(services), renamed=True)
    assert count(services) == before - 2


def test_a_wrong_deletion_is_taken_out_of_the_log(client: TestClient) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3])
    services.erasures.strike(unknown(services))
    assert entries(services) == []
    assert count(services) >= PHOTOGRAPHS


def environment_of(services: Services, broker_url: str) -> dict[str, str]:
    return {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": broker_url,
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deletion-000000099-20260101T000000000000.json", '{"format": 1'),
        ("deletion-000000099-20269930T991852315022.json", "{}"),
        (
            "deletion-000000099-20260101T000000000000.json",
            '{"format": 1, "deletion": 99, "begun_at": "2026-01-01T00:00:00", "said_by": "", "salt": "", "images": []}',
        ),
        ("deletion-000000099-20260101T000000000000.json", "[" * 100_000),
    ],
    ids=["cut", "no time", "no zone", "deep"],
)
def test_a_damaged_file_of_the_log_is_named_and_hides_no_other(
    client: TestClient, broker_url: str, name: str, content: str
) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3])
    [file] = entries(services)
    file.with_name(name).write_text(content)
    deletions, damaged = services.erasures.unknown()
    assert [each.same for each in deletions] == [[3]]
    assert damaged == [name]
    done = run_here(["delete", "--again", "--yes"], environment_of(services, broker_url))
    assert done.returncode != 0
    assert "what the damaged files of the log name was not erased" in done.stderr
    assert [each.same for each in services.erasures.unknown()[0]] == [[]]
    [finding] = restore_findings(services.settings, services.engine)
    assert (finding.state, name in finding.detail) == ("fault", True)


def test_a_number_that_was_given_twice_has_to_be_told_by_its_file(client: TestClient, broker_url: str) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3, 4])
    with unit_of_work(services.engine) as session:
        session.execute(text("SELECT setval(pg_get_serial_sequence('deletion', 'id'), 1, false)"))
    as_of_an_older_backup(services, [4, 5])
    first, second = unknown(services)
    assert first.number == second.number
    environment, before = environment_of(services, broker_url), count(services)
    twice = run_here(["delete", "--again", "--except", str(first.number), "--yes"], environment)
    assert (twice.returncode, "2 deletions have the number" in twice.stderr) == (2, True)
    assert (count(services), len(entries(services))) == (before, 2)
    done = run_here(["delete", "--again", "--except", second.file, "--yes"], environment)
    assert done.returncode == 0, done.stderr
    with unit_of_work(services.engine) as session:
        left = session.scalars(text("SELECT id FROM image WHERE id IN (3, 4, 5) ORDER BY id")).all()
    assert list(left) == [4, 5]


def test_images_with_another_name_are_told_at_the_end_and_by_doctor(client: TestClient, broker_url: str) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3])
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE archive SET uri = uri || 'b'"))
    done = run_here(["delete", "--again", "--yes"], environment_of(services, broker_url))
    assert done.returncode == 0
    assert "but 1 image with another name" in done.stderr
    [finding] = restore_findings(services.settings, services.engine)
    assert (finding.state, finding.next) == ("note", "ramq delete --again")


def test_the_command_shows_what_it_would_delete_again_and_leaves_out_what_was_wrong(
    client: TestClient, broker_url: str
) -> None:
    services = services_of(client)
    as_of_an_older_backup(services, [3])
    as_of_an_older_backup(services, [4, 5])
    first, second = unknown(services)
    environment = environment_of(services, broker_url)
    asked = run_here(["delete", "--again"], environment)
    assert asked.returncode == 2  # nobody could answer
    other = run_here(["delete", "--again", "--except", "77", "--yes"], environment)
    assert other.returncode == 2
    assert f"the log has {first.number}, {second.number}" in other.stderr
    before = count(services)
    done = run_here(["delete", "--again", "--except", str(second.number), "--yes"], environment)
    assert done.returncode == 0, done.stderr
    assert f"Deletion {first.number} by ann" in done.stderr
    assert "1 of 1 image exist again" in done.stderr
    assert "wrong. 2 of 2 images exist and stay" in done.stderr
    assert count(services) == before - 1
    again = run_here(["delete", "--again", "--yes"], environment)
    assert again.returncode == 0
    assert "Nothing was erased" in again.stderr


@pytest.mark.parametrize("words", [["--except", "1", "3"], ["--again", "3"], ["--again", "--archive", "1"]])
def test_options_that_make_no_sense_together_are_refused(words: list[str]) -> None:
    done = run_here(["delete", *words, "--yes"], {"RAMQ_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert done.returncode == 2

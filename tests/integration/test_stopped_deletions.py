"""Deletions that are refused or stopped: what is erased is told, and nothing stays planned of which nobody knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.client import Client, ProblemError
from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, ServiceUnavailableError
from storage.index import erasure_log
from storage.results import erasures
from tests.services.command_line import run_here
from tests.services.web import assert_problem, services_of, serving

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

WITHDRAWN = "Stopped. Nothing was erased, and nothing stays planned."


@pytest.fixture
def services(client: TestClient) -> Services:
    return services_of(client)


def log_of(services: Services) -> Path:
    return services.settings.data_dir / "index" / erasure_log.FOLDER


def refuse(services: Services) -> Path:
    """Let the log refuse every deletion, until the file that is returned is removed."""
    folder = log_of(services)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    return folder


def images(services: Services) -> list[int]:
    with unit_of_work(services.engine) as session:
        return list(session.scalars(text("SELECT id FROM image ORDER BY id")))


def environment_of(services: Services) -> dict[str, str]:
    return {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
    }


def run(services: Services, *words: str) -> CompletedProcess[str]:
    return run_here(words, environment_of(services))


def stop_in_part(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Press Ctrl-C when the part of this number, from 1, begins; parts have four images."""
    whole, begun = erasures.next_part, []
    monkeypatch.setattr(erasures, "IMAGES_AT_ONCE", 4)

    def stopping(*arguments: object) -> object:
        begun.append(arguments)
        if len(begun) == number:
            raise KeyboardInterrupt
        return whole(*arguments)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(erasures, "next_part", stopping)


def test_a_deletion_that_the_log_refuses_does_not_stay_planned(client: TestClient, services: Services) -> None:
    in_the_way = refuse(services)
    assert "nothing was erased" in assert_problem(client.delete("/v1/images/3"), 503, "service-unavailable")["detail"]
    done = run(services, "delete", "4", "--yes")
    assert (done.returncode, "nothing was erased" in done.stderr, "then ask again" in done.stderr) == (3, True, True)
    assert services.erasures.list() == []
    in_the_way.unlink()
    assert client.delete("/v1/images/3").json()["images"] == 1
    assert len(services.erasures.list()) == 1


def test_a_refused_deletion_leaves_no_trace_in_a_log_that_got_it_although_it_did_not_answer(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = erasure_log.write

    def unanswered(*arguments: object) -> None:
        written(*arguments)  # type: ignore[arg-type]  # as it was called
        raise ServiceUnavailableError("no answer")

    monkeypatch.setattr(erasure_log, "write", unanswered)
    with pytest.raises(ServiceUnavailableError, match="nothing was erased"):
        services.erasures.delete([3])
    assert services.erasures.unknown() == ([], [])
    assert list(log_of(services).iterdir()) == []


def test_a_planned_deletion_is_gone_on_with_or_withdrawn_by_its_number(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a process leaves it that is killed before it erases anything: it is planned, and the log has it.
    with monkeypatch.context() as killed:
        killed.setattr(erasures, "next_part", _killed)
        with pytest.raises(MemoryError):
            services.erasures.delete([3, 4])
        with pytest.raises(MemoryError):
            services.erasures.delete([5])
    first, second = (each.id for each in services.erasures.list())
    told = run(services, "erasures", str(first), "--verify")
    assert told.returncode == 1
    assert f"`ramq erasures {first} --resume` erases the rest, and with `--withdraw` it stays" in told.stdout
    assert f"deletion {second}" not in told.stdout
    withdrawn = run(services, "erasures", str(first), "--withdraw")
    assert f"Deletion {first} is withdrawn: nothing was erased. 2 images stayed." in withdrawn.stderr
    assert len(list(log_of(services).iterdir())) == 1
    gone_on = run(services, "erasures", str(second), "--resume")
    assert "erased the results of 1 image" in gone_on.stderr
    assert [each.id for each in services.erasures.list() if each.finished_at] == [second]
    assert run(services, "erasures", str(second), "--withdraw").returncode == 1
    assert "is finished" in run(services, "erasures", str(second), "--resume").stderr
    for words in (["--resume"], [str(second), "--resume", "--withdraw"], [str(second), "--resume", "--verify"]):
        assert run(services, "erasures", *words).returncode == 2
    with pytest.raises(NotFoundError, match="`ramq erasures` lists them"):
        services.erasures.resume(first)
    with pytest.raises(NotFoundError):
        services.erasures.list(first)
    with unit_of_work(services.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM image WHERE id IN (3, 4, 5)")) == 2


def _killed(*_arguments: object) -> None:
    raise MemoryError


def test_going_on_with_a_deletion_says_how_to_if_the_log_is_away(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in_part(monkeypatch, 2)
    stopped = run(services, "delete", "--archive", "1", "--all", "--yes")
    assert stopped.returncode == 130
    [deletion] = services.erasures.list()
    for file in log_of(services).iterdir():
        file.unlink()
    log_of(services).rmdir()
    in_the_way = refuse(services)
    done = run(services, "erasures", str(deletion.id), "--resume")
    assert (done.returncode, "nothing more was erased" in done.stderr) == (3, True)
    assert f"go on with `ramq erasures {deletion.id} --resume`" in done.stderr
    in_the_way.unlink()
    assert services.erasures.resume(deletion.id).images == deletion.images


def test_ctrl_c_tells_what_is_erased_and_how_to_go_on(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as stopping:
        stop_in_part(stopping, 3)
        stopped = run(services, "delete", "--archive", "1", "--all", "--yes")
    [deletion] = services.erasures.list()
    assert stopped.returncode == 130
    assert stopped.stdout == ""
    assert stopped.stderr.strip() == (
        f"Stopped. Deletion {deletion.id} has erased the results of 8 of {deletion.images} images. Erase the rest with "
        f"`ramq erasures {deletion.id} --resume`, or keep it with `ramq erasures {deletion.id} --withdraw`."
    )
    gone_on = run(services, "erasures", str(deletion.id), "--resume", "--json")
    assert f'"images": {deletion.images}' in gone_on.stdout


def test_a_stopped_deletion_is_withdrawn_and_its_other_images_stay_after_a_restore_too(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images(services)
    with monkeypatch.context() as stopping:
        stop_in_part(stopping, 3)
        assert run(services, "delete", "--archive", "1", "--all", "--keys", "--yes").returncode == 130
    [stopped] = services.erasures.list()
    left = images(services)
    with monkeypatch.context() as away:
        away.setattr(erasure_log, "withdraw", _away)
        assert run(services, "erasures", str(stopped.id), "--withdraw").returncode == 3
    assert services.erasures.list() == [stopped]
    done = run(services, "erasures", str(stopped.id), "--withdraw", "--json")
    assert json.loads(done.stdout) == {"deletion_id": stopped.id, "erased": 8, "stay": len(left)}
    assert images(services) == left
    report = services.erasures.verify(stopped.id, tells_images=True)
    assert report.ids == sorted(set(before) - set(left))
    assert report.keys is not None
    assert len(report.keys) == 8
    assert (report.deletion.images, report.deletion.finished_at is not None) == (8, True)
    assert not any("changed" in trace.place for trace in report.traces)
    [file] = log_of(services).iterdir()
    assert [number for number, _ in json.loads(file.read_text())["images"]] == report.ids
    with pytest.raises(ConflictError, match="is finished"):
        services.erasures.withdraw(stopped.id)
    services.erasures.delete_below("", "1")  # the same request is another deletion now
    assert len(services.erasures.list()) == 2


def test_a_part_that_was_erased_and_not_closed_stays_in_a_deletion_that_is_withdrawn(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images(services)
    services.images.thumbnail(before[0])
    with monkeypatch.context() as killed:
        killed.setattr(erasures, "IMAGES_AT_ONCE", 4)
        killed.setattr(services.erasures._thumbnails, "forget", _killed)
        with pytest.raises(MemoryError):
            services.erasures.delete_below("", "1")
    [deletion] = services.erasures.list()
    was = services.erasures.withdraw(deletion.id)
    assert (was.erased_ids, was.stay) == (before[:4], len(before) - 4)
    assert services.erasures.list()[0].erased["thumbnails"] == 1
    assert images(services) == before[4:]


def test_an_interrupted_deletion_is_listed_gone_on_with_and_ended_over_http(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(erasures, "next_part", _killed)
        for image_id in (3, 4):
            assert client.delete(f"/v1/images/{image_id}").status_code == 500
    first, second = client.get("/v1/erasures").json()["items"]
    assert (first["images"], first["finished_at"], first["erased"]) == (1, None, {})
    assert client.post(f"/v1/erasures/{first['id']}/resume").json()["images"] == 1
    withdrawn = client.post(f"/v1/erasures/{second['id']}/withdraw").json()
    assert withdrawn == {"deletion_id": second["id"], "erased": 0, "stay": 1}
    assert {3, 4} & set(images(services)) == {4}
    assert_problem(client.post(f"/v1/erasures/{first['id']}/withdraw"), 409, "conflict")
    assert_problem(client.post(f"/v1/erasures/{second['id']}/resume"), 404, "not-found")
    with serving(services) as url, Client(url) as ramq:
        assert [each.id for each in ramq.erasures()] == [first["id"]]
        with pytest.raises(ProblemError, match="is finished"):
            ramq.resume_erasure(first["id"])
        with pytest.raises(ProblemError, match="no deletion"):
            ramq.withdraw_erasure(second["id"])


def test_images_that_the_log_lacks_are_logged_before_a_deletion_goes_on(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the database had failed after the log, while the deletion was being withdrawn."""
    with monkeypatch.context() as stopping:
        stop_in_part(stopping, 2)
        run(services, "delete", "--archive", "1", "--all", "--yes")
    [deletion] = services.erasures.list()
    [file] = log_of(services).iterdir()
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "images": entry["images"][:4]}))
    services.erasures.resume(deletion.id)
    assert json.loads(file.read_text()) == entry


def test_ctrl_c_before_anything_is_erased_withdraws_the_deletion(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stopping:
        stop_in_part(stopping, 1)
        stopped = run(services, "delete", "3", "4", "--yes")
    assert (stopped.returncode, stopped.stderr.strip()) == (130, WITHDRAWN)
    assert services.erasures.list() == []
    assert list(log_of(services).iterdir()) == []
    with monkeypatch.context() as stopping:
        stopping.setattr(erasures, "plan", _interrupted)
        assert run(services, "delete", "3", "--yes").stderr.strip() == WITHDRAWN
    with monkeypatch.context() as stopping:
        stop_in_part(stopping, 1)
        stopping.setattr(erasure_log, "withdraw", _away)
        stopped = run(services, "delete", "3", "--yes")
    [deletion] = services.erasures.list()
    assert f"Deletion {deletion.id} has erased nothing yet." in stopped.stderr
    assert f"or keep it with `ramq erasures {deletion.id} --withdraw`" in stopped.stderr


def _interrupted(*_arguments: object, **_more: object) -> None:
    raise KeyboardInterrupt


def _away(*_arguments: object) -> None:
    raise ServiceUnavailableError("away")


def test_ctrl_c_while_an_archive_is_removed_names_the_command_that_removes_the_rest(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stopping:
        stop_in_part(stopping, 2)
        stopped = run(services, "archive", "remove", "1", "--yes")
    assert stopped.returncode == 130
    assert "Erase the rest with `ramq archive remove 1`, or" in stopped.stderr
    assert run(services, "archive", "remove", "1", "--yes").returncode == 0
    assert services.archives.list() == []


def test_a_process_that_hears_ctrl_c_while_it_waits_for_an_image_says_that_nothing_was_erased(
    services: Services,
) -> None:
    # As in a terminal, also where the tests run in the background, whose processes do not hear Ctrl-C.
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hearing}; from ramq.cli.main import main; main()"
    command = [sys.executable, "-c", code, "delete", "3", "--yes"]
    with unit_of_work(services.engine) as session:
        session.execute(text("SELECT id FROM image WHERE id = 3 FOR UPDATE"))
        with subprocess.Popen(
            command, env={**os.environ, **environment_of(services)}, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                _until_it_waits(services)
                process.send_signal(signal.SIGINT)
                _, complaint = process.communicate(timeout=60)
            finally:
                process.kill()
    assert (process.returncode, complaint.strip()) == (130, WITHDRAWN)
    assert services.erasures.list() == []


def _until_it_waits(services: Services) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ended = time.monotonic() + 60
    while True:
        with unit_of_work(services.engine) as session:
            if session.scalar(text(waiting)):
                return
        assert time.monotonic() < ended, "the deletion did not reach the image in a minute"
        time.sleep(0.05)

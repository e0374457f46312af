"""What a job left out, in the command line, the API, the client, the page and the metrics. It is never a failure."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from ramq.client import Client
from ramq.doctor import examine
from storage.objects.ignoring import default_list
from tests.junk import JUNK, make_junk
from tests.services.command_line import run_here
from tests.services.web import assert_problem, services_of, serving

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from starlette.testclient import TestClient

    from ramq.settings import Settings
    from tests.services.fleet import Fleet

pytestmark = pytest.mark.services


def picture() -> bytes:
    written = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(written, "JPEG")
    return written.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_junk(tmp_path / "nas", picture())
    return tmp_path / "nas"


def run(settings: Settings, *words: str) -> CompletedProcess[str]:
    environment = {
        "RAMQ_DATABASE_URL": settings.database_url or "",
        "RAMQ_BROKER_URL": settings.broker_url or "",
        "RAMQ_DATA_DIR": str(settings.data_dir),
    }
    return run_here(words, environment)


def check_nas(settings: Settings, source: Path) -> dict[str, Any]:
    done = run(settings, "enqueue", str(source), "--wait")
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    assert "listed 3 = done 3 + skipped 0 + failed 0 + pending 0" in done.stderr
    assert "ignored 21: default 12, film 3, sidecar 6" in done.stderr
    assert "XMP is read for the pictures beside it" in done.stderr
    job: dict[str, Any] = json.loads(run(settings, "job", job_id, "--json").stdout)
    assert (job["listed"], job["done"], job["failed"], job["ignored"]) == (3, 3, 0, 21)
    return job


def test_a_folder_of_a_camera_and_a_nas_ends_well(settings: Settings, fleet: Fleet, root: Path) -> None:
    fleet.start()
    job = check_nas(settings, root)
    [listed] = json.loads(run(settings, "jobs", "--json").stdout)["items"]
    assert listed["ignored_by_reason"] == {"default": 12, "film": 3, "sidecar": 6}
    table = run(settings, "jobs").stdout.splitlines()
    assert table[1].split()[:8] == [str(job["id"]), "done", "3", "3", "0", "0", "0", "21"]
    lines = [json.loads(line) for line in run(settings, "job", str(job["id"]), "--lines").stdout.splitlines()]
    assert sum(line["outcome"] == "ignored" for line in lines) == 21
    assert "ignored     21  (default 12, film 3, sidecar 6)" in run(settings, "job", str(job["id"]), "--report").stdout
    again = run(settings, "enqueue", str(root), "--exclude", "2024/", "--include", "*.JPG", "--wait", "--json")
    assert again.returncode == 0
    second = json.loads(again.stdout)
    assert (second["listed"], second["skipped"], second["exclude"], second["include"]) == (1, 1, ["2024/"], ["*.JPG"])
    nothing = run(settings, "enqueue", str(root), "--exclude", "*", "--wait")
    assert nothing.returncode == 0
    assert "nothing else is there" in nothing.stderr
    everything = run(settings, "enqueue", str(root), "--no-defaults", "--wait", "--json")
    assert everything.returncode == 1
    assert json.loads(everything.stdout)["failed"] == len(JUNK)


@pytest.mark.skipif("RAMQ_SHARED_DIR" not in os.environ, reason="RAMQ_SHARED_DIR is not set")
def test_the_shared_folder_of_a_nas_ends_well(settings: Settings, fleet: Fleet) -> None:
    fleet.start()
    check_nas(settings, Path(os.environ["RAMQ_SHARED_DIR"]) / "cases" / "nas")


def test_the_default_list_is_printed(settings: Settings) -> None:
    done = run(settings, "enqueue", "--list-defaults")
    assert (done.returncode, done.stdout) == (0, default_list())


def test_a_wrong_pattern_is_refused_by_the_command_line_the_api_and_the_page(
    settings: Settings, client: TestClient, root: Path
) -> None:
    done = run(settings, "enqueue", str(root), "--exclude", "[z-a]")
    assert done.returncode == 2
    assert "--exclude: '[z-a]' is not a pattern as in .gitignore" in done.stderr
    body = {"source": str(root), "exclude": ["[z-a]"]}
    assert_problem(client.post("/v1/jobs", json=body), 422, "usage")
    form = client.post("/jobs", data=body, headers={"accept": "text/html"})
    assert form.status_code == 422
    assert ">[z-a]</textarea>" in form.text


def test_the_api_the_client_and_the_page_take_patterns_and_show_them(client: TestClient, root: Path) -> None:
    services = services_of(client)
    body = {"source": str(root), "include": ["/2024/"], "exclude": ["*.gif", "#x"], "defaults": False}
    job = client.post("/v1/jobs", json=body).json()
    assert {name: job[name] for name in ("include", "exclude", "defaults", "ignored", "ignored_by_reason")} == {
        "include": ["/2024/"], "exclude": ["*.gif", "#x"], "defaults": False, "ignored": 0, "ignored_by_reason": {}
    }  # fmt: skip
    with serving(services) as address, Client(address) as ramq:
        one = ramq.enqueue(str(root), exclude=["*.png"])
        assert (one.exclude, one.include, one.defaults) == (["*.png"], [], True)
        assert not ramq.enqueue(str(root), defaults=False).defaults
    form = {"source": str(root), "exclude": "*.gif\r\n\r\n/private/\r\n", "junk": "list"}
    answer = client.post("/jobs", data=form)
    assert answer.status_code == 303
    shown = services.jobs.get(int(answer.headers["location"].rpartition("/")[2]))
    assert (shown.exclude, shown.defaults) == (["*.gif", "/private/"], False)
    assert "*.gif, /private/" in client.get(answer.headers["location"]).text


def test_the_page_of_a_job_and_the_metrics_count_what_was_left_out(client: TestClient) -> None:
    services = services_of(client)
    with services.engine.begin() as connection:
        connection.exec_driver_sql("""UPDATE job SET ignored = '{"film": 1200, "default": 3}'""")
    job = services.jobs.list().items[0]
    page = client.get(f"/jobs/{job.id}").text
    assert "a film" in page
    assert "1,203" in page
    metrics = client.get("/metrics").text
    assert f'ramq_job_ignored_keys{{job_id="{job.id}",reason="film"}} 1200.0' in metrics
    assert 'outcome="ignored"' not in metrics


def test_a_doctor_reads_a_photograph_and_not_the_junk_before_it(settings: Settings, root: Path) -> None:
    (root / ".DS_Store").chmod(0)
    found = [each for each in examine(settings, str(root)) if each.name == "archive"]
    assert [each.state for each in found] == ["ok"]


def test_a_deletion_forgets_the_names_of_ignored_keys_too(client: TestClient) -> None:
    services = services_of(client)
    job = services.jobs.list().items[0]
    keys = ["coffee.png", "private/a.mov", "private/b.mov", "z.mov"]
    with services.engine.begin() as connection:
        connection.exec_driver_sql(
            """INSERT INTO ignored (job_id, reason, first_key, last_key, keys)
               VALUES (%s, 'film', %s, %s, %s)""",
            (job.id, keys[0], keys[-1], keys),
        )
        connection.exec_driver_sql(
            """INSERT INTO image (archive_id, key, version, size) SELECT id, 'private/c.jpg', 'v', 1 FROM archive"""
        )

    def left() -> list[str]:
        with services.engine.begin() as connection:
            return list(connection.exec_driver_sql("SELECT unnest(keys) FROM ignored").scalars())

    client.delete(f"/v1/images/{services.images.find('coffee.png')}")
    assert left() == keys[1:]
    services.erasures.delete_below("private/", job.archive)
    assert left() == ["z.mov"]
    services.archives.remove(job.archive)
    assert left() == []


def test_a_deletion_that_matches_nothing_fails_and_says_what_is_near(
    client: TestClient, settings: Settings, root: Path
) -> None:
    for words in (
        ("delete", "--prefix", "nowhere/", "--yes"),
        ("delete", "nowhere.jpg", "--yes"),
        ("delete", "999999", "--yes"),
        ("delete", "--prefix", "nowhere/"),
    ):
        done = run(settings, *words)
        assert done.returncode == 2, words
        assert done.stderr.startswith(("ramq: no key begins with 'nowhere/'", "ramq: there is no image")), done.stderr
    assert json.loads(run(settings, "erasures", "--json").stdout)["items"] == []
    assert_problem(client.delete("/v1/images/999999"), 404, "not-found")

"""``ramq watch``: what is typed and what is printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.services.command_line import run_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from ramq.settings import Settings

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def run(settings: Settings) -> Run:
    environment = {
        "RAMQ_DATABASE_URL": str(settings.database_url),
        "RAMQ_BROKER_URL": str(settings.broker_url),
        "RAMQ_DATA_DIR": str(settings.data_dir),
        "RAMQ_MODEL": "lite",
    }
    return lambda *words: run_here(words, environment)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    folder = tmp_path / "photos"
    folder.mkdir()
    return str(folder)


def test_a_watch_from_its_beginning_to_its_end(run: Run, photos: str) -> None:
    added = run("watch", "add", photos, "--every", "15m", "--settle", "5", "--exclude", "*.gif")
    assert (added.returncode, added.stdout) == (0, "1\n")
    assert "No worker is running" in added.stderr
    listed = run("watch", "list")
    assert photos in listed.stdout
    assert "15 min" in listed.stdout
    shown = run("watch", "show", "1")
    assert "only the schedule" in shown.stderr
    assert run("watch", "pause", "1").stderr.startswith("watch 1  paused")
    assert run("watch", "resume", "1").stderr.startswith("watch 1  active")
    assert "is removed" in run("watch", "remove", "1").stderr
    gone = run("watch", "show", "1")
    assert (gone.returncode, gone.stderr) == (2, "ramq: there is no watch 1; see `ramq watch list`\n")
    assert "Nothing is watched" in run("watch", "list").stderr


def test_json_is_all_that_is_printed(run: Run, photos: str) -> None:
    added = json.loads(run("watch", "add", photos, "--json").stdout)
    assert (added["watch"]["id"], added["secret"]) == (1, None)
    assert json.loads(run("watch", "list", "--json").stdout)["items"][0]["exclude"] == []
    for command in ("show", "pause", "resume", "remove"):
        assert json.loads(run("watch", command, "1", "--json").stdout)["id"] == 1


def test_the_jobs_of_a_watch_are_listed_by_its_number(run: Run, photos: str) -> None:
    run("watch", "add", photos)
    assert json.loads(run("jobs", "--watch", "1", "--json").stdout)["items"] == []
    assert run("jobs", "--all").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--every", "1s"), "from 60s to 30d"),
        (("--events", "kafka"), "write inotify, webhook, sqs:QUEUE-URL"),
        (("--events", "webhook"), "for a folder: inotify"),
        (("--settle", "-1"), "--settle is a number of seconds"),
        (("--priority", "urgent"), "unknown priority"),
        (("--exclude", "["), "is not a pattern"),
        (("--stages", ","), "names no stage"),
        (("--vocabulary", "none"), "no vocabulary"),
    ],
)
def test_wrong_options_are_refused_in_one_line(run: Run, photos: str, words: tuple[str, ...], said: str) -> None:
    refused = run("watch", "add", photos, *words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "Nothing is watched" in run("watch", "list").stderr

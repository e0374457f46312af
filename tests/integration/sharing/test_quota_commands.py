"""Quotas and shares on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.services.command_line import run_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

pytestmark = pytest.mark.services


@pytest.fixture
def run(engine: Engine, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    environment = {
        "RAMQ_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": "redis://127.0.0.1:1/0",
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_USER": "root.here",
    }
    return lambda *words: run_here(words, environment)


def test_a_quota_is_set_listed_and_removed(run: Callable[..., CompletedProcess[str]]) -> None:
    assert "nobody is limited" in run("quota", "list").stderr
    run("user", "add", "ann")
    assert (
        "images-waiting for user ann: 10,000." in run("quota", "set", "images-waiting", "10000", "--user", "ann").stderr
    )
    assert "users without an own quota: normal" in run("quota", "set", "highest-priority", "normal").stderr
    assert json.loads(run("quota", "list", "--json").stdout)["items"] == [
        {"kind": "highest_priority", "subject": "default", "name": "", "amount": "normal"},
        {"kind": "images_waiting", "subject": "user", "name": "ann", "amount": 10000.0},
    ]
    assert "everybody" in run("quota", "list").stdout
    assert "0 of 10,000" in run("quota", "list", "--use").stdout
    used = json.loads(run("quota", "list", "--use", "--json").stdout)["items"]
    assert [(each["name"], each["most_images_waiting"]) for each in used] == [("ann", 10000.0)]
    assert "Quota removed" in run("quota", "unset", "images-waiting", "--user", "ann").stderr
    again = run("quota", "unset", "images-waiting", "--user", "ann")
    assert (again.returncode, "there is no quota images-waiting for user ann" in again.stderr) == (2, True)


def test_a_share_is_set(run: Callable[..., CompletedProcess[str]]) -> None:
    run("user", "add", "ann")
    assert "ann has the share 2 now" in run("user", "share", "ann", "2.0").stderr
    assert json.loads(run("quota", "list", "--use", "--json").stdout)["items"][0]["share"] == 2.0
    wrong = run("user", "share", "ann", "0")
    assert (wrong.returncode, "a share is a number from 0.01 to 100" in wrong.stderr) == (2, True)


def test_a_refused_job_ends_with_1_and_says_why(run: Callable[..., CompletedProcess[str]], archive: Path) -> None:
    run("quota", "set", "jobs-at-once", "1")
    assert run("enqueue", str(archive)).returncode == 0
    refused = run("enqueue", str(archive))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "1 job at once are the most for root.here; 1 run or are paused." in refused.stderr

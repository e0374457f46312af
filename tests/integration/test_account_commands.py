"""Users and tokens on the command line, and whose name is recorded there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from ramq.user_of_system import user_of_system
from ramq.wiring import Services
from tests.services.command_line import run_here
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def environment(engine: Engine, tmp_path: Path) -> dict[str, str]:
    return {
        "RAMQ_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": "redis://127.0.0.1:1/0",
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_USER": "root.here",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return lambda *words, **more: run_here(words, environment | more)


def test_a_token_is_made_shown_once_listed_and_revoked(run: Run) -> None:
    assert "ramq user add NAME --role admin" in run("user", "list").stderr
    assert "ramq token create boss" in run("user", "add", "boss", "--role", "admin").stderr
    made = run("token", "create", "boss", "--expires", "90d", "--note", "laptop")
    assert re.fullmatch(r"ramq_[A-Za-z0-9_-]{43}\n", made.stdout)
    assert "not shown again" in made.stderr
    assert "From now on every request to a web server needs a token, also on this machine." in made.stderr
    more = json.loads(run("token", "create", "boss", "--role", "look", "--json").stdout)
    assert more["secret"].startswith("ramq_")
    assert (more["token"]["id"], more["token"]["role"], more["token"]["expires_at"]) == (2, "look", None)
    listed = run("token", "list").stdout
    assert "laptop" in listed
    assert made.stdout.strip() not in listed
    tokens = json.loads(run("token", "list", "--user", "boss", "--json").stdout)["items"]
    assert [(token["id"], token["state"]) for token in tokens] == [(2, "valid"), (1, "valid")]
    assert "notice within seconds" in run("token", "revoke", "2").stderr
    assert json.loads(run("token", "list", "--json").stdout)["items"][0]["state"] == "revoked"
    locked = run("token", "revoke", "1")
    assert (locked.returncode, "make another one first" in locked.stderr) == (1, True)
    assert run("token", "revoke", "1", RAMQ_API_TOKENS="another-for-everything").returncode == 0
    assert run("token", "list", "--user", "nobody").returncode == 2


def test_users_are_changed_and_the_history_names_who_did_it(run: Run) -> None:
    run("user", "add", "boss", "--role", "admin")
    run("token", "create", "boss")
    for words in (
        ("add", "ann"),
        ("role", "ann", "run"),
        ("disable", "ann"),
        ("enable", "ann"),
        ("rename", "ann", "anna"),
        ("remove", "anna", "--yes"),
    ):
        done = run("user", *words)
        assert done.returncode == 0, done.stderr
    asked = run("user", "remove", "boss")
    assert (asked.returncode, "add --yes" in asked.stderr) == (2, True)
    refused = run("user", "remove", "boss", "--yes")
    assert (refused.returncode, "nobody could manage users" in refused.stderr) == (1, True)
    events = json.loads(run("user", "history", "--json").stdout)["items"]
    assert {event["said_by"] for event in events} == {"root.here"}
    assert [event["what"] for event in reversed(events)] == [
        "added", "token_created", "added", "role", "disabled", "enabled", "renamed", "removed",
    ]  # fmt: skip
    assert len(json.loads(run("user", "history", "--limit", "2", "--json").stdout)["items"]) == 2
    assert "ann → anna" in run("user", "history", "--limit", "0").stdout
    assert run("user", "remove", "boss", "--open", "--yes").returncode == 0
    assert json.loads(run("user", "list", "--json").stdout) == {"items": []}


def test_a_job_is_started_by_the_user_of_the_system_unless_another_name_is_set(
    run: Run, environment: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    run("enqueue", str(tmp_path / "photos"))
    del environment["RAMQ_USER"]
    run("enqueue", str(tmp_path / "photos"))
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    assert [job.said_by for job in services.jobs.list().items] == [user_of_system(), "root.here"]
    assert f"started by {user_of_system()}" in run("job", "2").stderr
    assert services.jobs.create(str(tmp_path / "photos")).said_by == "local"

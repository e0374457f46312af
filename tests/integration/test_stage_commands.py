"""Stages on the command line: what a job costs is told first; tags that are no things are named in files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.services.command_line import run_here
from tests.services.recognised import CAT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def run(recognised_engine: Engine, tmp_path: Path) -> Run:
    """Runs a command on the recognised photographs."""
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    return lambda *words: run_here(words, environment)


def jobs(run: Run) -> int:
    return len(json.loads(run("jobs", "--json").stdout)["items"])


def test_a_dry_run_only_says_what_a_job_costs(run: Run) -> None:
    before, recorded = jobs(run), len(run("export").stdout.splitlines())
    said = run("locate", "--tags", "dog, Cat,dog", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"{recorded} images. 2 tags to look for in each. No rate is known yet")
    read = run("read", "--tag", CAT, "--dry-run")
    assert read.stdout.startswith("1 image. No rate is known yet")
    estimate = json.loads(run("locate", "--dry-run", "--json").stdout)
    assert (estimate["images"], estimate["done"], estimate["seconds"]) == (recorded, 0, None)
    assert estimate["tags"] > 0
    assert jobs(run) == before
    refused = run("locate", "--archive", "nowhere", "--dry-run")
    assert refused.returncode == 2


def test_a_job_is_started_without_a_question(run: Run) -> None:
    before = jobs(run)
    started = run("locate", "--tag", CAT, "--tags", "Ball,dog")
    assert started.returncode == 0, started.stderr
    assert "1 image. 2 tags to look for in each." in started.stderr
    number = started.stdout.strip()
    assert json.loads(run("job", number, "--json").stdout)["options"] == {"tags": ["ball", "dog"]}
    assert jobs(run) == before + 1
    assert "1 image" not in run("locate", "--tag", CAT, "--json").stderr


def test_a_tag_that_is_too_long_is_refused_before_a_job_starts(run: Run) -> None:
    before = jobs(run)
    refused = run("locate", "--tags", f"dog,{'猫' * 201}")
    assert refused.returncode == 2
    assert "has 201 characters; use at most 200 for each tag, and commas between tags" in refused.stderr
    assert jobs(run) == before
    assert run("locate", "--tags", f"dog,{'猫' * 200}", "--dry-run").returncode == 0


def test_tags_that_are_no_things_are_listed_and_taken_back(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "scenes.txt"
    file.write_text(f"# scenes\n\nespresso\n  {CAT}  \n")
    assert "2 tags will not be looked for" in run("policy", "no-thing", "espresso", "--file", str(file)).stderr
    listed = run("policy", "list").stdout
    assert listed.count("no-thing") == 2
    assert run("search", "--tag", "espresso").stdout.count("coffee.png") == 1
    all_things = json.loads(run("policy", "list", "--json").stdout)["items"]
    assert {(rule["name"], rule["kind"]) for rule in all_things} == {
        ("espresso", "no_thing"),
        (CAT.lower(), "no_thing"),
    }
    assert run("policy", "thing", "espresso", CAT).returncode == 0
    assert json.loads(run("policy", "list", "--json").stdout)["items"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-thing",), "no tag is named"),
        (("no-thing", "espresso", "no such thing at all"), "no such thing at all"),
        (("no-thing", "--file", "/no/such/file"), "cannot be read"),
        (("thing", "espresso"), "there is no rule"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_whole(run: Run, words: tuple[str, ...], message: str) -> None:
    refused = run("policy", *words)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert json.loads(run("policy", "list", "--json").stdout)["items"] == []

"""What ``--json`` prints is one JSON document, also if there is nothing to print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from ramq.cli.main import command_line
from tests.services.command_line import run_here
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from subprocess import CompletedProcess
    from typing import Any

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

LINES = {"train"}
"""Commands whose output is a document a line."""

WORDS = {
    "act_id": "1", "amount": "5", "archive": "1", "file": "{folder}/names.txt", "generation_id": "1", "a": "1",
    "b": "1", "image": "3", "images": "3", "job_id": "1", "kind": "images-a-day", "model": "lite", "name": "lite",
    "new": "pets@1", "old": "pets@1", "recipe": "finetune", "source": "{folder}", "sources": "{folder}", "tag": "cat",
    "target": "lite", "to": "{folder}", "user": "ann", "watch_id": "1", "words": "word",
    "--after": "1", "--before": "1", "--dataset": "pets", "--generation": "1", "--out": "{folder}/out",
    "--vocabulary": "birds",
}  # fmt: skip
"""What a required argument or option is given."""

MORE = (
    ["delete", "--again"],
    ["delete", "--archive", "1", "--all"],
    ["duplicates", "--near"],
    ["erasures", "--verify"],
    ["erasures", "1", "--resume"],
    ["keyword", "add", "word", "--image", "3"],
    ["keyword", "add", "word", "--query", "no such words"],
    ["keyword", "remove", "word", "--all"],
    ["keyword", "remove", "word", "--query", "archive:1"],
    ["locate", "--dry-run"],
    ["metadata", "--dry-run"],
    ["parse", "--file", "{folder}/empty.txt"],
    ["parse", "nothing in particular"],
    ["quota", "list", "--use"],
    ["read", "--dry-run"],
    ["search", "--tag", "cat", "--archive", "1"],
    ["tag", "3", "--add", "cat"],
    ["teach", "--from-corrections"],
    ["teach", "--list"],
)
"""Further ways of these commands."""


def commands() -> Iterator[tuple[list[str], Any]]:
    """Every command that has ``--json``: its words, and what it declares."""

    def below(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
        for name, each in getattr(command, "commands", {}).items():
            yield from below(each, [*words, name])
        if any("--json" in each.opts for each in command.params):
            yield words, command

    yield from below(get_command(command_line()), [])


def needed_by(command: Any) -> list[str]:
    words = []
    for each in command.params:
        if each.required:
            is_option = each.param_type_name == "option"
            words += [each.opts[0], WORDS[each.opts[0]]] if is_option else [WORDS[each.name]]
    return words


def check(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> CompletedProcess[str]:
    """Run a command with ``--json``. What it prints is JSON, and what does nothing says why."""
    done = run_here([word.format(folder=folder) for word in [*words, "--json"]], environment, folder)
    said = f"{' '.join(words)}: {done.returncode}, {done.stdout[:200]!r}, {done.stderr[:300]!r}"
    if done.returncode == 0 or done.stdout:
        documents = done.stdout.splitlines() if words[0] in LINES else [done.stdout]
        for document in documents or [""]:
            try:
                json.loads(document)
            except ValueError:
                pytest.fail(said)
    else:
        assert done.stderr, said
    assert done.returncode in {0, 1, 2}, said
    assert "this is a bug" not in done.stderr, said
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "names.txt").write_text("heron\n")
    (folder / "empty.txt").write_text("")
    return folder


def test_every_listing_of_an_empty_database_is_json(database_url: str, broker_url: str, folder: Path) -> None:
    environment = {
        "RAMQ_DATA_DIR": str(folder / "data"), "RAMQ_DATABASE_URL": database_url, "RAMQ_BROKER_URL": broker_url,
    }  # fmt: skip
    answered = set()
    for words, command in commands():
        if not needed_by(command) and check(words, environment, folder).returncode == 0:
            answered.add(" ".join(words))
    # The rest need a choice, such as what to delete, or images.
    assert answered >= {
        "archives", "backlog", "dataset list", "duplicates", "erasures", "index status", "index verify", "jobs",
        "keyword history", "keyword list", "missing", "models list", "policy list", "quota list", "tags",
        "token list", "trainings", "user history", "user list", "vocab list", "watch list", "workers",
    }  # fmt: skip
    assert json.loads(check(["delete", "--again"], environment, folder).stdout)["images"] == 0


def test_every_command_prints_json_or_says_why_it_does_nothing(
    client: TestClient, broker_url: str, folder: Path
) -> None:
    services = services_of(client)
    environment = {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": broker_url,
    }
    declared = {" ".join(words): command for words, command in commands()}
    # What is made is there for the commands after it, and what deletes comes last.
    runs = [[*words.split(), *needed_by(command)] for words, command in declared.items()]
    for words in sorted([*runs, *MORE], key=lambda words: bool({"delete", "remove", "forget", "drop"} & set(words))):
        name = next(name for count in (3, 2, 1) if (name := " ".join(words[:count])) in declared)
        agreed = ["--yes"] if any("--yes" in each.opts and each.is_flag for each in declared[name].params) else []
        check([*words, *agreed], environment, folder)

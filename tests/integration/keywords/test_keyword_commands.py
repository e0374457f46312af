"""Keywords on the command line: given, removed, renamed, listed, continued and undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ramq.wiring import Services
from tests.services.command_line import run_here
from tests.services.recognised import CAT, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def environment(recognised_engine: Engine, tmp_path: Path) -> dict[str, str]:
    return {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_USER": "ann",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs a command on the recognised photographs."""
    return lambda *words: run_here(words, environment)


def data(answer: CompletedProcess[str]) -> dict[str, object]:
    assert answer.returncode == 0, answer.stderr
    found: dict[str, object] = json.loads(answer.stdout)
    return found


def test_images_get_words_that_are_found_shown_and_undone(run: Run) -> None:
    given = run("keyword", "add", "Anna's wedding", "garden", "--image", "coffee.png")
    assert (given.returncode, given.stderr) == (0, "1 image of 1 changed. `ramq keyword undo 1` takes it back.\n")
    found = run("search", "keyword:garden")
    assert "coffee.png" in found.stdout
    assert "Anna's wedding, garden" in found.stdout
    shown = run("show", "coffee.png")
    assert "Anna's wedding" in shown.stdout.partition("keyword")[2]
    history = run("keyword", "history").stdout
    assert "give Anna's wedding, garden" in history
    assert "Undone" in run("keyword", "undo", "1").stderr
    assert "No image matches" in run("search", "keyword:garden").stderr
    assert "undone by ann" in run("keyword", "history").stdout
    again = run("keyword", "undo", "1")
    assert again.returncode == 2
    assert "ann has undone the change 1 already; `ramq keyword redo 1`" in again.stderr
    assert "1 image of 1 changed" in run("keyword", "redo", "1").stderr
    assert "coffee.png" in run("search", "keyword:garden").stdout
    assert "redone by ann" in run("keyword", "history").stdout


def test_a_search_chooses_images_after_a_question(run: Run) -> None:
    asked = run("keyword", "add", "photograph", "--query", "prefix:c")
    assert asked.returncode == 2
    assert "add --yes" in asked.stderr
    assert data(run("keyword", "history", "--json"))["items"] == []
    done = data(run("keyword", "add", "photograph", "--query", "prefix:c", "--yes", "--json"))
    assert (done["state"], done["query"]) == ("done", "prefix:c")
    assert done["changed"] == done["images"] != 0
    wrong = run("keyword", "add", "x", "--query", "prefix:c (", "--yes")
    assert wrong.returncode == 2
    assert "^" in wrong.stderr


def test_words_are_renamed_listed_and_removed_everywhere(run: Run) -> None:
    run("keyword", "add", "brige", "--query", "prefix:c", "--yes")
    renamed = data(run("keyword", "rename", "brige", "bridge", "--yes", "--json"))
    assert (renamed["added"], renamed["removed"]) == (["bridge"], ["brige"])
    (listed,) = data(run("keyword", "list", "--json"))["items"]  # type: ignore[misc]
    assert listed == {"word": "bridge", "images": renamed["changed"]}
    assert "bridge" in run("keyword", "list", "br").stdout
    gone = run("keyword", "remove", "bridge", "--all", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "No keywords" in run("keyword", "list").stderr
    assert "no image has the keyword" in run("keyword", "remove", "bridge", "--all", "--yes").stderr


def test_a_word_that_is_a_tag_is_told_and_added_as_one_if_asked(run: Run) -> None:
    told = run("keyword", "add", CAT.upper(), "--image", "coffee.png")
    assert f'"{CAT.upper()}" is the tag "{CAT}"' in told.stderr
    assert "person" not in run("show", "coffee.png").stdout
    both = data(run("keyword", "add", CAT, "--image", "coffee.png", "--with-tags", "--json"))
    assert both["tags"] == [CAT]
    assert "person" in run("show", "coffee.png").stdout
    run("keyword", "undo", str(both["id"]))
    assert "person" not in run("show", "coffee.png").stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("add", "x"), "say which images"),
        (("add", "x", "--image", "1", "--query", "cat"), "cannot be combined"),
        (("add", "", "--image", "coffee.png"), "at least one letter"),
        (("add", "x", "--image", "nowhere.png"), "nowhere.png"),
        (("remove", "x", "--all", "--image", "1"), "--all is about every image"),
        (("undo", "99"), "there is no change of keywords 99"),
        (("rename", "a", "b", "--yes"), "no image has the keyword 'a'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(run: Run, words: tuple[str, ...], reason: str) -> None:
    answer = run("keyword", *words)
    assert answer.returncode == 2
    assert reason in answer.stderr
    assert "Traceback" not in answer.stderr


def test_ctrl_c_leaves_whole_parts_and_says_how_to_go_on(
    environment: dict[str, str], run: Run, recognised_engine: Engine, tmp_path: Path
) -> None:
    services = Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)
    image_id = services.images.find("coffee.png")
    with recognised_engine.connect() as blocking:
        blocking.exec_driver_sql(f"SELECT id FROM image WHERE id = {image_id} FOR UPDATE")
        # As in a terminal, also where the tests run in the background, whose processes do not hear Ctrl-C.
        hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{hearing}; from ramq.cli.main import main; main()"
        command = [sys.executable, "-c", code, "keyword", "add", "late", "--image", "coffee.png"]
        process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        while not blocking.exec_driver_sql(waiting).scalar():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        blocking.rollback()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    [act] = services.keywords.history().items
    assert (act.state, act.seen) == ("unfinished", 0)
    assert f"0 of 1 image done. `ramq keyword continue {act.id}`" in said
    assert run("keyword", "continue", str(act.id)).returncode == 0
    assert services.keywords.words([image_id]) == {image_id: ["late"]}

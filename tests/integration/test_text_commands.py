"""The text in images on the command line: shown, corrected and exported."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from ramq.wiring import Services
from storage.results.reading_views import FoundLine
from storage.results.region_views import FoundRegion
from tests.readings import HOSTILE, rectangle
from tests.services.command_line import run_here
from tests.services.located import write_regions
from tests.services.read import write_text
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services

LINES = [
    FoundLine("GOOD MORMING", 0.71, rectangle(0.1, 0.1, 0.6, 0.2)),
    FoundLine(HOSTILE, 0.5, rectangle(0.1, 0.5, 0.9, 0.6)),
]


@pytest.fixture
def run(recognised_engine: Engine, tmp_path: Path) -> Run:
    """Runs a command on the recognised photographs. Text was read in one of them."""
    services = Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)
    write_text(services, services.images.find("coffee.png"), LINES)
    environment = {
        "RAMQ_USER": "ann",
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    return lambda *words: run_here(words, environment)


def told(run: Run) -> list[str]:
    """The lines of the image."""
    return [line["text"] for line in json.loads(run("line", "coffee.png", "--json").stdout)["lines"]]


def test_search_prints_the_lines_that_match(run: Run) -> None:
    found = run("search", "read:good")
    assert found.returncode == 0, found.stderr
    header, hit = found.stdout.splitlines()
    assert header.split()[:4] == ["image", "score", "key", "text"]
    assert "GOOD MORMING" in hit
    [item] = json.loads(run("search", "read:good", "--json").stdout)["items"]
    assert item["read"][0]["spans"] == [[0, 4]]
    hostile = run("search", "read:script")
    assert "alert" in hostile.stdout
    assert "\u202e" not in hostile.stdout
    assert "text" not in run("search", "--limit", "3").stdout.splitlines()[0].split()


def test_show_prints_the_lines_of_text(run: Run) -> None:
    shown = run("show", "coffee.png")
    assert shown.returncode == 0, shown.stderr
    assert "GOOD MORMING" in shown.stdout
    assert "\u202e" not in shown.stdout
    [line, _] = json.loads(run("show", "coffee.png", "--json").stdout)["text"]["lines"]
    assert (line["number"], line["text"], line["confidence"], line["correction_id"]) == (1, "GOOD MORMING", 0.71, None)
    assert json.loads(run("show", "chelsea.png", "--json").stdout)["text"] is None


def test_show_prints_and_draws_the_regions(run: Run, tmp_path: Path, recognised_engine: Engine) -> None:
    services = Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)
    found = [FoundRegion("cup\u202e", 0.91, (0.25, 0.25, 0.75, 0.75))]
    write_regions(services, services.images.find("coffee.png"), found)
    file = tmp_path / "out.png"
    shown = run("show", "coffee.png", "--overlay", str(file))
    assert shown.returncode == 0, shown.stderr
    assert "0.250 0.250 0.750 0.750" in shown.stdout
    assert "\u202e" not in shown.stdout
    assert file.read_bytes().startswith(b"\x89PNG")
    [region] = json.loads(run("show", "coffee.png", "--json").stdout)["regions"]["regions"]
    assert (region["tag"], region["box"], region["mask"]) == ("cup\u202e", [0.25, 0.25, 0.75, 0.75], None)
    assert json.loads(run("show", "chelsea.png", "--json").stdout)["regions"] is None
    refused = run("show", "coffee.png", "--overlay", str(tmp_path / "no" / "out.png"))
    assert (refused.returncode, "name another file" in refused.stderr) == (2, True)
    assert "ramq locate" in run("show", "chelsea.png", "--overlay", str(file)).stderr


def test_a_line_is_corrected_denied_and_taken_back(run: Run) -> None:
    assert run("line", "coffee.png", "1", "GOOD MORNING").returncode == 0
    assert told(run) == ["GOOD MORNING", HOSTILE]
    assert run("line", "coffee.png", "2", "--none").returncode == 0
    assert told(run) == ["GOOD MORNING"]
    shown = run("line", "coffee.png").stdout
    assert "(no text)" in shown
    said = json.loads(run("line", "coffee.png", "--json").stdout)["corrections"]
    assert [(one["text"], one["said_by"]) for one in said] == [("GOOD MORNING", "ann"), (None, "ann")]
    for one in said:
        last = run("line", "coffee.png", "--undo", str(one["id"]), "--json")
    assert [line["text"] for line in json.loads(last.stdout)["lines"]] == ["GOOD MORMING", HOSTILE]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("coffee.png", "3", "x"), "has no line 3; it has 2"),
        (("coffee.png", "1"), "--none"),
        (("coffee.png", "1", "x", "--none"), "--none"),
        (("coffee.png", "--none"), "--none"),
        (("coffee.png", "1", "--undo", "1"), "--undo"),
        (("coffee.png", "--undo", "99"), "no correction 99"),
        (("coffee.png", "1", "a\x1b[31mb"), "control characters"),
        (("coffee.png", "1", " "), "empty"),
        (("chelsea.png",), "ramq read"),
        (("chelsea.png", "1", "x"), "ramq read"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    refused = run("line", *words)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert told(run) == ["GOOD MORMING", HOSTILE]


def test_exports_have_the_text_when_they_are_asked_to(run: Run) -> None:
    rows = [json.loads(line) for line in run("export", "--text").stdout.splitlines()]
    texts = {row["key"]: row["text"] for row in rows}
    assert [line["text"] for line in texts["coffee.png"]] == ["GOOD MORMING", HOSTILE]
    assert texts["chelsea.png"] is None
    assert "text" not in json.loads(run("export").stdout.splitlines()[0])
    assert "GOOD MORMING|" in run("export", "--text", "--format", "csv").stdout
    refused = run("export", "--text", "--format", "coco")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no place for text" in refused.stderr


@pytest.mark.parametrize(("format_", "ending"), [("hocr", "hocr"), ("alto", "alto.xml")])
def test_files_of_text_come_in_an_archive(run: Run, format_: str, ending: str) -> None:
    done = run("export", "--format", format_)
    assert done.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(done.stdout.encode())) as archive:
        [name] = archive.getnames()
    assert name.endswith(f"-coffee.png.{ending}")
    assert "The text of 1 image was written." in done.stderr
    assert "have no file; `ramq read`" in done.stderr

"""What files say, on the command line: shown, counted, sorted, read later, and its places forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.wiring import Services
from storage.database import unit_of_work
from storage.results.metadata import MetadataRow, write
from tests.services.command_line import run_here
from tests.services.recognised import settings_for
from tests.told_by_files import TOLD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def run(recognised_engine: Engine, tmp_path: Path) -> Run:
    """Runs a command on the recognised photographs. The file of one of them says much."""
    services = Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)
    image_id = services.images.find("coffee.png")
    with unit_of_work(recognised_engine) as session:
        version = session.scalar(text("SELECT version FROM image WHERE id = :id"), {"id": image_id})
        write(session, [MetadataRow(image_id, version, TOLD)], job_id=1)
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    return lambda *words: run_here(words, environment)


def test_show_says_what_the_file_says(run: Run) -> None:
    shown = run("show", "coffee.png")
    assert shown.returncode == 0, shown.stderr
    section = shown.stdout.partition("in the file:\n")[2]
    assert "taken: 2023-05-01 18:30:00 -03:30" in section
    assert "camera: NIKON D90" in section
    assert "settings: 50 mm, f/1.8, 1/200 s, ISO 200" in section
    assert "place: -17.70000, 179.98000 (12 m)" in section
    assert "keywords: Dom, Places|Vienna" in section
    assert "rating: rejected" in section
    told = json.loads(run("show", "coffee.png", "--json").stdout)["metadata"]
    assert (told["taken_at"], told["taken_offset"], told["rating"]) == ("2023-05-01T18:30:00", -210, -1)


def test_hits_are_found_and_sorted_by_date(run: Run) -> None:
    found = run("search", "taken:2023-05", "--sort", "taken")
    assert found.returncode == 0, found.stderr
    header, hit = found.stdout.splitlines()
    assert header.split()[:4] == ["image", "score", "key", "taken"]
    assert "2023-05-01 18:30" in hit
    wrong = run("search", "--sort", "size")
    assert (wrong.returncode, "choose one of taken, taken-asc" in wrong.stderr) == (2, True)


def test_facets_are_counted(run: Run) -> None:
    counted = json.loads(run("facets", "--json").stdout)
    assert {"label": "NIKON D90", "count": 1, "query": 'camera:"NIKON D90"'} in counted["cameras"]
    printed = run("facets", "taken:2023").stdout
    assert "2023-05-01" in printed
    assert "NIKON D90" in printed


def test_exports_have_it(run: Run) -> None:
    rows = [json.loads(line) for line in run("export", "taken:2023").stdout.splitlines()]
    assert [(row["key"], row["camera"]) for row in rows] == [("coffee.png", "NIKON D90")]


def test_places_are_forgotten(run: Run) -> None:
    told = run("forget-places", "--yes")
    assert told.returncode == 0, told.stderr
    assert "The places of 1 image were erased." in told.stderr
    assert "place:" not in run("show", "coffee.png").stdout
    assert run("search", "near:-17.7,179.98", "--json").returncode == 0


def test_older_images_are_read_by_a_job(run: Run) -> None:
    dry = run("metadata", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "15 images" in dry.stdout
    started = json.loads(run("metadata", "--again", "--json").stdout)
    [job] = started.get("items", [started])
    assert (job["stage"], job["options"]) == ("metadata", {"again": True})

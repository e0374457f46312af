"""Regions on the command line: shown, drawn, rejected, taken back, and exported with their pictures."""

from __future__ import annotations

import json
import re
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from ramq.services.export import FOLDERS, FORMATS, LABELS, TASKS, TEXT_FILES
from ramq.web.app import create_app
from ramq.wiring import Services
from storage.database import unit_of_work
from storage.results.region_views import FoundRegion
from tests.region_archive import painted
from tests.services.command_line import run_here
from tests.services.located import write_regions
from tests.services.missing import package
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
FOUND = [FoundRegion("cup", 0.9, LEFT, painted(LEFT), 0.8), FoundRegion("spoon\u202e", 0.4, RIGHT)]


@pytest.fixture
def service(recognised_engine: Engine, tmp_path: Path) -> Services:
    return Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)


@pytest.fixture
def run(service: Services, recognised_engine: Engine, tmp_path: Path) -> Run:
    """Runs a command on the recognised photographs. Tags were located in one of them."""
    write_regions(service, service.images.find("coffee.png"), FOUND)
    environment = {
        "RAMQ_USER": "ann",
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    return lambda *words: run_here(words, environment)


def told(run: Run) -> dict[str, Any]:
    done = run("region", "coffee.png", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def tags(run: Run) -> list[str]:
    return [one["tag"] for one in told(run)["regions"]]


def test_regions_are_shown_with_their_numbers(run: Run) -> None:
    shown = run("region", "coffee.png")
    assert shown.returncode == 0, shown.stderr
    assert "0.000 0.000 0.500 1.000" in shown.stdout
    assert "\u202e" not in shown.stdout
    assert [(one["number"], one["tag"]) for one in told(run)["regions"]] == [(1, "cup"), (2, "spoon\u202e")]


def test_a_region_is_drawn_rejected_and_taken_back_and_stays_when_tags_are_located_again(
    run: Run, service: Services
) -> None:
    drawn = run("region", "coffee.png", "--add", "saucer", "--box", "10%,20%,60%,90%")
    assert (drawn.returncode, "updated; see `ramq region" in drawn.stderr) == (0, True)
    assert run("region", "coffee.png", "--add", "plate", "--box", "0, 0, 1, 0.25").returncode == 0
    number = next(one["number"] for one in told(run)["regions"] if one["tag"] == "cup")
    rejected = json.loads(run("region", "coffee.png", "--reject", str(number), "--json").stdout)
    assert sorted(one["tag"] for one in rejected["regions"]) == ["plate", "saucer", "spoon\u202e"]
    boxes = {one["tag"]: one["box"] for one in rejected["regions"]}
    assert boxes["saucer"] == pytest.approx([0.1, 0.2, 0.6, 0.9], abs=1e-4)
    assert boxes["plate"] == pytest.approx([0, 0, 1, 0.25], abs=1e-4)
    write_regions(service, service.images.find("coffee.png"), FOUND)
    assert sorted(tags(run)) == ["plate", "saucer", "spoon\u202e"]
    assert "rejected" in run("region", "coffee.png").stdout
    for said in told(run)["corrections"]:
        assert said["said_by"] == "ann"
        assert run("region", "coffee.png", "--undo", str(said["id"])).returncode == 0
    assert tags(run) == ["cup", "spoon\u202e"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("coffee.png", "--reject", "3"), "has no region 3; it has 2 regions"),
        (("coffee.png", "--undo", "99"), "no correction 99"),
        (("coffee.png", "--add", "dog"), "give both"),
        (("coffee.png", "--box", "0,0,1,1"), "give both"),
        (("coffee.png", "--reject", "1", "--undo", "1"), "give one of them"),
        (("coffee.png", "--add", "dog", "--box", "0,0,1"), "four numbers"),
        (("coffee.png", "--add", "dog", "--box", "0,0,1,x"), "four numbers"),
        (("coffee.png", "--add", "dog", "--box", "0,0,1,50%"), "four numbers"),
        (("coffee.png", "--add", "dog", "--box", "0,0,1,2"), "from 0 to 1"),
        (("coffee.png", "--add", "dog", "--box", "nan,0,1,1"), "from 0 to 1"),
        (("coffee.png", "--add", "dog", "--box", "50%,0%,10%,100%"), "left must be less than right"),
        (("coffee.png", "--add", " ", "--box", "0,0,1,1"), "name of a tag"),
        (("chelsea.png",), "ramq locate"),
        (("chelsea.png", "--add", "cat", "--box", "0,0,1,1"), "ramq locate"),
        (("nothing.png",), "nothing.png"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    refused = run("region", *words)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert told(run)["corrections"] == []


def test_a_folder_of_fiftyone_has_the_originals(run: Run, service: Services, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "dogs"
    done = run("export", "--format", "fiftyone", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert f"{len(samples)} images written" in done.stderr
    [located] = [sample for sample in samples if sample["regions"] is not None]
    image_id = service.images.find("coffee.png")
    assert (located["image_id"], [one["label"] for one in located["regions"]["detections"]]) == (
        image_id,
        ["cup", "spoon\u202e"],
    )
    assert (folder / located["filepath"]).read_bytes() == service.images.content(image_id)
    again = run("export", "--format", "fiftyone", "--out", str(folder))
    assert (again.returncode, "not empty" in again.stderr) == (2, True)


def test_originals_that_cannot_be_read_are_named_and_counted(run: Run, service: Services, tmp_path: Path) -> None:
    view = service.images.get(service.images.find("coffee.png"))
    all_of_them = len(run("export").stdout.splitlines())
    with unit_of_work(service.engine) as session:
        session.execute(text("UPDATE image SET version = 'older' WHERE id = :id"), {"id": view.image_id})
    done = run("export", "--format", "fiftyone", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert f"left out: image {view.image_id} ({view.key}): the object changed after it was listed" in done.stderr
    assert "1 image left out" in done.stderr
    samples = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert len(samples) == all_of_them - 1


def test_shards_of_webdataset_have_the_originals(run: Run, service: Services, tmp_path: Path) -> None:
    package("webdataset")
    done = run("export", "--tag", "espresso", "--format", "webdataset", "--out", str(tmp_path / "shards"))
    assert done.returncode == 0, done.stderr
    image_id = service.images.find("coffee.png")
    with tarfile.open(tmp_path / "shards" / "ramq-000000.tar") as archive:
        picture = archive.extractfile(f"{image_id:012}.png")
        assert picture is not None
        assert picture.read() == service.images.content(image_id)


def test_tasks_of_label_studio_come_with_their_interface(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    done = run("export", "--format", "label-studio", "--out", str(file), "--image-url", "https://x.org/{id}")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["tasks.json", "tasks.xml"]
    [located] = [task for task in json.loads(file.read_text()) if "predictions" in task]
    assert located["data"]["image"] == f"https://x.org/{located['data']['image_id']}"
    assert len(located["predictions"][0]["result"]) == 3
    assert '<Label value="cup"/>' in (tmp_path / "tasks.xml").read_text()
    assert json.loads(run("export", "--format", "label-studio").stdout)


def test_what_a_rule_hides_is_in_no_file_and_on_no_page(run: Run, service: Services, tmp_path: Path) -> None:
    package("webdataset")
    image_id = service.images.find("coffee.png")
    client = TestClient(create_app(service), base_url="http://localhost")

    def written(name: str) -> dict[str, str]:
        """The text of everything that is shown and exported, without descriptions of the picture as a whole."""
        texts = {
            "region": run("region", "coffee.png", "--json").stdout,
            "show": run("show", "coffee.png").stdout,
            "api": client.get(f"/v1/images/{image_id}/regions").text,
            "page": client.get(f"/images/{image_id}").text,
            "hits": client.get("/v1/search", params={"q": "count:cup>=1"}).text,
            "facets": client.get("/v1/search", params={"facets": 50}).text,
        }
        for format_ in sorted({*FORMATS} - {*TEXT_FILES}):
            out = tmp_path / f"{name}-{format_}"
            done = run("export", "--format", format_, "--out", str(out))
            assert done.returncode == 0, done.stderr
            files = [file for file in sorted(out.rglob("*")) if file.is_file()] if out.is_dir() else [out]
            texts[format_] = " ".join(file.read_bytes().decode("latin-1") for file in files)
        # The categories of COCO are the whole vocabulary, whatever is in the images.
        coco = json.loads(texts["coco"])
        names = {one["id"]: one["name"] for one in coco["categories"]}
        texts["coco"] = " ".join(names[one["category_id"]] for one in coco["annotations"])
        return texts

    shown = {place for place, told in written("before").items() if re.search(r"\bcup\b", told)}
    assert {"region", "show", "api", "page", "hits", "coco", LABELS, TASKS, *FOLDERS} <= shown
    archive = run("show", "coffee.png", "--json")
    archive_uri = json.loads(archive.stdout)["archive"]
    assert run("policy", "deny", "cup", "--archive", archive_uri).returncode == 0
    assert {place for place, told in written("after").items() if re.search(r"\bcup\b", told)} == set()
    assert client.get(f"/v1/images/{image_id}/regions").json()["regions"][0]["number"] == 2
    assert run("region", "coffee.png", "--reject", "1").returncode != 0
    assert run("policy", "clear", "cup", "--archive", archive_uri).returncode == 0
    assert [one["number"] for one in told(run)["regions"]] == [1, 2]


def test_a_file_is_complete_or_not_there(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert run("export", "--out", str(file)).returncode == 0
    assert file.read_text() == run("export").stdout
    refused = run("export", "--out", str(tmp_path / "no" / "rows.jsonl"))
    assert (refused.returncode, "give another --out" in refused.stderr) == (2, True)
    assert [path.name for path in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "fiftyone"), "--out"),
        (("--format", "label-studio", "--out", "tasks.xml"), "name the file of tasks tasks.json"),
        (("--format", "csv", "--image-url", "{id}"), "--image-url is for --format label-studio"),
        (("--format", "label-studio", "--image-url", "https://x.org/"), "{id} or {key}"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    refused = run("export", *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr


def test_the_newest_regions_count_so_there_is_nothing_to_choose(run: Run, service: Services) -> None:
    [generation] = [one for one in service.stages.generations() if one.stage == "locate"]
    refused = run("stages", "use", str(generation.id))
    assert refused.returncode != 0
    assert "search takes the newest regions of each image" in refused.stderr
    assert "`ramq stages drop ID` returns to the ones before" in refused.stderr


def test_locating_without_masks_says_that_it_replaces_masks(run: Run, service: Services) -> None:
    with service.engine.begin() as connection:
        connection.execute(
            text("UPDATE generation SET model = 'grounding-dino-tiny+sam-vit-base' WHERE stage = 'locate'")
        )
    assert "New ones without masks take their place" in run("locate", "--dry-run").stderr
    assert "New ones" not in run("locate", "--dry-run", "--masks").stderr

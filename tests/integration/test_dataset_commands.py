"""Data sets on the command line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from ramq.services.dataset_views import BuildRequest
from ramq.wiring import Services
from storage.errors import ForbiddenError
from tests.datasets import work
from tests.services.command_line import run_here
from tests.services.fleet import client_services
from tests.services.recognised import CAT, recognise, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from tests.services.s3 import S3Server

    Run = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.services


@pytest.fixture
def services(recognised_engine: Engine, tmp_path: Path) -> Services:
    return Services(settings_for(tmp_path / "data"), recognised_engine, None, is_reachable=False)


@pytest.fixture
def run(services: Services, tmp_path: Path) -> Run:
    environment = {
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }
    return lambda *words: run_here(words, environment)


def test_weights_that_are_nowhere_are_told_at_once(services: Services, tmp_path: Path) -> None:
    work(services, services.datasets.build("pets", BuildRequest(sources=("1",))))
    environment = {
        "RAMQ_DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_MODELS_DIR": str(tmp_path / "models"),
    }
    words = ("dataset", "generate", "pets", "--model", "ram_plus", "--captioner", "none", "--no-wait")
    begun = run_here(words, environment)
    assert begun.returncode == 0, begun.stderr
    assert "ram_plus is neither in" in begun.stderr
    assert "run `ramq models pull ram_plus` where the workers run" in begun.stderr


def test_a_set_is_built_shown_compared_and_deleted(run: Run, services: Services, tmp_path: Path) -> None:
    begun = run("dataset", "build", "pets", "1", f'tag:"{CAT}"', "--no-wait")
    assert begun.returncode == 0, begun.stderr
    assert "Left out: not recognised 2, for example half.png, notes.jpg." in begun.stderr
    assert "pets@1  build  running  collecting tags" in begun.stderr
    assert "No worker is running." in begun.stderr
    work(services, services.datasets.newest("pets"))
    shown = run("dataset", "show", "pets")
    assert "pets@1" in shown.stdout
    assert "not recognised 2" in shown.stdout
    assert CAT in shown.stdout
    told = json.loads(run("dataset", "show", "pets", "--json").stdout)
    assert told["version"]["sha256"] in shown.stdout
    assert told["deleted_since"] == 0
    one = run("dataset", "show", "pets", "--image", "chelsea.png")
    assert CAT in one.stdout
    assert "given" in one.stdout
    assert run("dataset", "correct", "pets").returncode == 2
    assert run("tag", "chelsea.png", "--remove", CAT).returncode == 0
    corrected = run("dataset", "correct", "pets", "--no-wait")
    assert "Tags that people say are there: 0; are not: 1." in corrected.stderr
    work(services, services.datasets.newest("pets"))
    compared = json.loads(run("dataset", "diff", "pets@1", "pets", "--json").stdout)
    assert [(each["name"], each["added"], each["removed"]) for each in compared["tags"]] == [(CAT, 0, 1)]
    assert "removed" in run("dataset", "show", "pets", "--image", "chelsea.png").stdout
    assert "1 tag differs: 0 labels added, 1 removed." in run("dataset", "diff", "pets@1", "pets").stderr
    out = tmp_path / "pets.csv"
    assert run("dataset", "export", "pets", "--format", "csv", "--out", str(out)).returncode == 0
    assert "is there already" in run("dataset", "export", "pets", "--out", str(out)).stderr
    imported = run("dataset", "import", str(out), "--name", "again", "--no-wait", "--json")
    assert json.loads(imported.stdout)["step"] == "import"
    assert run("dataset", "cancel", "again").returncode == 0
    assert {each["name"] for each in json.loads(run("dataset", "list", "--json").stdout)["items"]} == {"pets", "again"}
    assert run("dataset", "build", "pets", "1", "--no-wait").returncode == 0
    assert run("dataset", "cancel", "pets").returncode == 0
    listed = json.loads(run("dataset", "list", "--json").stdout)["items"]
    assert [(each["number"], each["state"]) for each in listed if each["name"] == "pets"] == [
        (2, "done"),
        (3, "cancelled"),
    ], "what is done is still told"
    asked = run("dataset", "delete", "pets")
    assert asked.returncode == 2
    assert "add --yes" in asked.stderr
    assert run("dataset", "delete", "pets", "--yes").returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "pest"), "there is no data set 'pest'; data sets: none; run `ramq dataset build`"),
        (("build", "Pets", "1"), "'Pets' cannot be the name of a data set"),
        (("build", "pets", "9"), "there is no archive '9'"),
        (("build", "pets", "tag:unicorn"), 'Unknown tag "unicorn"'),
        (("build", "pets", "1", "--validation", "2"), "the share for validation is 2"),
        (("build", "pets", "1", "--captions", "nothing.csv"), "there is no file nothing.csv"),
        (("export", "pets", "--out", "x", "--format", "jpg"), "unknown format 'jpg'"),
        (("import", "nothing.json"), "there is no file nothing.json"),
    ],
)
def test_wrong_words_get_one_line(run: Run, words: tuple[str, ...], told: str) -> None:
    refused = run("dataset", *words)
    assert refused.returncode == 2, refused.stderr
    assert told in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 3
    assert json.loads(run("dataset", "list", "--json").stdout) == {"items": []}


def beside(archive: Path, folder: Path) -> None:
    """Photographs with captions in files beside them."""
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(archive / name, folder / name)
    (folder / "chelsea.txt").write_text("a dog on a lawn\n\nanother one\n")
    (folder / "coffee.json").write_text('{"caption": "an espresso", "width": 3}')


def test_captions_beside_pictures_are_read_from_folders(engine: Engine, archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    beside(archive, folder)
    services = Services(settings_for(tmp_path / "data"), engine, None, is_reachable=False)
    recognise(services, str(folder))
    version = services.datasets.build("pets", BuildRequest(sources=(str(folder),)))
    assert version.counts["left_out"] == {}
    made = work(services, version)
    assert made.counts["captions"] == {"given": 3}
    view = services.datasets.picture(made, services.images.find("chelsea.png"))
    assert [each["caption"] for each in view.captions] == ["a dog on a lawn", "another one"]
    refused = Services(settings_for(tmp_path / "data", archive_allow=("/elsewhere",)), engine, None, is_reachable=False)
    with pytest.raises(ForbiddenError, match="add it to RAMQ_ARCHIVE_ALLOW"):
        refused.datasets.build("other", BuildRequest(sources=(str(folder),)))
    assert [view.name for view in services.datasets.list()] == ["pets"]


def test_captions_beside_pictures_are_read_from_buckets(
    s3_settings: Settings, s3_server: S3Server, bucket: str, archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    beside(archive, folder)
    s3_server.put(bucket, {f"in/{path.name}": path.read_bytes() for path in folder.iterdir()})
    with client_services(s3_settings) as services:
        recognise(services, f"s3://{bucket}/in")
        made = work(services, services.datasets.build("pets", BuildRequest(sources=(f"s3://{bucket}/in",))))
        assert made.counts["captions"] == {"given": 3}
        view = services.datasets.picture(made, services.images.find("in/coffee.png"))
        assert [each["caption"] for each in view.captions] == ["an espresso"]

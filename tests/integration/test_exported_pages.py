"""Pages of files in exports: the picture is that of the page, and rows say which page of which file it is."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from starlette.testclient import TestClient

from ramq.services.dataset_views import BuildRequest
from ramq.web.app import create_app
from tests import scans
from tests.datasets import work
from tests.same_picture import Photos, picture
from tests.services.command_line import run_on, said_on
from tests.services.missing import package

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

SEEDS = {
    "letter.tif": 10, "letter.tif/page-00002": 11, "letter.tif/page-00003": 12,
    "list.pdf": 20, "list.pdf/page-00002": 21,
}  # fmt: skip
"""The seed of the page that each key is."""


@pytest.fixture
def photos(services: Services, crop_worker: Worker, tmp_path: Path) -> Photos:
    """A picture, a letter of three pages and a list of two, recognised with their pages."""
    root = tmp_path / "photos"
    picture(root / "a.png", 1)
    scans.tiff([10, 11, 12], root / "letter.tif")
    scans.pdf([20, 21], root / "list.pdf")
    photos = Photos(services, crop_worker, root, tmp_path / "count")
    assert photos.run(pages=True).done == 6
    return photos


def require_page(body: bytes, key: str, photos: Photos) -> None:
    """Fail unless whoever opens a picture sees the page that the key names."""
    if key not in SEEDS:
        assert body == (photos.root / key).read_bytes()
        return
    if key == "letter.tif":
        assert body == (photos.root / key).read_bytes(), "the first page of a TIFF is what readers show of the file"
    shown, drawn = Image.open(io.BytesIO(body)).convert("RGB"), scans.page(SEEDS[key])
    hit = photos.services.images.get(photos.ids()[key])
    assert shown.size == (hit.width, hit.height)
    if key.startswith("letter.tif"):
        assert np.array_equal(np.asarray(shown), np.asarray(drawn)), "all pixels, and none is changed"
    small = [np.asarray(each.resize((8, 6), Image.Resampling.BOX), np.int16) for each in (shown, drawn)]
    assert np.abs(small[0] - small[1]).mean() < 25


def of_which(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {(row["key"], row["page"], row["file_key"]) for row in rows}


OF_WHICH = {
    ("a.png", None, "a.png"),
    *((key, 1 if "/" not in key else int(key[-5:]), key.partition("/")[0]) for key in SEEDS),
}


def samples(folder: Path) -> list[tuple[dict[str, Any], bytes, str]]:
    """What is said of each picture in shards, the picture, and the ending of its name."""
    with tarfile.open(folder / "ramq-000000.tar") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return [
        (json.loads(files[f"{name.partition('.')[0]}.json"]), body, name.rpartition(".")[2])
        for name, body in files.items()
        if not name.endswith(".json")
    ]


def require_samples(found: list[tuple[dict[str, Any], bytes, str]], photos: Photos) -> None:
    assert of_which([about for about, _, _ in found]) == OF_WHICH
    for about, body, ending in found:
        require_page(body, about["key"], photos)
        assert ending == ("tiff" if about["key"] == "letter.tif" else "png")


def test_shards_have_the_pixels_of_each_page(photos: Photos, tmp_path: Path) -> None:
    package("webdataset")
    said_on(photos.services, "export", "--format", "webdataset", "--out", str(tmp_path / "shards"))
    require_samples(samples(tmp_path / "shards"), photos)


def test_a_folder_of_fiftyone_has_the_pixels_of_each_page(photos: Photos, tmp_path: Path) -> None:
    said_on(photos.services, "export", "--format", "fiftyone", "--out", str(tmp_path / "fo"))
    found = json.loads((tmp_path / "fo/samples.json").read_text())["samples"]
    assert of_which(found) == OF_WHICH
    for one in found:
        assert one["filepath"].endswith(".tiff" if one["key"] == "letter.tif" else ".png")
        require_page((tmp_path / "fo" / one["filepath"]).read_bytes(), one["key"], photos)


def test_data_sets_have_the_pixels_of_each_page(photos: Photos, tmp_path: Path) -> None:
    archive = str(photos.rows("SELECT uri FROM archive")[0].uri)
    made = work(photos.services, photos.services.datasets.build("scans", BuildRequest(sources=(archive,))))
    assert made.state == "done", made
    said_on(photos.services, "dataset", "export", "scans", "--format", "hf", "--out", str(tmp_path / "hf"))
    rows = [row for file in (tmp_path / "hf").rglob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    assert of_which(rows) == OF_WHICH
    for row in rows:
        require_page(row["image"]["bytes"], row["key"], photos)
        is_drawn = row["key"] in SEEDS and row["key"] != "letter.tif"
        assert row["image"]["path"] == row["key"] + (".png" if is_drawn else "")
    said_on(photos.services, "dataset", "export", "scans", "--format", "coco", "--out", str(tmp_path / "coco.json"))
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert of_which([{"key": each["file_name"], **each} for each in images]) == OF_WHICH
    package("webdataset")
    said_on(photos.services, "dataset", "export", "scans", "--format", "webdataset", "--out", str(tmp_path / "shards"))
    require_samples(samples(tmp_path / "shards"), photos)


def test_rows_and_tasks_say_which_page_of_which_file(photos: Photos) -> None:
    found = said_on(photos.services, "export", "--format", "jsonl")
    assert of_which([json.loads(line) for line in found.splitlines()]) == OF_WHICH
    rows = csv.DictReader(io.StringIO(said_on(photos.services, "export", "--format", "csv")))
    assert {(row["key"], row["file_key"]) for row in rows} == {(key, file_key) for key, _, file_key in OF_WHICH}
    tasks = json.loads(said_on(photos.services, "export", "--format", "label-studio"))
    assert of_which([task["data"] for task in tasks]) == OF_WHICH
    images = json.loads(said_on(photos.services, "export", "--format", "coco"))["images"]
    assert of_which([{"key": each["file_name"], **each} for each in images]) == OF_WHICH


def test_a_page_that_cannot_be_drawn_is_left_out_and_named(photos: Photos, tmp_path: Path) -> None:
    words = ("export", "--format", "fiftyone", "--out", str(tmp_path / "fo"))
    done = run_on(photos.services, *words, RAMQ_MAX_PIXELS="100")
    assert done.returncode == 1
    assert "4 images left out" in done.stderr
    assert "letter.tif/page-00002): it has more than 100 pixels" in " ".join(done.stderr.split())
    found = json.loads((tmp_path / "fo/samples.json").read_text())["samples"]
    assert {one["key"] for one in found} == {"a.png", "letter.tif"}


def test_a_page_is_downloaded_as_the_file_that_it_is_in(photos: Photos) -> None:
    http, ids = TestClient(create_app(photos.services), base_url="http://localhost"), photos.ids()
    for key, kind, how in (
        ("letter.tif/page-00002", "image/tiff", "inline"),
        ("list.pdf/page-00002", "application/pdf", "attachment"),
        ("list.pdf", "application/pdf", "attachment"),
    ):
        answer = http.get(f"/v1/images/{ids[key]}/original")
        name = key.partition("/")[0]
        assert answer.content == (photos.root / name).read_bytes()
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-disposition"] == f"{how}; filename*=UTF-8''{name}"
        assert "sandbox" in answer.headers["content-security-policy"]

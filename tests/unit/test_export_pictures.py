"""Exports for other programs: tasks of Label Studio, shards of WebDataset, and a folder of FiftyOne."""

from __future__ import annotations

import base64
import gc
import io
import json
import sys
import tarfile
import tracemalloc
import warnings
import zlib
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from ramq.services import picture_bytes
from ramq.services.export import write_folder, write_label_studio
from ramq.services.label_studio import brush, check_address, labelling
from ramq.services.shards import write_shards
from storage.errors import UsageError
from storage.objects.base import ObjectMissingError, StoreUnavailableError
from storage.results.masks import Mask
from tests.services.missing import package
from tests.unit.test_export import hit
from tests.unit.test_export_regions import regions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from storage.search.views import Hit

JPEG = b"\xff\xd8\xff" + bytes(range(256))
PNG = b"\x89PNG\r\n\x1a\n"


def fetch(image_id: int) -> bytes:
    if image_id == 4:
        raise ObjectMissingError("the object is gone")
    return JPEG if image_id == 1 else PNG


def unbrush(data: Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
    """Decode a brush, as @thi.ng/rle-pack describes it. Written for tests."""
    bits, place = "".join(f"{byte:08b}" for byte in data), 0

    def take(size: int) -> int:
        nonlocal place
        place += size
        return int(bits[place - size : place], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        is_run = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)


def tasks(*hits: Hit, address: str | None = None) -> list[Any]:
    file = io.BytesIO()
    write_label_studio(hits, file, regions, address)
    return json.loads(file.getvalue())  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (60, 40), (200, 300)])
def test_a_brush_has_every_pixel_in_four_channels(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    blank, full = np.zeros(size, dtype=np.bool_), np.ones(size, dtype=np.bool_)
    for pixels in (blank, full, rng.random(size) < 0.5, np.tril(full)):
        decoded = unbrush(brush(pixels), *size)
        assert (decoded == np.where(pixels, 255, 0)[..., None]).all()


def test_what_a_model_found_is_a_prediction_and_what_a_person_drew_is_an_annotation() -> None:
    [located, empty, unseen] = tasks(hit(1), hit(2), hit(3))
    [prediction] = located["predictions"]
    box, mask, small = prediction["result"]
    assert (prediction["model_version"], prediction["score"]) == ("locator, generation 3", 0.7)
    assert box == {
        "id": "1-1", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "original_width": 640,
        "original_height": 480, "image_rotation": 0, "score": 0.9,
        "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["Dog"]},
    }  # fmt: skip
    assert (mask["type"], mask["from_name"], mask["value"]["format"]) == ("brushlabels", "mask", "rle")
    assert mask["value"]["brushlabels"] == ["Dog"]
    painted = unbrush(mask["value"]["rle"], 480, 640)[..., 3] == 255
    assert painted[:240, :320].all()
    assert painted.sum() == 240 * 320
    # The label "dog" is written as it was first, because a project has each label once.
    assert small["value"]["rectanglelabels"] == ["Dog"]
    [annotation] = located["annotations"]
    [drawn] = annotation["result"]
    assert (drawn["id"], drawn["value"]["x"], drawn["value"]["rectanglelabels"]) == ("1-2", 50, ["a new thing"])
    assert empty["predictions"] == [{"model_version": "locator, generation 3", "result": []}]
    assert "annotations" not in empty
    assert unseen.keys() == {"data"}
    assert unseen["data"] == {
        "image": "s3://photos/3.jpg", "image_id": 3, "archive": "s3://photos", "key": "3.jpg", "caption": "a dog",
        "caption_contradicts": [], "given_keywords": [], "page": None, "file_key": "3.jpg", "tags": ["red boat", "dog"],
    }  # fmt: skip


def test_results_have_distinct_ids_and_only_labels_of_the_interface() -> None:
    file = io.BytesIO()
    labels = write_label_studio([hit(1), hit(2)], file, regions, None)
    interface = ET.fromstring(labelling(labels))
    known = {node.get("name"): {label.get("value") for label in node} for node in interface}
    results = [
        result
        for task in json.loads(file.getvalue())
        for kind in ("predictions", "annotations")
        for said in task.get(kind, ())
        for result in said["result"]
    ]
    assert len({result["id"] for result in results}) == len(results) == 4
    for result in results:
        assert set(result["value"][result["type"]]) <= known[result["from_name"]]
    assert known["image"] == set()


def test_pictures_have_the_address_that_was_asked_for() -> None:
    [task] = tasks(hit(7, key="a b/ü{id}.jpg"), address="https://x.org/{key}?n={id}")
    assert task["data"]["image"] == "https://x.org/a%20b/%C3%BC%7Bid%7D.jpg?n=7"
    for wrong in ("https://x.org/", "https://x.org/{}", "a{id.real}", "a{id!r}", "{id", "{uri}"):
        with pytest.raises(UsageError, match="for the image, and no other braces"):
            check_address(wrong)


def exported(format_: str, folder: Path, *hits: Hit) -> tuple[int, list[tuple[int, str]]]:
    failed: list[tuple[int, str]] = []
    folder.mkdir()
    count = write_folder(hits, format_, folder, regions, fetch, lambda hit, why: failed.append((hit.image_id, why)))
    return count, failed


def test_a_shard_has_the_picture_and_what_is_known_of_it(tmp_path: Path) -> None:
    package("webdataset")
    hits = [hit(1), hit(2, key="b.png"), hit(3, key="c.heic"), hit(4), hit(5)]
    assert exported("webdataset", tmp_path / "a", *hits) == (4, [(4, "the object is gone")])
    with tarfile.open(tmp_path / "a" / "ramq-000000.tar") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert list(files) == [
        "000000000001.jpg", "000000000001.json", "000000000002.json", "000000000002.png", "000000000003.json",
        "000000000003.png", "000000000005.json", "000000000005.png",
    ]  # fmt: skip
    assert files["000000000001.jpg"] == JPEG
    said = json.loads(files["000000000001.json"])
    assert (said["key"], said["caption"], said["tags"][0]) == (
        "1.jpg",
        "a dog",
        {"name": "red boat", "score": 1.0, "source": "person"},
    )
    first, drawn, _ = said["regions"]
    assert (first["tag"], first["score"], first["source"], first["box"]) == ("Dog", 0.9, "model", [0, 0, 0.5, 0.5])
    assert Mask(40, 60, first["mask"]["counts"]).pixels()[:20, :30].all()
    assert (drawn["source"], drawn["mask"]) == ("person", None)
    assert json.loads(files["000000000002.json"])["regions"] == []
    assert json.loads(files["000000000003.json"])["regions"] is None


def test_shards_are_read_by_the_library_and_are_the_same_each_time(tmp_path: Path) -> None:
    webdataset = package("webdataset")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pictured = picture_bytes.with_pictures(((hit(n), None) for n in (1, 2, 3, 5, 6)), fetch, lambda _h, _w: None)
        assert write_shards(pictured, tmp_path / name, images=2) == 5
    shards = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert shards == ["ramq-000000.tar", "ramq-000001.tar", "ramq-000002.tar"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in shards)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its reader leaves shards open
        read = list(webdataset.WebDataset([str(tmp_path / "a" / name) for name in shards], shardshuffle=False))
        gc.collect()
    assert [json.loads(sample["json"])["image_id"] for sample in read] == [1, 2, 3, 5, 6]


@pytest.mark.parametrize(
    ("key", "ending"),
    [("scan.json", "bin"), ("a.PPM", "ppm"), ("a.pyd", "bin"), ("a.cls", "bin"), ("a", "bin"), ("a.heic", "heic")],
)
def test_a_picture_never_has_the_ending_of_something_else(key: str, ending: str) -> None:
    assert picture_bytes.Content(b"P6 1 1 255 abc", None).ending(key) == ending


def test_a_raw_file_that_begins_as_tiff_keeps_its_ending() -> None:
    assert [picture_bytes.Content(b"II*", "image/tiff").ending(key) for key in ("a.NEF", "a.dng", "a.tif", "a")] == [
        "nef", "dng", "tiff", "tiff",
    ]  # fmt: skip


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UsageError, match="needs the package webdataset: pip install"):
        exported("webdataset", tmp_path / "a", hit(1))


def test_a_folder_of_fiftyone_has_documents_fields_and_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    assert exported("fiftyone", folder, hit(1, key="x/../b c.jpg"), hit(2), hit(3), hit(4)) == (
        3,
        [(4, "the object is gone")],
    )
    assert sorted(path.name for path in folder.iterdir()) == ["data", "metadata.json", "samples.json"]
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert [sample["filepath"] for sample in samples] == ["data/0/1-b_c.jpg", "data/0/2-2.png", "data/0/3-3.png"]
    assert (folder / samples[0]["filepath"]).read_bytes() == JPEG
    assert samples[0]["metadata"] == {
        "_cls": "ImageMetadata", "size_bytes": len(JPEG), "mime_type": "image/jpeg", "width": 640, "height": 480,
    }  # fmt: skip
    first, drawn, small = samples[0]["regions"]["detections"]
    packed = zlib.decompress(base64.b64decode(first["mask"]["$binary"]["base64"]))
    inside = np.load(io.BytesIO(packed), allow_pickle=False)
    assert (inside.dtype, inside.shape, inside.all()) == (np.bool_, (20, 30), True)
    assert (first["label"], first["bounding_box"], first["confidence"]) == ("Dog", [0, 0, 0.5, 0.5], 0.9)
    assert (drawn["source"], "mask" in drawn, small["source"]) == ("person", False, "model")
    assert [one["label"] for one in samples[0]["recognised"]["classifications"]] == ["red boat", "dog"]
    assert (samples[1]["regions"]["detections"], samples[2]["regions"]) == ([], None)
    labels = [
        *(label for sample in samples for label in sample["recognised"]["classifications"]),
        *samples[0]["regions"]["detections"],
    ]
    ids = [entry["_id"]["$oid"] for entry in (*samples, *labels)]
    assert len(set(ids)) == len(ids)
    assert all(len(bytes.fromhex(one)) == 12 for one in ids)
    fields = {field["name"]: field for field in json.loads((folder / "metadata.json").read_text())["sample_fields"]}
    assert {name for sample in samples for name in sample} - fields.keys() == {"_id"}
    assert fields["regions"]["embedded_doc_type"] == "fiftyone.core.labels.Detections"
    assert exported("fiftyone", tmp_path / "b", hit(1, key="x/../b c.jpg"), hit(2), hit(3))[0] == 3
    assert (tmp_path / "b" / "samples.json").read_bytes() == (folder / "samples.json").read_bytes()


def test_pictures_stay_in_order_and_few_are_held(tmp_path: Path) -> None:
    asked: list[int] = []

    def note(image_id: int) -> bytes:
        asked.append(image_id)
        return JPEG

    pictured = picture_bytes.with_pictures(((hit(n), None) for n in range(1, 101)), note, lambda _h, _w: None)
    assert next(pictured)[0].image_id == 1
    assert len(asked) <= picture_bytes.AHEAD
    assert [found.image_id for found, _, _ in pictured] == list(range(2, 101))


def test_a_store_that_is_down_ends_the_export(tmp_path: Path) -> None:
    def broken(_: int) -> bytes:
        raise StoreUnavailableError("the store does not answer")

    with pytest.raises(StoreUnavailableError):
        list(picture_bytes.with_pictures([(hit(1), None)], broken, lambda _h, _w: None))


@pytest.mark.parametrize("format_", ["label-studio", "webdataset", "fiftyone"])
def test_memory_does_not_grow_with_the_number_of_images(format_: str, tmp_path: Path) -> None:
    size, count = 20_000, 1_500

    def write(name: str, number: int) -> None:
        hits = (hit(image_id) for image_id in range(10, 10 + number))
        if format_ == "label-studio":
            with (tmp_path / name).open("wb") as file:
                write_label_studio(hits, file, regions, None)
        else:
            (tmp_path / name).mkdir()
            write_folder(hits, format_, tmp_path / name, regions, lambda _: PNG + bytes(size), lambda _h, _w: None)

    if format_ == "webdataset":
        package("webdataset")

    def most_held(name: str) -> int:
        tracemalloc.start()
        write(name, count)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    write("first", 1)  # loads what it needs
    # 500 hits are held, whose regions are read together, and some pictures: not the 30 MB of all of them. The better
    # of two: the interpreter's own table of names of files may double once, which takes megabytes in a large process.
    assert min(most_held("second"), most_held("third")) < 3_000_000

"""Every kind of file that training reads, and what is said of those that it cannot."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from ram_core.errors import ImageError, TrainingError
from ram_core.training.data import require_captions, write_official
from ram_core.training.data.dataset import Sample, Samples
from tests.training_data import (
    NAMES,
    OFFICIAL,
    ROWS,
    WANTED,
    opened,
    picture,
    write_rows,
    write_shard,
    write_table,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rows(tmp_path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_are_read_and_their_captions_parsed(folder: Path, ending: str) -> None:
    dataset = opened(write_table(folder / f"t.{ending}", ROWS))
    assert list(dataset.samples) == WANTED
    assert dataset.read(1) == (folder / "b/c.jpg").read_bytes()
    assert (dataset.kind, dataset.left_out) == (ending, 0)


def test_tables_may_have_lists_of_captions_and_tags_by_name(folder: Path) -> None:
    rows = [
        {"key": "a.jpg", "caption": ["a dog", "a dog", "a sofa"], "tags": ["Beach", "car", 0]},
        {"key": "d.png", "tags": [{"name": "cat", "score": 0.7}]},
        {"key": "b/c.jpg"},
    ]
    dataset = opened(write_table(folder / "t.jsonl", rows))
    assert list(dataset.samples) == [
        Sample("a.jpg", ["a dog", "a sofa"], [[0], [2]], [0, 2, 3, 4]),
        Sample("d.png", [], [], [1]),
    ]
    assert dataset.left_out == 1
    assert dataset.read(1) == (folder / "d.png").read_bytes()
    (folder / "t.csv").write_text("image,text,title\na.jpg,a dog,,,\n")
    assert opened(folder / "t.csv").samples[0] == Sample("a.jpg", ["a dog"], [[0]], [0])
    table = write_table(folder / "t.csv", [{"image": "a.jpg", "tags": "dog|beach"}])
    assert opened(table).samples[0] == Sample("a.jpg", [], [], [0, 3])


def test_captions_need_not_be_parsed(folder: Path) -> None:
    dataset = opened(write_table(folder / "t.csv", ROWS), parse=False)
    assert dataset.samples[0] == Sample("a.jpg", ["A dog on a sofa.", "a cat"], [[], []], [])


def test_coco_captions_are_read(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("annotations") / "captions.json"
    content = {
        "images": [{"id": number, "file_name": row["image"]} for number, row in enumerate(ROWS)],
        "annotations": [
            {"image_id": number, "caption": row[column]}
            for column in ("caption", "caption_2")
            for number, row in enumerate(ROWS)
            if row[column]
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    dataset = opened(path, images=folder)
    assert list(dataset.samples) == WANTED
    path.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1, "bbox": []}]}), encoding="utf-8")
    with pytest.raises(TrainingError, match='no annotation with a "caption"; give captions, not boxes'):
        opened(path, images=folder)


def test_pictures_with_texts_beside_them_are_read(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"A dog on a sofa.\n\n a cat\n")
    (folder / "d.txt").write_bytes(b"two cars")
    dataset = opened(folder)
    assert [each.name for each in dataset.samples] == ["a.jpg", "d.png"]
    assert dataset.samples[0] == WANTED[0]
    assert dataset.samples[1].tags == [4]
    assert dataset.describe() == {
        "name": str(folder),
        "kind": "folder",
        "images": 2,
        "captions": 3,
        "tags": 4,
        "images_without_captions": 0,
        "images_without_tags": 0,
        "images_left_out": 1,
        "sha256": dataset.samples.sha256,
    }


def test_a_text_that_is_not_utf8_or_no_regular_file_is_refused(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"two cars\xff")
    with pytest.raises(TrainingError, match=r"a.txt is not UTF-8 \(byte 9\)"):
        opened(folder)
    with pytest.raises(TrainingError, match=r"a.tar, 1.txt is not UTF-8 \(byte 6\)"):
        opened(write_shard(folder / "a.tar", {"1.jpg": picture(0), "1.txt": b"a dog\xff"}))
    (folder / "a.tar").unlink()
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")
    with pytest.raises(TrainingError, match=r"a.txt cannot be read \(it is no file\)"):
        opened(folder)


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "tar"])
def test_a_pipe_is_no_data(folder: Path, ending: str) -> None:
    os.mkfifo(folder / f"t.{ending}")
    with pytest.raises(TrainingError, match=f"t.{ending} is no regular file"):
        opened(folder / f"t.{ending}")


def test_an_empty_path_is_no_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "a.txt").write_text("a dog")
    for given, images in (("", None), (["", "."], None), (".", "")):
        with pytest.raises(TrainingError, match="a path of data or of images is empty"):
            opened(given, images=images)


@pytest.mark.parametrize("ending", ["json", "jsonl", "coco"])
def test_halves_of_characters_in_captions_are_replaced(folder: Path, ending: str) -> None:
    row = {"image_path": "a.jpg", "caption": ["a dog \ud83d", "a dog \U0001f600"]}
    path = folder / f"t.{ending}"
    path.write_text(json.dumps([row] if ending == "json" else row))
    if ending == "coco":
        path = folder / "t.json"
        annotations = [{"image_id": 1, "caption": each} for each in row["caption"]]
        path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations}))
    assert opened(path).samples[0].captions == ["a dog \ufffd", "a dog \U0001f600"]


@pytest.mark.parametrize("name", ["a" * 5000 + ".jpg", "\ud83d.jpg"])
def test_a_name_that_no_file_can_have_is_a_bad_image(folder: Path, name: str) -> None:
    rows = [{"image": name, "caption": "a cat"}, {"image": "a.jpg", "caption": "a dog"}]
    dataset = opened(write_table(folder / "t.jsonl", rows))
    with pytest.raises(ImageError):
        dataset.read(0)
    assert dataset.read(1)


@pytest.mark.parametrize(
    ("images", "annotations", "complaint"),
    [
        ([{"id": 1, "file_name": "a.jpg"}], [(1, "a dog"), (7, "a cat")], "annotation 2 is of image 7, which the file"),
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "d.png"}], [(1, "a dog")], "image 2 has the id 1 of"),
        ([{"file_name": "a.jpg"}], [(None, "a dog")], 'image 1 has no "id"'),
        ([{"id": 1, "file_name": "a.jpg"}], [(1, ["a dog"])], "annotation 1: its caption is no text"),
    ],
)
def test_captions_of_coco_that_have_not_one_image_are_refused(
    folder: Path, images: list[dict[str, Any]], annotations: list[tuple[Any, Any]], complaint: str
) -> None:
    told = [{"image_id": owner, "caption": caption} for owner, caption in annotations]
    (folder / "t.json").write_text(json.dumps({"images": images, "annotations": told}))
    with pytest.raises(TrainingError, match=complaint):
        opened(folder / "t.json")


def test_shards_are_indexed_and_read_in_any_order(tmp_path: Path) -> None:
    for shard in range(3):
        members: dict[str, bytes] = {}
        for number in range(4):
            key = f"in/{number}"
            members[f"{key}.jpg"] = picture(10 * shard + number)
            members[f"{key}.txt"] = b"A dog on a sofa.\na cat"
            members[f"{key}.json"] = json.dumps({"caption": "a cat", "tags": [NAMES[shard]]}).encode()
        members["in/unknown.png"] = picture(99, kind="PNG")
        members["in/unknown.cls"] = b"1"
        write_shard(tmp_path / f"train-{shard:03}.tar", members)
    pattern = opened(str(tmp_path / "train-{000..002}.tar"))
    assert (len(pattern), pattern.left_out, pattern.kind) == (12, 3, "webdataset")
    sample = pattern.samples[9]
    assert sample == Sample("train-002.tar/in/1.jpg", ["A dog on a sofa.", "a cat"], [[0, 2], [1]], [0, 1, 2])
    assert [pattern.read(index) for index in (9, 0, 11)] == [picture(21), picture(0), picture(23)]
    assert pattern.name == ", ".join(str(tmp_path / f"train-{shard:03}.tar") for shard in range(3))
    for other in (str(tmp_path / "train-*.tar"), str(tmp_path / "train-00{0,1,2}.tar"), tmp_path):
        assert opened(other).describe() == pattern.describe()
    (tmp_path / "train-001.tar").unlink()
    with pytest.raises(TrainingError, match=r"train-001.tar cannot be read \(No such file or directory\)"):
        pattern.read(5)
    with pytest.raises(TrainingError, match=r"train-001.tar does not exist"):
        opened(str(tmp_path / "train-{000..002}.tar"))


def test_damaged_shards_are_refused_and_links_in_them_ignored(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", {"1.jpg": picture(0), "1.txt": b"a dog", "2.jpg": picture(1)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("3.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        text = tarfile.TarInfo("3.txt")
        text.size = 5
        archive.addfile(text, io.BytesIO(b"a cat"))
    assert [each.name for each in opened(path).samples] == ["a.tar/1.jpg"]
    cut = tmp_path / "cut.tar"
    cut.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(TrainingError, match=r"cut.tar is no whole tar file \(unexpected end of data\)"):
        opened(cut)
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz"):
        pass
    with pytest.raises(TrainingError, match="unpack it if it is compressed"):
        opened(packed)
    write_shard(path, {"1.jpg": picture(0), "1.json": b"{"})
    with pytest.raises(TrainingError, match=r"a.tar, 1.json is not valid JSON"):
        opened(path)


def test_several_files_are_one_set(folder: Path) -> None:
    first = write_table(folder / "t.csv", ROWS)
    second = folder / "t.json"
    write_official(second, WANTED[:2])
    dataset = opened([first, second])
    assert list(dataset.samples) == [*WANTED, *WANTED[:2]]
    assert dataset.kind == "csv + official"
    assert dataset.read(4) == (folder / "b/c.jpg").read_bytes()


def test_an_official_file_without_parsed_tags_is_parsed(folder: Path) -> None:
    path = folder / "t.json"
    path.write_text(json.dumps([{"image_path": "a.jpg", "caption": "a dog", "union_label_id": [3]}]))
    assert opened(path).samples[0] == Sample("a.jpg", ["a dog"], [[0]], [0, 3])


@pytest.mark.parametrize(
    ("captions", "parsed", "wanted"),
    [
        (["a dog", "a dog"], [[0], [0]], ["a dog", "a dog"]),
        (["a dog", " ", "a cat"], [[0], [], [1]], ["a dog", "a cat"]),
        (["a dog", ""], [[0]], ["a dog"]),
    ],
)
def test_tags_of_captions_in_a_table_are_those_of_all_its_captions(
    folder: Path, captions: list[str], parsed: list[list[int]], wanted: list[str]
) -> None:
    path = write_table(folder / "t.jsonl", [{**OFFICIAL, "caption": captions, "parse_label_id": parsed}])
    sample = opened(path).samples[0]
    assert sample.captions == wanted
    assert sample.caption_tags == [each for each in parsed if each]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file/t.json cannot be written: "):
        write_official(tmp_path / "file" / "t.json", WANTED)


def test_names_that_are_too_long_for_a_file_are_refused() -> None:
    with pytest.raises(TrainingError, match="xxx does not exist; give a file"):
        opened("x" * 300)


def test_long_json_is_read_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ram_core.training.data.official._CHUNK", 7)
    path = folder / "t.json"
    entries = [{**OFFICIAL, "caption": [f"a dog {number} “”"]} for number in range(50)]
    path.write_text("\ufeff" + json.dumps(entries, indent=2, ensure_ascii=False), encoding="utf-8")
    assert [each.captions for each in opened(path).samples] == [entry["caption"] for entry in entries]


def test_absolute_paths_below_the_folder_are_allowed(folder: Path) -> None:
    write_official(folder / "t.json", [Sample(str(folder / "a.jpg"), [], [], [0])])
    assert opened(folder / "t.json").samples.name(0) == "a.jpg"


def test_models_that_learn_captions_need_them(folder: Path) -> None:
    write_official(folder / "t.json", [WANTED[0], Sample("d.png", [], [], [4])])
    dataset = opened(folder / "t.json")
    require_captions(dataset, "ram")
    with pytest.raises(TrainingError, match=r"tag2text learns from captions, and 1 of the 2 images of .* have none"):
        require_captions(dataset, "tag2text")


def test_samples_take_tens_of_bytes_beside_their_texts() -> None:
    samples = Samples(4585)
    texts = 0
    for number in range(1000):
        sample = Sample(f"{number}.jpg", ["a dog"], [[0, 4000]], [0, 1, 4000])
        samples.append(sample)
        texts += len(sample.name) + len(sample.captions[0])
    assert samples[-1] == sample
    assert samples[5:7][1].name == "6.jpg"
    assert samples.held_bytes - texts < 35 * 1000
    with pytest.raises(IndexError):
        samples[1000]
    odd = Sample("a\ud800.jpg", ["", "x"], [[], [70_000]], [])
    many = Samples(100_000)
    many.append(odd)
    assert many[0] == odd
    with pytest.raises(TrainingError, match="2 captions and 1 lists"):
        many.append(Sample("a", ["", ""], [[]], []))

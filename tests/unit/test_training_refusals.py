"""What is said of training data that cannot be read, and of paths that lead elsewhere."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from ram_core.errors import ImageError, TrainingError
from ram_core.training.data import write_official
from ram_core.training.data.dataset import Sample
from tests.training_data import (
    OFFICIAL,
    WANTED,
    opened,
    write_pictures,
    write_rows,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rows(tmp_path)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"image_path": None}, r't.json, entry 2 \(line 2\) has no "image_path"'),
        ({"parse_label_id": [[0], [1]]}, r'entry 2 \(line 2\): "parse_label_id" is \[\[0\], \[1\]\] for 1 captions'),
        (
            {"union_label_id": [0, 5]},
            r"'a.jpg' has tag id 5, but the vocabulary has 5 tags, 0 to 4",
        ),
        ({"parse_label_id": [[-1]]}, "'a.jpg' has tag id -1"),
        ({"union_label_id": [True]}, '"union_label_id" is .*give a list of tag ids'),
        ({"union_label_id": "dog"}, '"union_label_id" is "dog"; give a list of tag ids'),
        ({"caption": 4}, '"caption" is 4; give a list of texts'),
        ({"image_path": "../a.jpg"}, r"the picture '../a.jpg' is not below"),
        ({"image_path": "/etc/passwd"}, r"the picture '/etc/passwd' is not below"),
        ({"image_path": "b/../../x.jpg"}, r"is not below"),
    ],
)
def test_entries_that_do_not_fit_are_named(folder: Path, entry: dict[str, Any], complaint: str) -> None:
    path = folder / "t.json"
    path.write_text("[" + json.dumps(OFFICIAL) + ",\n" + json.dumps({**OFFICIAL, **entry}) + "]")
    with pytest.raises(TrainingError, match=complaint):
        opened(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[{"image_path": "a.jpg", "caption": ["a dog"]},\n{"image_path": ]', r"entry 2 \(line 2\) is not valid JSON"),
        ('[{"image_path": "a.jpg", "caption": ["a dog"]},\n', r"entry 2 \(line 2\) is not valid JSON"),
        ('[{"image_path": "a.jpg", "caption": ["a dog"]}', r"entry 1 \(line 1\) is cut short"),
        ('[{"image_path": "a.jpg", "caption": ["a dog"]} x', "entry 1 .* is followed by 'x'"),
        ("12", r"the file does not begin with \["),
        ("[" * 100_000, "is nested too deeply"),
        ("[]", "has nothing to learn from: it has no images"),
        ("[{}]", 'has no "image_path"'),
        ('{"images": 3}', 'has no list "images"'),
        ('[{"image_path": "a.jpg"}]', "of 1 images neither captions nor tags are known"),
    ],
)
def test_broken_json_is_named_by_its_place(folder: Path, text: str, complaint: str) -> None:
    path = folder / "t.json"
    path.write_text(text)
    with pytest.raises(TrainingError, match=complaint):
        opened(path)


def test_a_wrong_folder_of_images_is_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "t.json"
    write_official(path, WANTED)
    with pytest.raises(TrainingError, match=r"the folder of images nowhere does not exist"):
        opened(path, images="nowhere")
    with pytest.raises(TrainingError, match=r"none of the first 3 pictures exists, for example .*/b/a.jpg;"):
        opened(path, images=folder / "b")


def test_a_hundred_missing_pictures_are_enough_to_refuse(tmp_path: Path) -> None:
    entries = write_pictures(tmp_path, 120)
    (tmp_path / "t.json").write_text(json.dumps(entries))
    for each in entries[:100]:
        (tmp_path / each["image_path"]).unlink()
    with pytest.raises(TrainingError, match="none of the first 100 pictures exists"):
        opened(tmp_path / "t.json")
    (tmp_path / entries[99]["image_path"]).write_bytes(b"")
    assert len(opened(tmp_path / "t.json")) == 120


def test_pictures_are_read_from_their_folder_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.jpg"
    outside.write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(outside)
    (folder / "inside.jpg").symlink_to(folder / "a.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "empty.jpg").touch()
    names = ["a.jpg", "link.jpg", "inside.jpg", "pipe.jpg", "empty.jpg", "b", "gone.jpg"]
    write_official(folder / "t.json", [Sample(name, [], [], [0]) for name in names])
    dataset = opened(folder / "t.json")
    assert dataset.read(2) == dataset.read(0)
    reasons = {1: "a link to", 3: "no file", 4: "is empty", 5: "no file|Is a directory", 6: "No such file"}
    for index, reason in reasons.items():
        with pytest.raises(ImageError, match=reason):
            dataset.read(index)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.csv", "picture,caption\n", "has no column of images; name one of its columns"),
        ("t.csv", "image,says\n", "has no column of captions or tags; name one of its columns"),
        ("t.csv", "image,caption\n,a dog\n", "t.csv, row 1 has no 'image'"),
        (
            "t.csv",
            "image,caption\na.jpg,a cat\nb.jpg,a dog, with a cat\n",
            "row 2 has more values than columns; put a text with a comma in double quotes",
        ),
        ("t.tsv", "image\tcaption\na.jpg\ta dog\tb\n", "row 1 has more values than columns; put a text with a tab"),
        ("t.csv", 'image,caption\na.jpg,a cat\nd.png,"a dog\n', "row 2 cannot be read: unexpected end of data"),
        ("t.csv", 'image,caption\na.jpg,"a cat\nd.png,"a dog"\n', "row 1 cannot be read: ',' expected after '\"'"),
        ("t.csv", f"image,caption\na.jpg,a\nd.png,{'a' * 131_073}\n", "row 2 cannot be read: field larger than field"),
        ("t.csv", "image,caption,caption\na.jpg,a dog,a cat\n", "has 2 columns 'caption'; rename all but one"),
        ("t.csv", "image,image,caption\na.jpg,a.jpg,a cat\n", "has 2 columns 'image'; rename all but one"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "tags": ["dgo"]}',
            r"t.jsonl, line 1: vocabulary 'few' has no tag 'dgo' \(did",
        ),
        ("t.jsonl", '{"image": "a.jpg", "tags": 3}', '"tags" is 3'),
        ("t.jsonl", '{"image": "a.jpg", "tags": [7]}', "'a.jpg' has tag id 7"),
        ("t.jsonl", '{"image": "a.jpg", "caption": "a dog"}\n{', "line 2: not valid JSON"),
        ("t.parquet", "PAR1", "is not valid Parquet"),
        ("t.doc", "", "is no data to train from; give .json, .csv"),
    ],
)
def test_tables_that_do_not_fit_are_named(folder: Path, name: str, content: str, complaint: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(TrainingError, match=complaint):
        opened(folder / name)


def test_missing_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"t.json does not exist; give a file"):
        opened(tmp_path / "t.json")
    with pytest.raises(TrainingError, match="has neither pictures nor shards"):
        opened(tmp_path)
    with pytest.raises(TrainingError, match="no data is given"):
        opened([])
    with pytest.raises(TrainingError, match="is no range of shards"):
        opened(str(tmp_path / "{9..1}.tar"))

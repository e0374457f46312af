"""The sets of labelled pictures that benchmarks read: what they make of the files that data sets are published as."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.labelled import by_text, coco, flickr30k, folder_of, stamps

if TYPE_CHECKING:
    from pathlib import Path


def test_coco_asks_with_each_caption_for_its_picture(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "7.jpg").touch()
    (tmp_path / "annotations" / "captions_val2017.json").write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "missing.jpg"}],
                "annotations": [
                    {"image_id": 7, "caption": "a cat "},
                    {"image_id": 8, "caption": "a dog"},
                    {"image_id": 7, "caption": "a cat asleep"},
                ],
            }
        )
    )
    found = coco(tmp_path)
    assert ([path.name for path in found.paths], found.queries, found.right) == (
        ["7.jpg"],
        ["a cat", "a cat asleep"],
        [[0], [0]],
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results_20130124.token", "1.jpg#0\tA man .\n1.jpg#1\tA person .\n2.jpg#0\tA boat .\n"),
        (
            "results.csv",
            "image_name| comment_number| comment\n1.jpg| 0| A man .\n1.jpg| 1| A person .\n2.jpg| 0| A boat .\n",
        ),
        (
            "dataset_flickr30k.json",
            json.dumps(
                {
                    "images": [
                        {
                            "filename": "1.jpg",
                            "split": "test",
                            "sentences": [{"raw": "A man ."}, {"raw": "A person ."}],
                        },
                        {"filename": "3.jpg", "split": "train", "sentences": [{"raw": "A tree ."}]},
                        {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "A boat ."}]},
                    ]
                }
            ),
        ),
    ],
)
def test_flickr30k_in_each_form_of_its_captions(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "flickr30k-images").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "flickr30k-images" / f"{number}.jpg").touch()
    (tmp_path / name).write_text(content)
    found = flickr30k(tmp_path)
    assert [path.name for path in found.paths] == ["1.jpg", "2.jpg"]
    assert (found.queries, found.right) == (["A man .", "A person .", "A boat ."], [[0], [0], [1]])


def test_stamps_with_one_text_are_all_right(tmp_path: Path) -> None:
    folder = tmp_path / "stamps" / "animals" / "birds"
    folder.mkdir(parents=True)
    for name, text in (("a", "A duck."), ("b", "A swan."), ("c", "A duck.")):
        (folder / f"{name}.png").touch()
        (folder / f"{name}.txt").write_text(f"{text}\nde.utf8=Ente")
    found = by_text(stamps(tmp_path / "stamps"))
    assert (found.queries, found.right) == (["A duck.", "A swan."], [[0, 2], [1]])
    assert set(found.folders) == {"animals/birds"} == {folder_of(path) for path in found.paths}

"""``ramq evaluate`` on files, with a small RAM of made-up weights."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ram_core.evaluate import tag_scores
from ram_core.modeling.tiny import write_tiny_models
from ram_core.registry import load_model, load_vocabulary
from ram_core.vocabulary_file import read_vocabulary, write_vocabulary
from tests.services.command_line import run_here
from tests.training_data import picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]

TAGS, IMAGES = 6, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, their tags in every format, and models."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_tiny_models("ram", folder / "models", tags=TAGS)
    random = np.random.default_rng(0)
    wanted = [[tag for tag in range(TAGS - 1) if random.random() < 0.5] for _ in range(IMAGES)]
    for number in range(IMAGES):
        (folder / f"{number:02}.jpg").write_bytes(picture(number))
    official = [{"image_path": f"{n:02}.jpg", "union_label_id": tags, "caption": []} for n, tags in enumerate(wanted)]
    (folder / "official.json").write_text(json.dumps(official), encoding="utf-8")
    rows = [{"image": f"{n:02}.jpg", "tags": [f"标签 {tag}" for tag in tags]} for n, tags in enumerate(wanted)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = [" and ".join(f"tag {tag}" for tag in tags) for tags in wanted]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *((f"{n:02}.jpg", text) for n, text in enumerate(said))])
    coco = {
        "images": [{"id": n, "file_name": f"{n:02}.jpg"} for n in range(IMAGES)],
        "annotations": [{"image_id": n, "caption": text} for n, text in enumerate(said)],
    }
    (folder / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    (folder / "beside").mkdir()
    for number, text in enumerate(said):
        (folder / f"beside/{number:02}.jpg").write_bytes(picture(number))
        (folder / f"beside/{number:02}.txt").write_text(text, encoding="utf-8")
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for number, text in enumerate(said):
            for ending, body in (("jpg", picture(number)), ("txt", text.encode())):
                member = tarfile.TarInfo(f"{number:02}.{ending}")
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    environment = {"RAMQ_MODELS_DIR": str(folder / "models"), "RAMQ_DATA_DIR": str(tmp_path / "data")}
    return lambda *words: run_here(("evaluate", *map(str, words), "--device", "cpu"), environment, tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def without_data(path: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "data"}


def test_every_format_of_training_gives_the_same_figures(run: Run, folder: Path, tmp_path: Path) -> None:
    for name in ("official.json", "rows.jsonl", "captions.csv", "coco.json", "beside", "shard.tar"):
        done = run("ram", "--dataset", folder / name, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert table(tmp_path / name / "tags.csv") == table(tmp_path / "official.json/tags.csv"), name
        assert without_data(tmp_path / name / "summary.json") == without_data(tmp_path / "official.json/summary.json")


def test_figures_are_those_of_the_scores(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("ram", "--dataset", folder / "official.json", "--out", tmp_path / "out", "--json")
    told = json.loads(done.stdout)
    model: Any = load_model("ram", models_dir=folder / "models")
    official = json.loads((folder / "official.json").read_text(encoding="utf-8"))
    pictures = [(entry, Image.open(folder / entry["image_path"])) for entry in official if entry["union_label_id"]]
    scores = tag_scores(model, np.stack([model.preprocessing(image) for _, image in pictures]))
    for tag in told["tags"]:
        having = np.array([tag["id"] in entry["union_label_id"] for entry, _ in pictures])
        assigned = scores[:, tag["id"]] > np.float32(0.65)
        assert (tag["tag"], tag["threshold"]) == (f"tag {tag['id']}", 0.65)
        assert (tag["images"], tag["assigned"]) == (having.sum(), assigned.sum())
        if having.any():
            assert tag["recall"] == pytest.approx((having & assigned).sum() / having.sum())
            assert tag["recall_low"] <= tag["recall"] <= tag["recall_high"]
        else:
            assert (tag["recall"], tag["ap"], tag["few_images"]) == (None, None, True)
    assert told["images"] == len(pictures)
    assert told["calibration"] is None
    assert told["data"]["images_left_out"] == IMAGES - len(pictures)


def test_scores_are_kept_and_only_the_rest_is_scored(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("ram", "--dataset", folder / "official.json", "--out", tmp_path / "out", "--batch", 16)
    calls: list[int] = []

    def counted(model: Any, pixels: Any) -> Any:
        if len(calls) == 1:
            calls.append(0)
            raise KeyboardInterrupt
        calls.append(len(pixels))
        return tag_scores(model, pixels)

    monkeypatch.setattr("ram_core.evaluation.scoring.tag_scores", counted)
    assert run(*words).returncode == 130
    assert run(*words).returncode == 0
    count = json.loads((tmp_path / "out/summary.json").read_text())["images"]
    assert calls == [16, 0, 16, count - 32] if count > 32 else [16, 0, count - 16]
    # Other thresholds need no other scores.
    done = run(*words, "--calibrate", 0.4)
    file = tmp_path / "out/ram-calibrated.jsonl"
    again = run(*words, "--vocabulary", file)
    assert (done.returncode, again.returncode) == (0, 0), again.stderr
    assert sum(calls) == count
    # Those of other data or weights are not continued.
    other = run("ram", "--dataset", folder / "shard.tar", "--out", tmp_path / "out")
    assert other.returncode == 2
    assert "contains scores of another run" in other.stderr
    assert len(other.stderr.splitlines()) == 1


def test_bad_images_are_left_out_listed_and_tried_again(run: Run, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "pictures"
    data.mkdir()
    for path in folder.glob("*.jpg"):
        (data / path.name).write_bytes(path.read_bytes())
    (data / "official.json").write_bytes((folder / "official.json").read_bytes())
    (data / "03.jpg").write_bytes(b"no picture")
    (data / "07.jpg").unlink()
    (data / "08.jpg").write_bytes(picture(8)[:300])
    words = ("ram", "--dataset", data / "official.json", "--out", tmp_path / "out")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    bad = [json.loads(line)["name"] for line in (tmp_path / "out/bad.jsonl").read_text().splitlines()]
    assert sorted(bad) == ["03.jpg", "07.jpg", "08.jpg"]
    assert "Left out: 03.jpg: the content is not an image" in done.stderr
    assert "3 images could not be read; all are in" in done.stderr
    assert json.loads((tmp_path / "out/summary.json").read_text())["unreadable"] == 3
    for name in bad:
        (data / name).write_bytes((folder / name).read_bytes())
    assert run(*words).returncode == 0
    assert not (tmp_path / "out/bad.jsonl").exists()
    assert run("ram", "--dataset", folder / "official.json", "--out", tmp_path / "whole").returncode == 0
    assert table(tmp_path / "out/tags.csv") == table(tmp_path / "whole/tags.csv")


def test_a_calibrated_vocabulary_has_the_reported_thresholds_and_the_figures_hold(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    words = ("ram", "--dataset", folder / "official.json", "--out", tmp_path / "out")
    done = run(*words, "--calibrate", 0.4, "--calibrated", tmp_path / "new/birds.jsonl")
    assert done.returncode == 0, done.stderr
    assert "after, on held-out images" in done.stdout
    assert "ramq vocab add" in done.stderr
    rows = table(tmp_path / "out/calibration.csv")
    new = read_vocabulary(tmp_path / "new/birds.jsonl")
    own: Any = load_model("ram", models_dir=folder / "models").vocabulary
    assert new.has_tags_of(own)
    assert new.names_zh == own.names_zh
    changed = [row for row in rows if row["outcome"] == "calibrated"]
    assert changed
    for row in rows:
        assert new.thresholds[int(row["id"])] == np.float32(row["threshold_after"])
    assert {row["outcome"] for row in rows if row["threshold_after"] == "0.65"} <= {
        "kept: too few images have the tag", "kept: no threshold reaches the precision",
    }  # fmt: skip
    told = json.loads(run(*words, "--vocabulary", tmp_path / "new/birds.jsonl", "--json").stdout)
    by_id = {tag["id"]: tag for tag in told["tags"]}
    for row in changed:
        assert by_id[int(row["id"])]["precision"] >= 0.4 - 1e-9, "on the images that chose it"


def test_other_tags_need_no_list_of_the_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("name,name_zh,synonyms\ncat/kitty,猫/猫咪,mouser\ncup,,\n", encoding="utf-8")
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    rows = [
        {"image": "0.jpg", "tags": ["猫咪"]},
        {"image": "1.jpg", "tags": ["Mouser"]},
        {"image": "2.jpg", "tags": ["cup"]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = run("lite", "--dataset", "rows.jsonl", "--vocabulary", "few.csv", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(tag["tag"], tag["images"]) for tag in told["tags"]] == [("cat/kitty", 2), ("cup", 1)]
    assert (tmp_path / "evaluation/lite-rows/tags.csv").is_file()


def test_tag2text_takes_other_thresholds_and_no_other_tags(tmp_path: Path) -> None:
    write_tiny_models("tag2text", tmp_path / "models")
    own = load_vocabulary("tag2text", tmp_path / "models")
    write_vocabulary(tmp_path / "own.jsonl", own.with_thresholds({1: 0.25}))
    (tmp_path / "few.txt").write_text("tag 1\n", encoding="utf-8")
    (tmp_path / "0.jpg").write_bytes(picture(0))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "0.jpg", "tags": ["tag 1"]}), encoding="utf-8")
    environment = {"RAMQ_MODELS_DIR": str(tmp_path / "models"), "RAMQ_DATA_DIR": str(tmp_path / "data")}
    words = ("evaluate", "tag2text", "--dataset", "rows.jsonl", "--device", "cpu", "--json", "--vocabulary")
    done = run_here((*words, "own.jsonl"), environment, tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["tags"]
    assert [tag["threshold"] for tag in told[:3]] == [0.68, 0.25, 0.68]
    refused = run_here((*words, "few.txt"), environment, tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("rom", "--dataset", "rows.jsonl"), 2, "unknown model 'rom'"),
        (("ram", "--dataset", "none.json"), 2, "none.json does not exist"),
        (("ram", "--dataset", "unknown.jsonl"), 2, "has no tag 'tag 77'"),
        (("ram", "--dataset", "outside.json"), 2, "has tag id 77"),
        (("ram", "--dataset", "empty.json"), 2, "has nothing to learn from"),
        (("ram", "--dataset", "untagged.csv"), 2, "no image has a tag of vocabulary 'ram'"),
        (("ram", "--dataset", "gone.jsonl"), 2, "none of the first 1 pictures exists"),
        (("ram", "--dataset", "bad.jsonl"), 2, "no image of bad.jsonl can be read"),
        (("ram", "--dataset", "rows.jsonl", "--vocabulary", "none.txt"), 2, "none.txt does not exist"),
        (("tag2text", "--dataset", "rows.jsonl"), 1, "ramq models pull tag2text"),
        (("ram", "--dataset", "rows.jsonl", "--out", "0.jpg"), 2, "give another --out"),
        (("ram", "--dataset", "rows.jsonl", "--calibrate", "1.5"), 2, "is no precision"),
        (("ram", "--dataset", "rows.jsonl", "--calibrated", "x.jsonl"), 2, "give --calibrate"),
        (("ram", "--dataset", "rows.jsonl", "--calibrate", "0.9", "--calibrated", "x.txt"), 2, "a .jsonl file"),
        (("ram", "--dataset", "rows.jsonl", "--calibrate", "0.9", "--enough", "3"), 2, "raise --enough"),
        (("ram", "--dataset", "rows.jsonl", "--precision", "int8"), 2, "unknown precision 'int8'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run, tmp_path: Path, words: tuple[str, ...], code: int, complaint: str
) -> None:
    (tmp_path / "0.jpg").write_bytes(picture(0))
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    rows = {
        "rows": {"image": "0.jpg", "tags": ["tag 1"]},
        "unknown": {"image": "0.jpg", "tags": ["tag 77"]},
        "gone": {"image": "9.jpg", "tags": ["tag 1"]},
        "bad": {"image": "1.jpg", "tags": ["tag 1"]},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (tmp_path / "empty.json").write_text("[]", encoding="utf-8")
    (tmp_path / "outside.json").write_text('[{"image_path": "0.jpg", "union_label_id": [77]}]', encoding="utf-8")
    (tmp_path / "untagged.csv").write_text("image,caption\n0.jpg,nothing to see\n", encoding="utf-8")
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert complaint in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("ramq: ")
    assert "Traceback" not in done.stderr


def test_a_list_of_bad_images_outlives_a_refusal(run: Run, folder: Path, tmp_path: Path) -> None:
    words = ("ram", "--dataset", folder / "official.json", "--out", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/bad.jsonl").write_text('{"name": "x.jpg", "reason": "cut short"}\n')
    (tmp_path / "out/run.json").write_text("{}")
    assert run(*words).returncode == 2
    assert (tmp_path / "out/bad.jsonl").exists()


def test_weights_whose_list_has_another_length_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("dog\ncat\n", encoding="utf-8")
    weights = next((folder / "models/ram").glob("*.pth"))
    done = run("ram", "--dataset", folder / "official.json", "--checkpoint", weights, "--vocabulary", "short.txt")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "2" in done.stderr
    assert str(TAGS) in done.stderr

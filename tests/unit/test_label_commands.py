"""``ramq parse`` and ``ramq labels`` on files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.services.command_line import run_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command in a folder with a list of tags and captions."""
    (tmp_path / "pets.txt").write_text("dog\ncat\ncouch\n", encoding="utf-8")
    (tmp_path / "captions.csv").write_text(
        "id,text\n1,a dog on a skateboard\n2,two dogs\n3,no cat\n4,a skateboard\n", encoding="utf-8"
    )
    (tmp_path / "ram_tag_list.txt").write_text("sofa\nsleep\n", encoding="utf-8")
    (tmp_path / "ram_tag_list_chinese.txt").write_text("沙发\n睡眠\n", encoding="utf-8")
    (tmp_path / "ram_tag_list_threshold.txt").write_text("0.5\n0.5\n", encoding="utf-8")
    environment = {"RAMQ_MODELS_DIR": str(tmp_path), "RAMQ_DATA_DIR": str(tmp_path / "data"), "RAMQ_MODEL": "ram"}
    return lambda *words: run_here(words, environment, tmp_path)


def test_texts_are_parsed_with_the_tags_of_the_model_or_of_a_file(run: Run) -> None:
    done = run("parse", "a cat is sleeping on the sofa")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["text", "id", "tag", "words"], ["1", "1", "sleep", "sleeping"], ["1", "0", "sofa", "sofa"],
    ]  # fmt: skip
    told = json.loads(run("parse", "no dogs", "a cat on a sofa", "--vocabulary", "pets.txt", "--json").stdout)
    assert told["items"] == [
        {"text": "no dogs", "tags": []},
        {
            "text": "a cat on a sofa",
            "tags": [
                {"id": 1, "name": "cat", "words": "cat", "start": 2, "end": 5},
                {"id": 2, "name": "couch", "words": "sofa", "start": 11, "end": 15},
            ],
        },
    ]


def test_a_file_of_no_captions_is_a_document_of_no_items(run: Run, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n", encoding="utf-8")
    assert json.loads(run("parse", "--file", "none.txt", "--json").stdout) == {"items": []}


def test_a_file_is_parsed_line_by_line(run: Run) -> None:
    done = run("parse", "--file", "captions.csv", "--column", "text", "--vocabulary", "pets.txt", "--json")
    assert [[tag["words"] for tag in item["tags"]] for item in json.loads(done.stdout)["items"]] == [
        ["dog"], ["dogs"], [], [],
    ]  # fmt: skip
    nothing = run("parse", "a tree")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "name no tag" in nothing.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("parse",), "give texts or a file"),
        (("parse", "a cat", "--file", "captions.csv"), "give texts or a file"),
        (("parse", "a cat", "--column", "text"), "give --file as well"),
        (("parse", "--file", "captions.csv"), "no column 'caption'; the columns are id, text"),
        (("parse", "a cat", "--vocabulary", "none.txt"), "none.txt does not exist"),
        (("parse", "a cat", "--vocabulary", "nothing"), "unknown vocabulary 'nothing'"),
        (("labels", "build"), "nothing to build from"),
        (("labels", "build", "--captions", "captions.csv", "--column", "text"), "lower --min-count"),
        (("labels", "show", "none.labels"), "none.labels does not exist"),
        (("labels", "synonyms", "pets.txt", "--wordnet", "none"), "is not WordNet"),
        (("labels", "build", "--lists", "pets.txt", "--out", "no/pets.labels"), "cannot be written"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(run: Run, words: tuple[str, ...], complaint: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_label_system_is_built_edited_shown_and_used(run: Run, tmp_path: Path) -> None:
    done = run(
        "labels", "build", "--lists", "pets.txt", "--captions", "captions.csv", "--column", "text", "--min-count", "2",
        "--out", "mine.labels",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "4 captions, 4 tags.\n"
    path = tmp_path / "mine.labels"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "0: dog | dogs [plural]"
    assert lines[3:] == [
        "# 2 captions, such as: a dog on a skateboard · a skateboard",
        "3: skateboard [captions] | skateboards [plural]",
    ]
    assert run("labels", "build", "--lists", "mine.labels").stdout.splitlines() == lines
    path.write_text("\n".join(lines).replace("0: dog", "0: dog | hound"), encoding="utf-8")
    assert run("labels", "show", "mine.labels").stdout.splitlines()[1].split() == ["0", "dog", "3"]
    assert run("labels", "synonyms", "mine.labels").stdout.splitlines()[1].split() == ["0", "dog", "hound", "given"]
    [item, *_] = json.loads(run("labels", "show", "mine.labels", "--json").stdout)["items"]
    assert item["names"] == [
        {"name": "dog", "origin": "given"}, {"name": "hound", "origin": "given"}, {"name": "dogs", "origin": "plural"},
    ]  # fmt: skip
    parsed = json.loads(run("parse", "a hound", "--vocabulary", "mine.labels", "--json").stdout)
    assert parsed["items"][0]["tags"][0]["name"] == "dog"


def test_the_synonyms_of_a_model_have_their_origin(run: Run, tmp_path: Path) -> None:
    (tmp_path / "wordnet.json").write_text('{"synsets": {"1": {"lemmas": ["sofa", "lounge"]}}}', encoding="utf-8")
    done = run("labels", "synonyms", "ram_plus", "--wordnet", "wordnet.json")
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert ["0", "sofa", "lounge", "wordnet"] in rows
    assert ["0", "sofa", "沙发", "chinese"] in rows
    assert ["0", "sofa", "couch", "everyday"] in rows
    assert ["0", "sofa", "sofas", "plural"] in rows
    others = run("labels", "synonyms", "ram_plus", "--wordnet", "wordnet.json", "--without-forms")
    assert [line.split() for line in others.stdout.splitlines()[1:]] == [row for row in rows if row[3] != "plural"]


def test_a_caption_with_half_a_character_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "half.jsonl").write_text(json.dumps({"caption": "a dog \ud83d"}), encoding="utf-8")
    done = run("labels", "build", "--captions", "half.jsonl", "--min-count", "1", "--out", "half.labels")
    assert done.returncode == 0, done.stderr
    assert run("parse", "--file", "half.jsonl", "--vocabulary", "half.labels").returncode == 0


def test_captions_with_images_become_a_training_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    rows = [{"image": "a.jpg", "caption": ["two dogs", "a cat"]}]
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    words = ("parse", "--file", "t.jsonl", "--vocabulary", "pets.txt", "--official", "train.json")
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "1 image in train.json\n")
    assert json.loads((tmp_path / "train.json").read_text(encoding="utf-8")) == [
        {"image_path": "a.jpg", "caption": rows[0]["caption"], "parse_label_id": [[0], [1]], "union_label_id": [0, 1]}
    ]
    assert "--official needs --file" in run("parse", "a dog", "--official", "train.json").stderr
    assert "--official needs --file" in run(*words, "--json").stderr
    assert "has no column of images" in run("parse", "--file", "captions.csv", "--official", "train.json").stderr


def test_json_of_a_new_system_counts_its_captions(run: Run) -> None:
    done = run("labels", "build", "--captions", "captions.csv", "--column", "text", "--min-count", "2", "--json")
    told = json.loads(done.stdout)
    assert told["captions"] == 4
    assert [item["name"] for item in told["items"]] == ["dog", "skateboard"]

"""Vocabularies of one's own, from files of three kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ram_core.errors import VocabularyError
from ram_core.registry import load_vocabulary
from ram_core.vocabulary import TagVocabulary
from ram_core.vocabulary_file import read_vocabulary, write_vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def write(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


def test_names_alone_are_read_a_line_each(tmp_path: Path) -> None:
    read = read_vocabulary(write(tmp_path, "birds.txt", "\ufeffgreat  tit\n\n robin \n"))
    assert (read.name, read.names, read.descriptions) == ("birds", ("great tit", "robin"), None)
    assert read.thresholds.tolist() == [0.5, 0.5]


def test_a_table_has_thresholds_chinese_names_and_descriptions(tmp_path: Path) -> None:
    content = 'name,name_zh,threshold,descriptions\nrobin,知更鸟,0.6,"red breast, small|sings"\ntit,,,yellow\n'
    read = read_vocabulary(write(tmp_path, "birds.csv", content), "garden")
    assert (read.name, read.names, read.names_zh) == ("garden", ("robin", "tit"), ("知更鸟", None))
    assert read.thresholds.tolist() == pytest.approx([0.6, 0.5])
    assert read.descriptions == (("red breast, small", "sings"), ("yellow",))


def test_synonyms_are_read_from_tables_and_objects(tmp_path: Path) -> None:
    table = "name,synonyms\nrobin,redbreast| erithacus |robin\ntit,\n"
    assert read_vocabulary(write(tmp_path, "birds.csv", table)).synonyms == (("redbreast", "erithacus"), ())
    objects = '{"name": "robin", "synonyms": ["redbreast"]}\n{"name": "tit", "synonyms": "titmouse"}\n'
    assert read_vocabulary(write(tmp_path, "birds.jsonl", objects)).synonyms == (("redbreast",), ("titmouse",))
    assert read_vocabulary(write(tmp_path, "plain.csv", "name\nrobin\n")).synonyms is None


def test_names_in_both_languages_are_stored_without_needless_white_space(tmp_path: Path) -> None:
    read = read_vocabulary(write(tmp_path, "animals.csv", "name,name_zh\n dog , 狗\ncat,\u3000大  猫 \ncow, \n"))
    assert (read.names, read.names_zh) == (("dog", "cat", "cow"), ("狗", "大 猫", None))
    spaced = '{"name": "dog", "name_zh": " 狗\\n"}\n{"name": "cat", "name_zh": ""}\n'
    assert read_vocabulary(write(tmp_path, "animals.jsonl", spaced)).names_zh == ("狗", None)


def test_lines_of_json_say_the_same(tmp_path: Path) -> None:
    content = '{"name": "robin", "descriptions": ["red", "sings"]}\n\n{"name": "tit", "description": "yellow"}\n'
    read = read_vocabulary(write(tmp_path, "birds.jsonl", content))
    assert read.descriptions == (("red", "sings"), ("yellow",))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", "dog\ncat\nDog\n", "line 3: 'Dog' is already in line 1"),
        ("a.txt", "\n\n", "contains no tags"),
        ("a.pdf", "dog", "is not a vocabulary"),
        ("a.csv", "tag\ndog\n", "line 1: no column `name`"),
        ("a.csv", "name,threshold\ndog,high\n", "line 2: threshold 'high' is not a number"),
        ("a.csv", "name,threshold\ndog,0.5\ncat,1.5\n", "line 3: threshold 1.5 is outside"),
        ("a.csv", "name,threshold\ndog,0.5,a\n", "line 2: more fields than columns"),
        ("a.csv", "name,colour\ndog,red\n", "line 2: unknown field 'colour'"),
        ("a.csv", "name,description\ndog,barks\ncat,\n", "line 3: 'cat' has no description"),
        ("a.jsonl", '{"name": "dog"}\n{"name"\n', "line 2: not valid JSON"),
        ("a.jsonl", '["dog"]\n', "line 1: not an object"),
        ("a.jsonl", '{"name": 3}\n', "line 1: the name is missing"),
        ("a.jsonl", '{"name": "dog", "descriptions": [1]}\n', "line 1: Chinese name, descriptions"),
        ("a.jsonl", '{"name": "dog", "name_zh": 0}\n', "line 1: Chinese name, descriptions"),
        ("a.txt", "dog\nc\0at\n", r"line 2: 'c\\x00at' has characters that are not text; save the file as UTF-8"),
        ("a.jsonl", '{"name": "dog", "name_zh": "\\u0000"}\n', "line 1: .* not text"),
        ("a.jsonl", '{"name": "dog", "description": "a \\ud800"}\n', "line 1: .* not text"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_line(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    with pytest.raises(VocabularyError, match=complaint):
        read_vocabulary(write(tmp_path, name, content))


def test_a_file_in_utf_16_without_a_mark_is_told_by_its_first_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("dog\ncat\n".encode("utf-16-le"))
    with pytest.raises(VocabularyError, match=r"line 1: .* save the file as UTF-8"):
        read_vocabulary(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"birds\.txt does not exist"):
        read_vocabulary(tmp_path / "birds.txt")


def test_what_is_written_is_read_the_same_with_names_that_tags_share(tmp_path: Path) -> None:
    own = load_vocabulary("lite").with_thresholds({0: 0.1234567, 3: 1 / 3, 7: 1.0, 8: 0.0})
    assert len(set(own.names)) < len(own), "two cranes"
    write_vocabulary(tmp_path / "deep/imagenet.jsonl", own)
    read = read_vocabulary(tmp_path / "deep/imagenet.jsonl")
    assert (read.sha256, read.name, read.synonyms) == (own.sha256, own.name, own.synonyms)
    assert read.thresholds.tolist() == own.thresholds.tolist()
    assert read.has_tags_of(own)
    plain = TagVocabulary("few", ("cat/kitty", "a|b"), ("猫/猫咪", None), own.thresholds[:2])
    plain = plain.with_synonyms({0: ["mouser", "chat | katze"]})
    write_vocabulary(tmp_path / "few.jsonl", plain)
    again = read_vocabulary(tmp_path / "few.jsonl")
    assert (again.sha256, again.names_zh, again.synonyms) == (plain.sha256, plain.names_zh, plain.synonyms)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("id,name\n0,crane\n2,crane\n", "line 3: id 2 instead of 1"),
        ("id,name\n0,crane\n,crane\n", "line 3: no id instead of 1"),
        ("id,name\n0,crane\none,crane\n", "line 3: id 'one' is not a whole number"),
        ("name\ncrane\ncrane\n", "line 3: 'crane' is already in line 2"),
    ],
)
def test_names_are_shared_only_by_tags_that_are_numbered(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(VocabularyError, match=complaint):
        read_vocabulary(write(tmp_path, "birds.csv", content))
    read = read_vocabulary(write(tmp_path, "birds.csv", "id,name\n0,crane\n1,crane\n"))
    assert read.names == ("crane", "crane")


def test_a_vocabulary_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    few = TagVocabulary.from_names("few", ["dog"])
    with pytest.raises(VocabularyError, match=r"give a \.jsonl file"):
        write_vocabulary(tmp_path / "few.txt", few)
    (tmp_path / "file").write_text("")
    with pytest.raises(VocabularyError, match="cannot be written"):
        write_vocabulary(tmp_path / "file/few.jsonl", few)

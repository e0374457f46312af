"""Candidates for tags from captions, and the files that captions are in."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ram_core.errors import VocabularyError
from ram_core.labels.candidates import CandidateCounter
from ram_core.labels.caption_files import read_captions

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS = [
    "A polar bear on the ice",
    "two polar bears are swimming",
    "Polar bears, and a seal.",
    "a dog runs beautifully on the ice",
    "Dogs running; dogs, dogs!",
    "the dog\u2019s ice-cold water",
]


def counted(captions: list[str], most_held: int = 1000) -> CandidateCounter:
    counter = CandidateCounter(most_held)
    for caption in captions:
        counter.add(caption)
    return counter


def test_names_are_counted_once_a_caption_in_singular_with_examples() -> None:
    found = {each.name: each for each in counted(CAPTIONS).candidates()}
    assert found["dog"].count == 3
    assert found["dog"].examples == tuple(CAPTIONS[3:])
    assert found["polar bear"].count == 3
    assert found["ice"].count == 3
    assert found["run"].count == 2, "an action is counted as its verb"
    assert {"the", "on", "two", "beautifully", "beautiful"}.isdisjoint(found)
    assert "dogs dog" not in found, "punctuation parts names"


def test_a_word_that_belongs_to_one_longer_name_is_no_candidate() -> None:
    found = {each.name for each in counted(CAPTIONS).candidates()}
    assert "polar bear" in found
    assert {"polar", "bear"}.isdisjoint(found)
    with_bears = {each.name for each in counted([*CAPTIONS, "a bear"]).candidates()}
    assert {"polar bear", "bear"} <= with_bears


def test_an_action_that_only_occurs_in_a_longer_name_is_no_candidate() -> None:
    captions = ["a flying fox in a tree", "flying foxes at night"]
    assert "fly" not in {each.name for each in counted(captions).candidates()}
    assert "fly" in {each.name for each in counted([*captions, "a bird flies", "flying"]).candidates()}


@pytest.mark.parametrize("word", ["rhinoceros", "jeans", "scissors", "cosmos", "triceratops", "canvas"])
def test_no_singular_is_made_up(word: str) -> None:
    assert word in {each.name for each in counted([f"the {word}"]).candidates()}


def test_frequent_ones_come_first_and_rare_ones_not_at_all() -> None:
    assert [each.name for each in counted(CAPTIONS).candidates(3)] == ["dog", "ice", "polar bear"]
    assert [each.name for each in counted(CAPTIONS).candidates(3, top=1)] == ["dog"]
    assert counted([]).candidates() == []


def test_memory_is_bounded_and_the_counts_say_how_far_they_may_be_off() -> None:
    draw = np.random.default_rng(3)
    captions = [f"thing{chr(97 + min(25, int(each)))}q" for each in draw.zipf(1.5, 4000)]
    captions += [f"rare{int(number)}x" for number in draw.integers(0, 3000, 4000)]
    order = draw.permutation(len(captions)).tolist()
    captions = [captions[at] for at in order]
    counter = counted(captions, most_held=200)
    assert len(counter._held) <= 200
    exact = Counter(captions)
    found = counter.candidates()
    assert found
    for each in found:
        assert each.count <= exact[each.name] <= each.count + each.missed
    assert {name for name, count in exact.items() if count > counter._floor} <= {each.name for each in found}
    assert counter.captions == 8000


def test_long_captions_are_shortened_as_examples() -> None:
    [example] = next(iter(counted(["dog " + "the " * 60]).candidates())).examples
    assert len(example) == 100
    assert example.endswith("…")


def test_captions_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    wanted = ["a cat", 'a "dog", too', "ein Hündchen"]
    (tmp_path / "a.txt").write_text("\ufeffa cat\n\n" + "\n".join(wanted[1:]), encoding="utf-8")
    (tmp_path / "a.csv").write_text('id,caption\n1,a cat\n2,"a ""dog"", too"\n3,\n4,ein Hündchen\n', encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in ([wanted[0]], None, wanted[1:])), encoding="utf-8"
    )
    parquet.write_table(pa.table({"caption": [*wanted, None]}), tmp_path / "a.parquet")
    for file, column in (("a.txt", None), ("a.csv", None), ("a.jsonl", "text"), ("a.parquet", "caption")):
        assert [text.strip() for text in read_captions(tmp_path / file, column)] == wanted


@pytest.mark.parametrize(
    ("name", "content", "column", "complaint"),
    [
        ("a.doc", b"", None, "give a .txt, .csv, .tsv, .jsonl or .parquet file"),
        ("a.txt", b"a cat", "caption", "has no columns"),
        ("a.txt", b"\xff\xfe\xff", None, "cannot be read"),
        ("a.csv", b"id,text\n1,a cat\n", None, r"no column 'caption'; the columns are id, text \(--column\)"),
        ("a.jsonl", b'{"caption": "a"}\n{"text": "a"}\n', None, "line 2: no column 'caption'; the columns are text"),
        ("a.jsonl", b"{\n", None, "line 1: not valid JSON"),
        ("a.jsonl", b"[]\n", None, "line 1: no column 'caption'; the columns are none"),
        ("a.parquet", b"PAR1", None, "is not valid Parquet"),
    ],
)
def test_files_without_captions_are_refused(
    tmp_path: Path, name: str, content: bytes, column: str | None, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=complaint):
        list(read_captions(tmp_path / name, column))


def test_a_parquet_file_without_the_column_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(VocabularyError, match="no column 'caption'; the columns are text"):
        list(read_captions(tmp_path / "a.parquet"))
    with pytest.raises(VocabularyError, match="does not exist"):
        list(read_captions(tmp_path / "b.txt"))

"""Label systems: their files, their synonyms, and the vocabularies that they become."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_core import TagVocabulary
from ram_core.errors import VocabularyError
from ram_core.labels import LabelGroup, LabelName, LabelSystem, TagParser
from ram_core.labels.candidates import Candidate
from ram_core.labels.label_file import ORIGINS
from ram_core.labels.synonyms import label_system, merged
from ram_core.labels.wordnet import WordNet
from ram_core.vocabulary_file import read_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
# Farm animals.

0: dog | dogs [plural] | hound | 狗 [chinese] | 犬 [chinese]
1: a \\| b \\[c] \\\\ d
# Last words.
"""


def test_a_file_is_read_and_written_as_it_was() -> None:
    system = LabelSystem.parse(FILE)
    first, second = system.groups
    assert first.names[:3] == (LabelName("dog"), LabelName("dogs", "plural"), LabelName("hound"))
    assert first.above == ("# Farm animals.", "")
    assert second.names == (LabelName("a | b [c] \\ d"),)
    assert system.below == ("# Last words.",)
    assert system.text() == FILE


NAME = st.text(min_size=1, max_size=12).map(lambda text: " ".join(text.split())).filter(bool)
NAMES = st.lists(st.builds(LabelName, NAME, st.sampled_from(list(ORIGINS))), min_size=1, max_size=4,
                 unique_by=lambda name: name.text.casefold()).map(tuple)  # fmt: skip
COMMENTS = st.lists(st.sampled_from(["", "# a comment", "# 1: no line | of tags"]), max_size=2).map(tuple)


@settings(max_examples=300)
@given(st.dictionaries(st.integers(0, 999_999), st.tuples(NAMES, COMMENTS), max_size=5), COMMENTS)
def test_every_system_survives_its_file(
    tags: dict[int, tuple[tuple[LabelName, ...], tuple[str, ...]]], below: tuple[str, ...]
) -> None:
    system = LabelSystem(tuple(LabelGroup(each, *tags[each]) for each in sorted(tags)), below)
    assert LabelSystem.parse(system.text()) == system
    assert LabelSystem.parse(system.text()).text() == system.text()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("0: dog\ncat\n", r"line 2: no id and colon; write a line such as"),
        ("0: dog\n0: cat\n", "line 2: id 0 stands after 0"),
        ("1: dog\n0: cat\n", "line 2: id 0 stands after 1"),
        ("0: dog | | cat\n", "line 1: a name is empty"),
        ("0:\n", "line 1: a name is empty"),
        ("0: dog | Dog\n", "line 1: 'Dog' stands there twice"),
        ("0: dog | hound [guess]\n", r"line 1: unknown origin \[guess\]; write one of captions, "),
        ("0: dog [plural\n", None),
    ],
)
def test_an_invalid_line_is_named_with_the_reason(tmp_path: Path, content: str, complaint: str | None) -> None:
    path = tmp_path / "mine.labels"
    path.write_text(content, encoding="utf-8")
    if complaint is None:
        assert LabelSystem.read(path).groups[0].names[0].text == "dog [plural"
        return
    with pytest.raises(VocabularyError, match=rf"mine\.labels, {complaint}"):
        LabelSystem.read(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="does not exist"):
        LabelSystem.read(tmp_path / "mine.labels")
    (tmp_path / "mine.labels").write_bytes(b"\xff\xfe")
    with pytest.raises(VocabularyError, match="cannot be read as UTF-8"):
        LabelSystem.read(tmp_path / "mine.labels")


def test_a_file_becomes_a_vocabulary_with_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "farm.labels"
    path.write_text(FILE, encoding="utf-8")
    vocabulary = read_vocabulary(path)
    assert (vocabulary.name, vocabulary.names[0], vocabulary.names_zh) == ("farm", "dog", ("狗", None))
    assert vocabulary.synonyms == (("dogs", "hound", "犬"), ())
    assert [tag.id for tag in TagParser(vocabulary).parse("a hound")] == [0]


def test_a_vocabulary_needs_ids_without_gaps() -> None:
    with pytest.raises(VocabularyError, match=r"the labels have no tag 1, .* numbers them anew"):
        LabelSystem.parse("0: dog\n2: cat\n").vocabulary("farm")


def names_of(system: LabelSystem, tag_id: int) -> dict[str, str]:
    return {name.text: name.origin for name in system.groups[tag_id].names}


def test_synonyms_have_their_origin_and_never_another_tags_name() -> None:
    plain = TagVocabulary(
        "mine",
        ("gray", "taxi/cab", "fire truck", "scissors", "glasses", "couch", "bike", "bicycle", "red", "t-shirt"),
        ("灰色/灰", None, "消防车", None, None, "沙发", None, None, "红", None),
        np.full(10, 0.5, np.float32),
    )
    system = label_system(plain.with_synonyms({5: ["divan"]}))
    assert names_of(system, 0) == {"gray": "", "灰色": "chinese", "灰": "chinese", "grey": "spelling"}
    assert names_of(system, 1).items() >= {"taxi": "alternative", "cab": "alternative", "taxis": "plural"}.items()
    assert names_of(system, 2) == {
        "fire truck": "", "消防车": "chinese", "fire trucks": "plural", "fire engine": "everyday",
    }  # fmt: skip
    assert names_of(system, 3) == {"scissors": ""}, "scissor is no word"
    assert names_of(system, 4) == {"glasses": "", "eyeglasses": "everyday", "spectacles": "everyday"}
    assert names_of(system, 5).items() >= {"divan": "", "couches": "plural", "sofa": "everyday"}.items()
    assert "bicycle" not in names_of(system, 6)
    assert "bike" not in names_of(system, 7)
    assert names_of(system, 8) == {"red": "", "红": "chinese"}
    assert names_of(system, 9).items() >= {"t-shirts": "plural", "t shirt": "spelling"}.items()
    assert [group.id for group in system.groups] == list(range(10))


def test_lists_and_candidates_become_one_system_with_an_id_for_each() -> None:
    first = TagVocabulary.from_names("first", ["dog", "grey", "dogs"])
    second = LabelSystem.parse("0: dogs | hound\n# Striped.\n7: zebra\n")
    found = [Candidate("zebra", 9, 0, ("a zebra",)), Candidate("traffic light", 5, 2, ("a traffic light",))]
    system = merged([first, second], found)
    assert [group.names[0].text for group in system.groups] == ["dog", "grey", "dogs", "zebra", "traffic light"]
    assert "hound" in names_of(system, 0)
    assert system.groups[3].above == ("# Striped.",)
    assert system.groups[4].above == ("# 5 to 7 captions, such as: a traffic light",)
    assert names_of(system, 4)["traffic light"] == "captions"
    assert names_of(system, 4)["traffic lights"] == "plural"
    assert LabelSystem.parse(system.text()) == system
    assert merged([system], found).text() == system.text(), "nothing is added twice"


def test_no_plural_is_made_up() -> None:
    system = label_system(TagVocabulary.from_names("same", ["moose", "sheep", "reindeer", "spacecraft", "goldfish"]))
    assert [names_of(system, each) for each in range(5)] == [
        {"moose": ""}, {"sheep": ""}, {"reindeer": ""}, {"spacecraft": ""}, {"goldfish": ""},
    ]  # fmt: skip


SYNSETS = {"synsets": {"n1": {"lemmas": ["crane"]}, "n2": {"lemmas": ["crane", "derrick"]},
                       "n3": {"lemmas": ["dog", "domestic_dog"]}}}  # fmt: skip


def test_wordnet_gives_synonyms_of_names_with_one_sense(tmp_path: Path) -> None:
    path = tmp_path / "wordnet.json"
    path.write_text(json.dumps(SYNSETS), encoding="utf-8")
    system = label_system(TagVocabulary.from_names("mine", ["crane", "dog"]), WordNet.load(path))
    assert names_of(system, 0) == {"crane": "", "cranes": "plural"}
    assert names_of(system, 1) == {"dog": "", "dogs": "plural", "domestic dog": "wordnet"}


def test_wordnets_own_files_say_which_sense_is_the_first(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(
        "  1 This software and database is provided\n"
        "00000010 05 n 02 dog 0 domestic_dog 0 000 | a pet\n"
        "00000020 06 n 02 dog 0 firedog 0 000 | holds logs\n",
        encoding="utf-8",
    )
    (tmp_path / "index.noun").write_text(
        "  1 This software and database is provided\n"
        "dog n 2 1 @ 2 1 00000010 00000020\n"
        "domestic_dog n 1 1 @ 1 0 00000010\n"
        "firedog n 1 0 1 0 00000020\n",
        encoding="utf-8",
    )
    wordnet = WordNet.load(tmp_path)
    assert wordnet.synonyms("dog") == ["domestic dog"]
    assert wordnet.synonyms("domestic dog") == ["dog"]
    assert wordnet.synonyms("firedog") == []
    assert wordnet.synonyms("cat") == []


@pytest.mark.parametrize("content", ["{", "[]", '{"synsets": {"n1": {}}}'])
def test_what_is_no_wordnet_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wordnet.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"wordnet\.json is not WordNet: .*give its folder or a JSON file"):
        WordNet.load(path)
    with pytest.raises(VocabularyError, match="is not WordNet"):
        WordNet.load(tmp_path / "none")

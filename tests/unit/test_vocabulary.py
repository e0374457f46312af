from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ram_core import TagVocabulary
from ram_core.errors import VocabularyError

SHARED = Path(os.environ.get("RAMQ_SHARED_DIR", Path(__file__).resolve().parents[2] / ".." / "shared"))
OFFICIAL = SHARED / "ram"
needs_official_lists = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official lists are not at hand")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def animals() -> TagVocabulary:
    return TagVocabulary(
        "animals", ("dog", "crane", "Egyptian cat", "Crane"), ("狗", "鹤", None, "吊车"), np.full(4, 0.5, np.float32)
    )


def test_lists_are_read_with_and_without_a_last_newline(tmp_path: Path) -> None:
    names = write(tmp_path, "names.txt", "dog\ncat\nbird")
    chinese = write(tmp_path, "zh.txt", "狗 \n \n鸟\n")
    thresholds = write(tmp_path, "thresholds.txt", "0.5\n1\n0.25\n")
    vocabulary = TagVocabulary.from_files(names, chinese, thresholds)
    assert vocabulary.names == ("dog", "cat", "bird")
    assert vocabulary.names_zh == ("狗", None, "鸟")
    assert vocabulary.thresholds.tolist() == [0.5, 1.0, 0.25]
    assert vocabulary.name == "names"


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffdog\r\ncat\r\n".encode())
    assert TagVocabulary.from_files(path).names == ("dog", "cat")


def test_without_a_file_of_thresholds_every_tag_has_the_default(tmp_path: Path) -> None:
    vocabulary = TagVocabulary.from_files(write(tmp_path, "n.txt", "dog\ncat"), default_threshold=0.25)
    assert vocabulary.thresholds.tolist() == [0.25, 0.25]


def test_lists_of_different_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    names = write(tmp_path, "names.txt", "dog\ncat\nbird")
    short = write(tmp_path, "zh.txt", "狗\n猫")
    with pytest.raises(VocabularyError, match=r"zh\.txt has 2 lines but .*names\.txt has 3 tags"):
        TagVocabulary.from_files(names, short)


@pytest.mark.parametrize(
    ("line", "complaint"), [("many", "is not a number"), ("1.5", "outside 0..1"), ("nan", "outside")]
)
def test_a_threshold_that_is_none_is_refused_with_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    names = write(tmp_path, "names.txt", "dog\ncat")
    thresholds = write(tmp_path, "t.txt", f"0.5\n{line}")
    with pytest.raises(VocabularyError, match=rf"t\.txt, line 2: .*{complaint}"):
        TagVocabulary.from_files(names, None, thresholds)


@pytest.mark.parametrize("text", ["", "\n\n", "  \n"])
def test_an_empty_list_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(VocabularyError, match=r"names\.txt is empty"):
        TagVocabulary.from_files(write(tmp_path, "names.txt", text))


def test_a_missing_list_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"nowhere\.txt does not exist"):
        TagVocabulary.from_files(tmp_path / "nowhere.txt")


def test_a_list_that_is_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(VocabularyError, match=r"names\.txt cannot be read as a UTF-8 list"):
        TagVocabulary.from_files(path)


def test_a_blank_line_among_the_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="no name for tag 1"):
        TagVocabulary.from_files(write(tmp_path, "names.txt", "dog\n\nbird"))


def test_no_tags_at_all_are_refused() -> None:
    with pytest.raises(VocabularyError, match="has no tags"):
        TagVocabulary.from_names("mine", [])


def test_a_tag_without_a_description_is_refused_by_name() -> None:
    with pytest.raises(VocabularyError, match="'cat' of vocabulary 'mine' has no description"):
        TagVocabulary.from_names("mine", ["dog", "cat"], descriptions={"dog": ["it barks"]})


def test_descriptions_follow_the_order_of_the_names() -> None:
    vocabulary = TagVocabulary.from_names(
        "mine", ["dog", "cat"], descriptions={"cat": ["it purrs", "it climbs"], "dog": ["it barks"]}
    )
    assert vocabulary.descriptions == (("it barks",), ("it purrs", "it climbs"))


def test_a_tag_is_assigned_strictly_above_its_threshold() -> None:
    vocabulary = TagVocabulary.from_names("mine", ["a", "b", "c"]).with_thresholds({2: 1.0})
    scores = np.array([[0.5, 0.51, 1.0], [0.6, 0.0, 0.9]], dtype=np.float32)
    assert vocabulary.assigned(scores).tolist() == [[False, True, False], [True, False, False]]
    sparse = vocabulary.assigned(np.array([0.9, 0.6], np.float32), np.array([2, 0], np.int32))
    assert sparse.tolist() == [False, True]
    assert vocabulary.never_assigned == (2,)


def test_thresholds_cannot_be_changed_in_place(animals: TagVocabulary) -> None:
    with pytest.raises(ValueError, match="read-only"):
        animals.thresholds[0] = 0.1


def test_a_threshold_for_an_unknown_id_is_refused(animals: TagVocabulary) -> None:
    with pytest.raises(VocabularyError, match="no tag 4"):
        animals.with_thresholds({4: 0.5})


def test_a_tag_is_found_by_name_in_either_language_or_by_id(animals: TagVocabulary) -> None:
    assert animals.resolve("  EGYPTIAN  cat ") == [2]
    assert animals.resolve("狗") == [0]
    assert animals.resolve("3") == [3]
    assert animals.resolve("4") == []
    assert animals.resolve("unicorn") == []


def test_a_shared_name_gives_every_tag_that_carries_it(animals: TagVocabulary) -> None:
    assert animals.resolve("crane") == [1, 3]


def test_a_name_made_of_digits_is_a_name_before_it_is_an_id() -> None:
    assert TagVocabulary.from_names("numbers", ["seven", "0"]).resolve("0") == [1]


def test_near_names_are_suggested_and_so_are_names_with_the_word_in_them(animals: TagVocabulary) -> None:
    assert animals.suggest("carne") == ["crane"]
    assert animals.suggest("cat") == ["Egyptian cat"]
    assert animals.suggest("qqq") == []


def test_the_hash_follows_all_that_changes_results(animals: TagVocabulary) -> None:
    same = TagVocabulary("other name", animals.names, animals.names_zh, animals.thresholds)
    chinese = TagVocabulary("x", animals.names, ("犬", *animals.names_zh[1:]), animals.thresholds)
    described = TagVocabulary("x", animals.names, animals.names_zh, animals.thresholds, (("it is",),) * 4)
    renamed = TagVocabulary("x", ("hound", *animals.names[1:]), animals.names_zh, animals.thresholds)
    moved = animals.with_thresholds({0: 0.6})
    assert animals.sha256 == same.sha256
    assert len({each.sha256 for each in (animals, chinese, described, renamed, moved)}) == 5


def test_synonyms_are_found_after_names_and_change_no_hash(animals: TagVocabulary) -> None:
    named = animals.with_synonyms({0: ["hound", "crane", " Hound ", "DOG", "犬"], 2: ["pharaoh's  cat"]})
    assert named.synonyms == (("hound", "crane", "犬"), (), ("pharaoh's cat",), ())
    assert named.sha256 == animals.sha256
    assert named.resolve("HOUND") == [0]
    assert named.resolve("犬") == [0]
    assert named.resolve("crane") == [1, 3], "a tag's own name comes first"
    assert named.with_thresholds({0: 0.7}).synonyms == named.synonyms
    assert animals.synonyms is None


def test_synonyms_that_fit_no_tag_are_refused(animals: TagVocabulary) -> None:
    with pytest.raises(VocabularyError, match="no tag 4"):
        animals.with_synonyms({4: ["hound"]})
    with pytest.raises(VocabularyError, match="'dog' has an empty synonym"):
        animals.with_synonyms({0: ["hound", "  "]})
    with pytest.raises(VocabularyError, match="synonyms for 1 tags"):
        TagVocabulary("x", animals.names, animals.names_zh, animals.thresholds, None, (("hound",),))


def test_an_unknown_vocabulary_name_lists_the_known_ones() -> None:
    with pytest.raises(VocabularyError, match="imagenet, ram, tag2text"):
        TagVocabulary.official("places")


def test_a_vocabulary_in_files_asks_for_its_folder() -> None:
    with pytest.raises(VocabularyError, match="models_dir"):
        TagVocabulary.official("ram")


@needs_official_lists
def test_the_official_ram_lists_keep_tags_with_one_chinese_name_apart() -> None:
    vocabulary = TagVocabulary.official("ram", OFFICIAL)
    assert len(vocabulary) == 4585
    assert len(vocabulary.never_assigned) == 10
    assert all(name == name.strip() for name in vocabulary.names_zh)
    shared = [name for name in set(vocabulary.names_zh) if vocabulary.names_zh.count(name) > 1]
    assert all(len(vocabulary.resolve(name)) > 1 for name in shared)
    assert sum(len(vocabulary.resolve(name)) for name in shared) >= 401


@pytest.mark.parametrize("place", [".", "ram", "ram_plus"])
def test_lists_are_found_beside_the_models_or_in_the_folder_of_one(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    write(folder, "ram_tag_list.txt", "dog\ncat")
    write(folder, "ram_tag_list_chinese.txt", "狗\n猫")
    write(folder, "ram_tag_list_threshold.txt", "0.5\n0.6")
    vocabulary = TagVocabulary.official("ram", tmp_path)
    assert vocabulary.name == "ram"
    assert vocabulary.names == ("dog", "cat")


@needs_official_lists
def test_tag2text_switches_off_the_seven_words_that_are_no_tags() -> None:
    vocabulary = TagVocabulary.official("tag2text", OFFICIAL)
    assert {vocabulary.names[i] for i in vocabulary.never_assigned} == {
        "quarter", "back", "two", "three", "four", "five", "one",
    }  # fmt: skip
    people = [i for i, value in enumerate(vocabulary.thresholds.tolist()) if value == pytest.approx(0.7)]
    assert [vocabulary.names[i] for i in people] == ["woman", "person", "man"]

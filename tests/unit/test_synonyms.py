"""Every alternative and every synonym of a tag names it, unless another tag has that name."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from ram_core.vocabulary import TagVocabulary
from storage.results.naming import OtherNames, alternatives
from storage.results.tags import Names, UnknownTagError
from storage.search.language.completion import partial
from tests.unit.test_tag_names import wide

TAGS = (
    ("cat/kitty", "猫/猫咪", ("feline", "Felis catus")),
    ("dog", "狗、犬", ("hound", "domestic dog")),
    ("hound", "猎犬/犬", ()),
    ("24/7", None, ()),
    ("café", "咖啡馆", ("coffee house/coffee shop",)),
)
NAMES = Names(
    1,
    tuple(name for name, _, _ in TAGS),
    tuple(name_zh for _, name_zh, _ in TAGS),
    (0.5,) * len(TAGS),
    tuple(synonyms for _, _, synonyms in TAGS),
)


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("cat/kitty", (0,)),
        ("Kitty", (0,)),
        (wide("KITTY"), (0,)),
        ("猫", (0,)),
        (" 猫咪 ", (0,)),
        ("FELINE", (0,)),
        ("felis\u3000catus", (0,)),
        ("狗", (1,)),
        ("hound", (2,)),  # a tag of its own, whatever it is a synonym of
        ("犬", (1, 2)),  # both, as with any name that tags share
        ("coffee shop", (4,)),
        (unicodedata.normalize("NFD", "CAFÉ"), (4,)),
        ("24/7", (3,)),
        ("3", (3,)),
    ],
)
def test_each_name_of_a_tag_finds_it_as_vocabularies_themselves_find_it(typed: str, ids: tuple[int, ...]) -> None:
    assert NAMES.find(typed) == ids
    thresholds = np.array(NAMES.thresholds, dtype=np.float32)
    vocabulary = TagVocabulary("made up", NAMES.names, NAMES.names_zh, thresholds, None, NAMES.synonyms)
    assert tuple(vocabulary.resolve(typed)) == ids


def test_parts_without_letters_are_no_names() -> None:
    assert alternatives("24/7") == alternatives("dog") == alternatives("and/") == ()
    assert alternatives(f"a / b{wide('/')}c") == ("a", "b", "c")
    with pytest.raises(UnknownTagError):
        NAMES.find("24")


def test_a_name_that_is_nearly_a_synonym_is_suggested() -> None:
    assert NAMES.near("felinne")[0] == "feline"
    assert NAMES.near("小猫咪")[0] == "猫咪"


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a kitty on a sofa", ((0,),)),
        ("two domestic dogs", ((1,),)),
        ("hounds", ((2,),)),
        ("一只小猫咪", ((0,),)),
        ("coffee shops by night", ((4,),)),
    ],
)
def test_texts_name_tags_by_their_other_names(text: str, terms: tuple[tuple[int, ...], ...]) -> None:
    assert NAMES.in_texts.mentioned(text).terms == terms


def test_a_text_of_words_that_say_nothing_names_no_tag() -> None:
    names = Names(1, ("on/off", "image"), (None, None), (0.5,) * 2, ((), ("picture", "the")))
    assert names.in_texts.mentioned("the picture on a wall").terms == ()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("ki", [(0, "kitty")]),
        ("ca", [(4, None), (0, None), *[]]),
        ("CATU", [(0, "Felis catus")]),
        ("猫咪", [(0, "猫咪")]),
        ("犬", [(1, "犬"), (2, "犬")]),
        ("ho", [(2, None), (1, "hound"), (4, "coffee house")]),
        ("house", [(4, "coffee house")]),
        ("zebra", []),
        (" ", []),
    ],
)
def test_completions_begin_so_and_name_the_synonym_that_does(typed: str, found: list[tuple[int, str | None]]) -> None:
    assert [tuple(each) for each in NAMES.others.beginning(typed, 10)] == found
    assert NAMES.others.beginning(typed, 1) == NAMES.others.beginning(typed, 10)[:1]


def test_many_names_are_completed_like_few() -> None:
    names = tuple(f"tag {number}" for number in range(3_000))
    many = OtherNames(names, (None,) * 3_000)
    assert [each.tag_id for each in many.beginning("tag 29", 4)] == [29, 290, 291, 292]
    assert [each.tag_id for each in many.beginning("2999", 4)] == [2999]


def test_a_completed_synonym_is_the_tag_in_the_query() -> None:
    written = partial("beach tag:kit", 13)
    assert written is not None
    assert written.with_tag("cat/kitty", written.phrases[0][0]).text == "beach tag:cat/kitty "

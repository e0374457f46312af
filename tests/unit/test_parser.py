"""The tags that texts name."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ram_core import TagVocabulary
from ram_core.labels import TagParser
from ram_core.labels.lemmas import Form, base_form, forms, plural_form

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = ROOT / "benchmarks" / "parse_captions.jsonl"
OFFICIAL = Path(os.environ.get("RAMQ_SHARED_DIR", ROOT / ".." / "shared")) / "ram"
needs_official_lists = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official lists are not at hand")

NAMES = (
    "cat", "dog", "hot dog", "couch", "sleep", "person", "woman", "leaf", "bus", "glasses", "playing chess", "guitar",
    "t-shirt", "icecream", "childs room", "taxi/limousine", "gray", "theater", "bear", "polar bear", "park", "sitting",
    "crane (bird)", "crane (machine)", "play football", "can", "beer", "up", "street", "car", "bicycle", "snow", "band",
    "roller skates", "salt and pepper shakers", "sign", "smoking", "hat", "sand", "beach", "camera", "photo",
)  # fmt: skip
CHINESE = {
    "cat": "猫", "dog": "狗", "hot dog": "热狗", "person": "人", "park": "公园", "car": "汽车/车", "street": "街道",
    "sleep": "睡眠",
}  # fmt: skip


@pytest.fixture(scope="module")
def parser() -> TagParser:
    plain = TagVocabulary(
        "mine", NAMES, tuple(CHINESE.get(name) for name in NAMES), np.full(len(NAMES), 0.5, np.float32)
    )
    return TagParser(plain.with_synonyms({NAMES.index("dog"): ["hound", "cat"], NAMES.index("cat"): ["tom cat"]}))


def named(parser: TagParser, text: str) -> dict[str, str]:
    """The tags that a text names, and the words that do."""
    return {tag.name: text[tag.start : tag.end] for tag in parser.parse(text)}


def test_a_tag_has_its_id_its_name_and_where_it_stands(parser: TagParser) -> None:
    assert parser.parse("A cat is sleeping on the sofa.") == [
        (0, "cat", 2, 5), (4, "sleep", 9, 17), (3, "couch", 25, 29),
    ]  # fmt: skip
    [tag] = parser.parse("cat")
    assert (tag.id, tag.name, tag.start, tag.end) == (0, "cat", 0, 3)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("hot dogs", ["hot dog"]),
        ("two hot-dogs and a HOTDOG", ["hot dog", "hot dog"]),
        ("dog, hot", ["dog"]),
        ("hot, dog", ["dog"]),
        ("polar bears", ["polar bear"]),
        ("a teddy bear", []),
        ("a rock band", ["band"]),
    ],
)
def test_compounds_hide_their_parts(parser: TagParser, text: str, tags: list[str]) -> None:
    assert [tag.name for tag in parser.parse(text)] == tags


def test_a_misleading_compound_that_is_no_tag_names_what_it_is() -> None:
    parser = TagParser(TagVocabulary.from_names("animals", ["dog", "bear", "chair", "rock"]))
    assert named(parser, "a hot dog beside a teddy bear") == {}
    assert named(parser, "a rocking chair") == {"chair": "chair"}


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("fallen leaves", "leaf"), ("Women at work", "woman"), ("many people", "person"), ("buses", "bus"),
        ("he slept", "sleep"), ("she sleeps", "sleep"), ("a man sits", "sitting"), ("they sat down", "sitting"),
        ("he plays chess", "playing chess"), ("they played football", "play football"),
        ("playing the guitar", "guitar"), ("a grey coat", "gray"), ("the theatre", "theater"), ("tshirts", "t-shirt"),
        ("T shirt", "t-shirt"), ("ice cream", "icecream"), ("a child's room", "childs room"),
        ("a child\u2019s room", "childs room"), ("the dog's tail", "dog"), ("a limousine", "taxi/limousine"),
        ("a roller skate", "roller skates"), ("salt & pepper shakers", "salt and pepper shakers"),
        ("a bike", "bicycle"), ("a tom cat", "cat"), ("hounds", "dog"), ("\uff43\uff41\uff54", "cat"),
        ("snow_day", "snow"),
    ],
)  # fmt: skip
def test_forms_spellings_and_synonyms_name_a_tag(parser: TagParser, text: str, tag: str) -> None:
    assert list(named(parser, text)) == [tag]


@pytest.mark.parametrize("text", ["a glass of water", "a parked van", "the category", "", "  \n", "…", "you can see"])
def test_words_that_only_look_like_a_tag_name_none(parser: TagParser, text: str) -> None:
    assert named(parser, text) == {}


def test_a_word_that_is_mostly_grammar_is_a_tag_where_it_is_a_thing(parser: TagParser) -> None:
    assert named(parser, "you can see a can of beer") == {"can": "can", "beer": "beer"}
    assert parser.parse("you can see a can of beer")[0].start == 14
    assert named(parser, "the hat is up") == {"hat": "hat", "up": "up"}
    assert named(parser, "up the street") == {"street": "street"}


def test_an_own_name_comes_before_a_synonym_of_another_tag(parser: TagParser) -> None:
    assert named(parser, "a cat") == {"cat": "cat"}


def test_names_that_differ_in_brackets_alone_are_named_together(parser: TagParser) -> None:
    assert [tag.id for tag in parser.parse("a crane")] == [NAMES.index("crane (bird)"), NAMES.index("crane (machine)")]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("an empty street with no people", ["street"]),
        ("a street without a car or a bus", ["street"]),
        ("the dog isn't sleeping on the couch", ["dog", "couch"]),
        ("the dog isn\u2019t sleeping", ["dog"]),
        ("not a cat but a dog", ["dog"]),
        ("not only a cat but a dog", ["cat", "dog"]),
        ("neither cats nor dogs on the beach", ["beach"]),
        ("a car-free street", ["street"]),
        ("a street free of cars", ["street"]),
        ("a beach without people, dogs or cars", ["beach"]),
        ("a woman without glasses sitting in the snow", ["woman", "sitting", "snow"]),
        ("no smoking sign", ["sign"]),
        ("the cat is not visible in this photo", ["photo"]),
        ("a beer instead of a hot dog", ["beer"]),
        ("nothing but sand", ["sand"]),
        ("no dogs, just a cat", ["cat"]),
        ("not without a hat", ["hat"]),
        ("no cat, no dog, a bear", ["bear"]),
    ],
)
def test_what_is_denied_is_left_out(parser: TagParser, text: str, tags: list[str]) -> None:
    assert [tag.name for tag in parser.parse(text)] == tags


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("一只猫和一只狗", ["cat", "dog"]),
        ("热狗", ["hot dog"]),
        ("街道上没有人", ["street"]),
        ("没有狗和猫的公园", ["park"]),
        ("猫在睡觉", ["cat", "sleep"]),
        ("红色的车", ["car"]),
        ("人民币", []),
        ("一只dog和cat", ["dog", "cat"]),
    ],
)
def test_chinese_text_is_parsed_by_the_chinese_names(parser: TagParser, text: str, tags: list[str]) -> None:
    assert [tag.name for tag in parser.parse(text)] == tags


TEXTS = st.lists(
    st.sampled_from(
        [*NAMES, *CHINESE.values(), "the", "no", "without", "is", "not", ",", ".", "-", "\u2019s", "and", "ß", "İ"]
    ),
    max_size=12,
).map(" ".join) | st.text(max_size=60)  # fmt: skip


@settings(max_examples=300)
@given(TEXTS)
def test_spans_lie_in_the_text_in_order_and_name_what_they_span(parser: TagParser, text: str) -> None:
    tags = parser.parse(text)
    assert all(0 <= tag.start < tag.end <= len(text) for tag in tags)
    assert [tag.start for tag in tags] == sorted(tag.start for tag in tags)
    for before, after in pairwise(tags):
        assert before.end <= after.start or (before.start, before.end) == (after.start, after.end)
    for tag in tags:
        assert tag.id in {other.id for other in parser.parse(text[tag.start : tag.end])}
        assert tag.name == NAMES[tag.id]


@settings(max_examples=200)
@given(TEXTS.filter(str.isascii))
def test_upper_and_lower_case_name_the_same(parser: TagParser, text: str) -> None:
    spans = [(tag.id, tag.start, tag.end) for tag in parser.parse(text)]
    for written in (text.lower(), text.upper(), text.title().replace("'S", "'s")):
        assert [(tag.id, tag.start, tag.end) for tag in parser.parse(written)] == spans


@settings(max_examples=200)
@given(st.lists(st.sampled_from([name for name in NAMES if name.isalpha()]), min_size=1, max_size=4))
def test_the_longest_name_wins_wherever_it_stands(words: list[str]) -> None:
    compound = " ".join(words)
    parser = TagParser(TagVocabulary.from_names("mine", [*dict.fromkeys([*words, "bus stop", f"{compound} thing"])]))
    [tag] = parser.parse(f"it is the {compound} thing")
    assert tag.name == f"{compound} thing"


def test_other_words_do_not_change_what_was_learnt(parser: TagParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ram_core.labels.parser._MOST_CACHED", 2)
    assert [named(parser, "a cat and two dogs") for _ in range(3)] == [{"cat": "cat", "dog": "dogs"}] * 3


def test_another_way_to_base_forms_can_be_given() -> None:
    none = TagParser(TagVocabulary.from_names("mine", ["dog"]), lambda word: [Form(word, is_verb=False)])
    assert named(none, "a dog, two dogs") == {"dog": "dog"}


def quality(parser: TagParser, captions: list[dict[str, object]]) -> tuple[float, float]:
    """Precision and recall."""
    right = extra = missed = 0
    for caption in captions:
        found = {tag.name.casefold() for tag in parser.parse(str(caption["text"]))}
        wanted = {name.casefold() for name in caption["tags"]}  # type: ignore[attr-defined]  # a list of names
        right, extra, missed = right + len(found & wanted), extra + len(found - wanted), missed + len(wanted - found)
    return right / (right + extra), right / (right + missed)


def labelled() -> list[dict[str, object]]:
    captions = [json.loads(line) for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    assert len(captions) >= 200
    assert len({caption["text"] for caption in captions}) == len(captions)
    return captions


def test_captions_labelled_by_hand_are_parsed_well() -> None:
    captions = [caption for caption in labelled() if caption["kind"] != "chinese"]
    names = sorted({name for caption in captions for name in caption["tags"]})  # type: ignore[attr-defined]
    precision, recall = quality(TagParser(TagVocabulary.from_names("captions", names)), captions)
    assert precision >= 0.97
    assert recall >= 0.97


@needs_official_lists
def test_captions_are_parsed_well_among_all_tags_of_ram() -> None:
    parser = TagParser(TagVocabulary.official("ram", OFFICIAL))
    for captions in (labelled(), [caption for caption in labelled() if caption["held_out"]]):
        precision, recall = quality(parser, captions)
        assert precision >= 0.95
        assert recall >= 0.95


@needs_official_lists
def test_every_name_of_ram_names_its_own_tag() -> None:
    vocabulary = TagVocabulary.official("ram", OFFICIAL)
    parser = TagParser(vocabulary)
    grammar = {"can", "may", "out", "up"}
    for tag_id, name in enumerate(vocabulary.names):
        if name not in grammar:
            assert tag_id in {tag.id for tag in parser.parse(f"this is the {name}.")}, name


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("dogs", "dog"), ("boxes", "box"), ("houses", "house"), ("glasses", "glass"), ("cherries", "cherry"),
        ("ties", "tie"), ("knives", "knife"), ("gloves", "glove"), ("tomatoes", "tomato"), ("shoes", "shoe"),
        ("firemen", "fireman"), ("children", "child"), ("bus", "bus"), ("grass", "grass"), ("this", "this"),
        ("running", "running"), ("cacti", "cactus"), ("grey", "gray"),
    ],
)  # fmt: skip
def test_the_base_of_a_noun_is_its_singular(word: str, base: str) -> None:
    assert base_form(word) == base


@pytest.mark.parametrize(
    ("word", "verb"),
    [
        ("running", "run"), ("riding", "ride"), ("caring", "care"), ("starring", "star"), ("staring", "stare"),
        ("singing", "sing"), ("dancing", "dance"), ("juggling", "juggle"), ("carried", "carry"), ("rolling", "roll"),
        ("stopped", "stop"), ("lying", "lie"), ("swum", "swim"), ("opened", "open"), ("kissing", "kiss"),
    ],
)  # fmt: skip
def test_the_likeliest_verb_comes_first(word: str, verb: str) -> None:
    assert next(form.base for form in forms(word) if form.is_verb) == verb


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("dog", "dogs"), ("fire truck", "fire trucks"), ("box", "boxes"), ("cherry", "cherries"), ("boy", "boys"),
        ("fireman", "firemen"), ("human", "humans"), ("child", "children"), ("tomato", "tomatoes"), ("knife", "knives"),
    ],
)  # fmt: skip
def test_nouns_have_plurals(noun: str, plural: str) -> None:
    assert plural_form(noun) == plural

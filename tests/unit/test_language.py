# ruff: noqa: RUF001  (full-width signs are what is tested)
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import UsageError
from storage.search.language import (
    AllOf,
    AnyOf,
    Expression,
    FieldTerm,
    NotOf,
    Parsed,
    QuerySyntaxError,
    RegionTerm,
    TagTerm,
    all_of,
    any_of,
    format,  # noqa: A004  (the inverse of parse)
    not_of,
    parse,
    pieces,
    pointer,
    wanted_tags,
)
from storage.search.language.lexer import FILTERS
from storage.search.views import SearchQuery, asking

DOG, CAT, BIRD = TagTerm("dog"), TagTerm("cat"), TagTerm("bird")

SENTENCES = [
    "a cat on a sofa",
    "a dog, a cat and a bird; or none?",
    "what's that: the women's T-shirt",
    "black-and-white photo of 3/4 of a well-known face",
    "a cat - on a sofa - or not",
    'a 27" monitor at 16:9, seen at 10:30',
    "http://example.org/a-b?c=d#e",
    "#sunset 5* & more @home, 100% $5",
    "--verbose",
    "沙发上的猫，还有狗",
    "注意：小心",
    "mind the gap: and the train",
]

TREES: list[tuple[str, Parsed]] = [
    ("", Parsed()),
    ("  ", Parsed()),
    ("a   cat\n on", Parsed("a cat on")),
    ("tag:beach", Parsed(where=TagTerm("beach"))),
    ('tag:"red boat"', Parsed(where=TagTerm("red boat"))),
    ('"red boat"', Parsed(where=TagTerm("red boat"))),
    ('" red boat "', Parsed(where=TagTerm("red boat"))),
    (r'"the \"red\" \\boat"', Parsed(where=TagTerm(r'the "red" \boat'))),
    ("#123", Parsed(where=TagTerm("123"))),
    ("tag:123", Parsed(where=TagTerm("123"))),
    ("-people", Parsed(where=NotOf(TagTerm("people")))),
    ('-"red boat"', Parsed(where=NotOf(TagTerm("red boat")))),
    ("NOT dog", Parsed(where=NotOf(DOG))),
    ("NOT NOT dog", Parsed(where=DOG)),
    ("dog OR cat", Parsed(where=AnyOf((DOG, CAT)))),
    ("dog AND cat", Parsed(where=AllOf((DOG, CAT)))),
    ("dog and cat or bird not", Parsed("dog and cat or bird not")),
    ("a dog OR cat", Parsed("a", AnyOf((DOG, CAT)))),
    ("dog OR cat AND bird", Parsed(where=AnyOf((DOG, AllOf((CAT, BIRD)))))),
    ("dog AND (cat OR bird)", Parsed(where=AllOf((DOG, AnyOf((CAT, BIRD)))))),
    ("(dog cat OR bird)", Parsed(where=AllOf((DOG, AnyOf((CAT, BIRD)))))),
    ("(dog (cat bird))", Parsed(where=AllOf((DOG, CAT, BIRD)))),
    ("(dog OR (cat OR bird))", Parsed(where=AnyOf((DOG, CAT, BIRD)))),
    ("-(dog OR cat)", Parsed(where=NotOf(AnyOf((DOG, CAT))))),
    ("dog OR NOT cat", Parsed(where=AnyOf((DOG, NotOf(CAT))))),
    ("dog OR-cat", Parsed(where=None, text="dog OR-cat")),
    ("(dog)(cat)", Parsed(where=AllOf((DOG, CAT)))),
    ("score:dog>0.8", Parsed(where=TagTerm("dog", 0.8))),
    ("dog>.8", Parsed(where=TagTerm("dog", 0.8))),
    ('"red boat">1', Parsed(where=TagTerm("red boat", 1.0))),
    ("(tag:dog>0.5 OR cat)", Parsed(where=AnyOf((TagTerm("dog", 0.5), CAT)))),
    ("dog>cat", Parsed("dog>cat")),
    ("archive:s3://holiday/2024", Parsed(where=FieldTerm("archive", "s3://holiday/2024"))),
    ("ARCHIVE:x", Parsed(where=FieldTerm("archive", "x"))),
    ('-prefix:"a b/"', Parsed(where=NotOf(FieldTerm("prefix", "a b/")))),
    (
        "after:2024-01-01 larger:2MB",
        Parsed(where=AllOf((FieldTerm("after", "2024-01-01"), FieldTerm("larger", "2MB")))),
    ),
    ("archive:a OR archive:b", Parsed(where=AnyOf((FieldTerm("archive", "a"), FieldTerm("archive", "b"))))),
    ("read:invoice*", Parsed(where=FieldTerm("read", "invoice*"))),
    ('-read:"give way" cat', Parsed("cat", NotOf(FieldTerm("read", "give way")))),
    ("read:AB-1234 OR read：小猫", Parsed(where=AnyOf((FieldTerm("read", "AB-1234"), FieldTerm("read", "小猫"))))),
    ('text:"read:x" read', Parsed("read:x read")),
    ("count:dog>=2", Parsed(where=RegionTerm("count", "dog", ">=", 2))),
    ('COUNT:"red boat"=0', Parsed(where=RegionTerm("count", "red boat", "=", 0))),
    (r'count:"a \"b\" >= 3"<1', Parsed(where=RegionTerm("count", 'a "b" >= 3', "<", 1))),
    ("-count：狗＞＝2", Parsed(where=NotOf(RegionTerm("count", "狗", ">=", 2)))),
    (
        "area:dog>20% count:16:9<=3",
        Parsed(where=AllOf((RegionTerm("area", "dog", ">", 0.2), RegionTerm("count", "16:9", "<=", 3)))),
    ),
    ("(area:dog<.5 OR cat)", Parsed(where=AnyOf((RegionTerm("area", "dog", "<", 0.5), CAT)))),
    ("a>=2 count area", Parsed("a>=2 count area")),
    ("like:12 generation:3 cat", Parsed("cat", None, 12, 3)),
    ("like:12 -like:57 NOT like:58 -like:57 cat", Parsed("cat", None, 12, unlike=(57, 58))),
    ("-like:57", Parsed(unlike=(57,))),
    ("－like:57 tag:cat", Parsed(None, TagTerm("cat"), unlike=(57,))),
    ('a text:"dog OR (cat" sofa', Parsed("a dog OR (cat sofa")),
    ("(16:9 OR x)", Parsed(where=AnyOf((TagTerm("16:9"), TagTerm("x"))))),
    ("狗 OR 猫", Parsed(where=AnyOf((TagTerm("狗"), TagTerm("猫"))))),
    ("海滩 （狗 OR 猫） －人", Parsed("海滩", AllOf((AnyOf((TagTerm("狗"), TagTerm("猫"))), NotOf(TagTerm("人")))))),
    ("“红 船” tag：狗 ＂猫＂ 「鸟」", Parsed(where=AllOf(tuple(map(TagTerm, ("红 船", "狗", "猫", "鸟")))))),
    ("狗＞0.5", Parsed(where=TagTerm("狗", 0.5))),
    (
        'beach (dog OR cat) -people "red boat" archive:holiday score:dog>0.8 after:2024-01-01',
        Parsed(
            "beach",
            AllOf(
                (
                    AnyOf((DOG, CAT)),
                    NotOf(TagTerm("people")),
                    TagTerm("red boat"),
                    FieldTerm("archive", "holiday"),
                    TagTerm("dog", 0.8),
                    FieldTerm("after", "2024-01-01"),
                )
            ),
        ),
    ),
]

MISTAKES: list[tuple[str, int, str]] = [
    ('cat "red boat', 4, "not closed"),
    ("cat)", 3, "no matching ("),
    ("a (cat", 2, "not closed"),
    ("a ()", 2, "are empty"),
    ("OR cat", 0, "OR needs a tag before it"),
    ("a read:", 7, "read: needs a value"),
    ("cat count:dog", 4, "count: takes a tag, a sign (>=, >, =, < or <=) and a number, such as count:dog>=2"),
    ("count:>=2", 0, "count: takes a tag"),
    ("count:", 6, "count: needs a value"),
    ('count:" ">=2', 6, "count: needs the name of a tag"),
    ("count:dog>=", 11, "count: compares with a whole number"),
    ("count:dog>=1.5", 11, "count: compares with a whole number"),
    ("count:dog>>2", 10, "count: compares with a whole number"),
    ("count:dog>=-1", 11, "count: compares with a whole number"),
    ("area:dog>2", 9, "area: compares with a share of the picture from 0 to 1, or up to 100%"),
    ("area:dog>101%", 9, "area:dog>20%"),
    ('area:"dog', 5, "not closed"),
    ("counts:dog>=2", 0, "did you mean count:dog>=2"),
    ("reads:give", 0, "did you mean read:give"),
    ("dog OR", 4, "OR needs a tag behind it"),
    ("dog AND OR cat", 4, "AND needs a tag behind it"),
    ("(dog OR) cat", 5, "OR needs a tag behind it"),
    ("cat NOT", 4, "NOT needs a tag behind it"),
    ("cat -OR", 5, "OR needs a tag before it"),
    ('""', 0, "empty"),
    ("tag:", 4, "tag: needs a value"),
    ("cat after: 2024", 10, "after: needs a value"),
    ("archve:x", 0, "did you mean archive:"),
    ("cat -tags:x", 5, "did you mean tag:"),
    ("score:dog", 6, "score:castle>0.8"),
    ("score:dog>=0.8", 6, "score:castle>0.8"),
    ("dog>1.5", 4, "from 0 to 1"),
    ('"dog">x', 6, "from 0 to 1"),
    ('archive:"a">0.5', 12, "only tags can have a score"),
    ("like:cat", 5, "number of an image"),
    ("like:0", 5, "number of an image"),
    ("generation:" + "9" * 30, 11, "number of a generation"),
    ("like:1 like:2", 7, "given twice"),
    ("cat OR -like:1", 8, "cannot be combined"),
    ("-like:1 OR cat", 1, "cannot be combined"),
    ("(-like:1)", 2, "cannot be combined"),
    ("-like:cat", 6, "number of an image"),
    (" ".join(f"-like:{n}" for n in range(1, 22)), 172, "at most 20 images"),
    ("(cat OR generation:1)", 8, "cannot be combined"),
    ("cat \0", 4, "not a text character"),
    ("cat \udc80", 4, "not a text character"),
    ("x" * 2001, 2000, "at most 2,000"),
    (" ".join(f"#{n}" for n in range(65)), 64 * 4 - 10, "at most 64"),
    ("-(a OR " * 9 + "b" + ")" * 9, 58, "16 deep"),
    ("(" * 900 + "cat" + ")" * 900, 64, "16 deep"),
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_plain_sentence_is_text_and_nothing_else(sentence: str) -> None:
    assert parse(sentence) == Parsed(" ".join(sentence.split()))
    assert format(parse(sentence)) == sentence


@pytest.mark.parametrize(("text", "parsed"), TREES)
def test_a_query_is_taken_apart(text: str, parsed: Parsed) -> None:
    assert parse(text) == parsed


@pytest.mark.parametrize(("text", "parsed"), TREES)
def test_what_was_taken_apart_is_put_together_again(text: str, parsed: Parsed) -> None:
    written = format(parsed)
    assert parse(written) == parsed
    assert format(parse(written)) == written


@pytest.mark.parametrize(("text", "at", "words"), MISTAKES)
def test_a_mistake_is_named_with_its_place(text: str, at: int, words: str) -> None:
    with pytest.raises(QuerySyntaxError) as raised:
        parse(text)
    assert (raised.value.at, words in str(raised.value)) == (at, True), raised.value
    assert "\n" not in str(raised.value)
    assert f"character {at + 1}:" in str(raised.value)


def test_a_term_knows_where_it_stands() -> None:
    parsed = parse('beach -"red boat" (tag:dog OR #12) archive:x')
    assert parsed.where is not None
    assert isinstance(parsed.where, AllOf)
    negated, either, archive = parsed.where.parts
    assert isinstance(negated, NotOf)
    assert isinstance(either, AnyOf)
    assert [part.at for part in (negated.part, *either.parts, archive) if isinstance(part, TagTerm | FieldTerm)] == [
        7,
        23,
        30,
        35,
    ]


def names() -> st.SearchStrategy[str]:
    odd = st.text(st.sampled_from('ab 狗-#>=<＝:"“「\\(（.0'), min_size=1, max_size=6)
    usual = st.sampled_from(["dog", "red boat", "OR", "NOT", "archve:x", "tag:x", "a>0.5", "text", "-", "--a", "16:9"])
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.one_of(odd, usual, st.text(characters, min_size=1, max_size=4)).map(str.strip).filter(bool)


def leaves() -> st.SearchStrategy[Expression]:
    tags = st.builds(TagTerm, names(), st.none() | st.floats(0, 1).map(abs))
    values = names() | names().map(lambda value: f" {value} ")
    signs = st.sampled_from([">=", ">", "=", "<", "<="])
    counts = st.builds(RegionTerm, st.just("count"), names(), signs, st.integers(0, 10**9 - 1).map(float))
    areas = st.builds(RegionTerm, st.just("area"), names(), signs, st.floats(0, 1).map(abs))
    return st.one_of(tags, st.builds(FieldTerm, st.sampled_from(FILTERS), values), counts, areas)


def joined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda parts: all_of(parts) or parts[0]),
        several.map(lambda parts: any_of(*parts)),
        inner.map(not_of),
    )


def queries() -> st.SearchStrategy[Parsed]:
    number = st.none() | st.integers(1, 2**63 - 1)
    words = st.lists(names(), max_size=3).map(lambda words: " ".join(" ".join(words).split()) or None)
    return st.builds(Parsed, words, st.none() | st.recursive(leaves(), joined, max_leaves=8), number, number)


@given(queries())
@settings(max_examples=500)
def test_every_tree_has_a_text_that_says_it(parsed: Parsed) -> None:
    written = format(parsed)
    assert parse(written) == parsed
    assert format(parse(written)) == written


_BITS = [
    "(",
    ")",
    '"',
    "-",
    " ",
    "OR",
    "AND",
    "NOT",
    "tag:",
    "score:",
    "count:",
    "area:dog",
    ">=",
    "2%",
    "like:",
    "a",
    "狗",
    ">0.5",
    ">",
    "#1",
    "\\",
    "：",
    "”",
]


@given(st.lists(st.sampled_from(_BITS), max_size=30).map("".join) | st.text(max_size=50))
@settings(max_examples=1000)
def test_no_text_does_more_than_be_refused(text: str) -> None:
    parsed, error = None, None
    try:
        parsed = parse(text)
    except QuerySyntaxError as refusal:
        error = refusal
    if error is not None:
        assert 0 <= error.at <= len(text)
        assert pointer(text, error).splitlines()[-1].strip() == "^"
    if parsed is not None:
        assert parse(format(parsed)) == parsed
        assert all(parse(format(piece.rest)) == piece.rest for piece in pieces(parsed))


def test_a_pointer_stands_below_its_character_however_wide_those_before_it_are() -> None:
    error = UsageError("here")
    error.at = 3
    assert pointer("狗 (x", error) == "狗 (x\n    ^"
    assert pointer("e\u0301 (x", error) == "e\u0301 (x\n  ^"
    assert pointer("a\nb(x", error) == "a b(x\n   ^"


def test_a_pointer_into_a_long_text_shows_the_part_that_matters() -> None:
    text = "word " * 300 + "OR"
    with pytest.raises(QuerySyntaxError) as raised:
        parse(text)
    first, second = pointer(text, raised.value).splitlines()
    assert len(first) < 80
    assert first[second.index("^") :] == "OR"


def test_each_piece_of_a_query_can_be_dropped() -> None:
    parsed = parse('a beach (dog OR cat) -people "red boat" score:dog>0.8 like:3')
    assert [(piece.label, piece.is_not, format(piece.rest)) for piece in pieces(parsed)] == [
        ("a beach", False, '(dog OR cat) -people "red boat" score:dog>0.8 like:3'),
        ("dog OR cat", False, 'a beach -people "red boat" score:dog>0.8 like:3'),
        ("people", True, 'a beach (dog OR cat) "red boat" score:dog>0.8 like:3'),
        ("red boat", False, "a beach (dog OR cat) -people score:dog>0.8 like:3"),
        ("score:dog>0.8", False, 'a beach (dog OR cat) -people "red boat" like:3'),
        ("like image 3", False, 'a beach (dog OR cat) -people "red boat" score:dog>0.8'),
    ]


def test_the_tags_that_explain_a_hit_are_those_that_are_not_excluded() -> None:
    where = parse("dog (cat OR -bird) NOT (fish OR ant) archive:x tag:dog").where
    assert [term.name for term in wanted_tags(where)] == ["cat", "dog"]


def test_a_text_narrows_a_search_that_has_options_already() -> None:
    base = SearchQuery(tags=("dog",), archive="s3://a")
    asked = asking(base, "beach -people generation:2")
    assert asked == SearchQuery("beach", tags=("dog",), archive="s3://a", where=NotOf(TagTerm("people")), generation=2)
    assert asking(base, None) == base
    assert asking(SearchQuery(like=3), "like:3").like == 3
    with pytest.raises(UsageError, match="contradict each other"):
        asking(SearchQuery(like=3), "like:4")


def test_the_language_is_there_at_once() -> None:
    code = "import sys, storage.search.language; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"sqlalchemy", "numpy", "pydantic"} & set(done.stdout.split()) == set()


def documented() -> tuple[list[str], str]:
    """The forms of the table in docs/search.md, and the mistake that it shows."""
    page = (Path(__file__).parents[2] / "docs/search.md").read_text(encoding="utf-8")
    section = page.partition("## The query language")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \| ", section, re.MULTILINE)
    return [form for row in rows for form in re.findall(r"`([^`]+)`", row)], section.partition("```console\n$ ")[2]


def test_every_documented_form_is_understood_and_only_the_first_is_mere_text() -> None:
    forms, _ = documented()
    assert len(forms) > 25
    read = {form: parse(form) for form in forms}
    mere_text = [form for form, parsed in read.items() if parsed == Parsed(parsed.text)]
    assert mere_text == ["a castle by the sea", "text:OR", 'text:"castle OR (palace"']
    assert all(parse(format(parsed)) == parsed for parsed in read.values())


def test_the_documented_mistake_is_shown_as_documented() -> None:
    _, shown = documented()
    query = "beach (castle OR"
    with pytest.raises(QuerySyntaxError) as raised:
        parse(query)
    assert shown.startswith(f"ramq search --strict '{query}'\n{pointer(query, raised.value)}\nramq: {raised.value}\n")

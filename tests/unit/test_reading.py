"""What a person types is always read: tags and filters where they name something, words everywhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import NotFoundError
from storage.results.tags import UnknownTagError
from storage.search.language import FieldTerm, NotOf, Parsed, QuerySyntaxError, TagTerm, format, parse  # noqa: A004
from storage.search.language.parser import MAX_CHARACTERS, Setting
from storage.search.language.reading import MAX_NOTES, clean, read
from storage.search.language.tree import AllOf, AnyOf, Expression

KNOWN = {"castle", "palace", "red boat", "5-pointed star"}


def check(item: Expression | Setting) -> None:  # noqa: C901  (a case for each kind)
    """Know four tags, archive 1 and image 7."""
    match item:
        case Setting(_, number):
            if number != 7:
                raise NotFoundError(f"there is no image {number}")
        case TagTerm(name):
            if name.lower() not in KNOWN:
                raise UnknownTagError(name, ["castle"] if name == "castel" else [])
        case FieldTerm("archive", value):
            if value != "1":
                raise NotFoundError(f"there is no archive {value}")
        case FieldTerm("after", value):
            if value != "2024-01-01":
                raise QuerySyntaxError(0, "after: takes a date")
        case NotOf(part):
            check(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                check(part)


def text_of(typed: str) -> str | None:
    return read(typed, check)[0].text


@pytest.mark.parametrize(
    "typed",
    [
        "A peacock (a male peafowl).",
        "A “Fuji” apple.",
        "A 17\" screen and a 5' fence",
        "cats AND dogs, together",
        "a bus OR a train",
        "DO NOT ENTER",
        "NOT a cat",
        "a cat -- and a dog -- asleep",
        "temperature of -5 degrees",
        "men OR women?",
        "smile :) and frown :(",
        "16:9 or 4:3",
        "see https://example.org/a(b)?c=d",
        "Job: carpenter",
        "after: the party",
        "f(x) = (x + 1)(x - 1)",
        "((((",
        "))))",
        "OR",
        "AND AND AND",
        "NOT",
        '"',
        '" unfinished',
        "“never closed",
        "archive:nowhere",
        "after:soon",
        "like:12",
        "score:castle>2",
        "castle>x",
        "a (castle OR dog) b",
        "tag:",
        "archve:1",
        "(5) items",
        "🐈 on a 🛋️",
        "猫\uff08不是狗\uff09",
        "\\",
        "a\u202eb",
    ],
)
def test_prose_is_searched_as_it_stands(typed: str) -> None:
    parsed, _ = read(typed, check)

    assert parsed == Parsed(" ".join(typed.split()))


@pytest.mark.parametrize(
    "typed",
    [
        "castle palace",
        '"red boat" by the sea',
        "a lake (castle OR palace) -palace archive:1 after:2024-01-01",
        "castle AND NOT palace",
        "tag:castle score:palace>0.5 like:7",
        'text:"castle OR (dog" castle',
        '"5-pointed star"',
    ],
)
def test_a_query_that_names_what_there_is_is_read_as_the_language_says(typed: str) -> None:
    parsed, notes = read(typed, check)

    assert (parsed, notes) == (parse(typed), [])


@pytest.mark.parametrize("typed", ["((((", 'text:"never closed', '" unfinished', "A4", "a lake -- still"])
def test_plain_text_has_no_notes(typed: str) -> None:
    assert read(typed, check)[1] == []


def test_what_can_be_read_narrows_beside_what_cannot() -> None:
    parsed, notes = read('boats (dog OR cat) near "red boat" archive:1 (', check)

    assert parsed == Parsed("boats (dog OR cat) near (", parse('"red boat" archive:1').where)
    assert [note.text for note in notes] == ['Searched as words: (dog OR cat). Unknown tag "dog".']


def test_an_unknown_tag_behind_a_minus_sign_is_left_out_of_the_words() -> None:
    parsed, notes = read("a castle by the sea -castel", check)

    assert parsed == Parsed("a castle by the sea")
    (note,) = notes
    assert note.text == '-castel excludes nothing. Unknown tag "castel".'
    assert note.suggestions == ("castle",)
    assert note.line.endswith('Unknown tag "castel". Did you mean castle?')


def test_notes_are_few_however_much_was_typed() -> None:
    _, notes = read(" ".join(f'"x{number}"' for number in range(200)), check)

    assert len(notes) == MAX_NOTES
    assert notes[-1].text == f"{200 - MAX_NOTES + 1} more parts were searched as words."


def test_a_text_is_cut_and_made_readable() -> None:
    assert clean("a\0b\ud800c") == ("a b c", [])
    text, (note,) = clean("x" * (MAX_CHARACTERS + 1))
    assert len(text) == MAX_CHARACTERS
    assert "first 2,000 characters" in note.text


_WORDS = ("OR", "AND", "NOT", "tag:", "archive:1", "like:7", "score:", "castle", "a", " ")
_Signs = st.sampled_from([*'()"-:>#“”\uff08\uff09', *_WORDS])
_Plain = st.characters(exclude_characters='()"-:>#\\', exclude_categories=["Cs"], max_codepoint=0x2FF)


@given(st.one_of(st.text(max_size=MAX_CHARACTERS), st.lists(_Signs, max_size=200).map("".join)))
def test_any_text_is_read_and_its_link_says_the_same(typed: str) -> None:
    text, _ = clean(typed)
    parsed, _ = read(text, check)

    assert parse(format(parsed)) == parsed


@given(st.text(_Plain, max_size=80))
def test_text_without_signs_is_kept(typed: str) -> None:
    if {"OR", "AND", "NOT"} & set(typed.split()):
        return
    text, _ = clean(typed)

    assert text_of(text) == (" ".join(text.split()) or None)


@pytest.mark.parametrize("part", ["(", "a OR ", "NOT (", '"x" ', "-(", "castle AND ", "tag:x ", '("', "score:x>9 "])
def test_reading_looks_at_each_character_a_bounded_number_of_times(part: str) -> None:
    calls = 0

    def counting(item: Expression | Setting) -> None:
        nonlocal calls
        calls += 1
        check(item)

    read((part * MAX_CHARACTERS)[:MAX_CHARACTERS], counting)

    assert calls <= MAX_CHARACTERS

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest
from starlette.datastructures import Headers

from ramq.web.deps import query_string
from ramq.web.pages.completion import FIELDS
from ramq.web.render import duration, file_name, moment, number, plain, size, visible
from ramq.web.security import is_loopback, is_same_origin
from ramq.web.tokens import Tokens
from ramq.web.uploads import Pictures, picture_type
from storage.errors import NotFoundError
from storage.search.language import lexer
from storage.search.views import SearchQuery


def test_markup_in_a_key_is_escaped() -> None:
    assert "<script>" not in visible("<script>alert('x')</script>")
    assert "&lt;script&gt;" in visible("<script>")


@pytest.mark.parametrize(
    ("key", "label"),
    [("a\nb", "\\n"), ("a\x07b", "\\x07"), ("a\u202eb", "U+202E"), ("a\u200bb", "U+200B"), ("a\udcffb", "U+DCFF")],
)
def test_a_hidden_character_of_a_key_is_shown_by_its_number(key: str, label: str) -> None:
    html = visible(key)

    assert key[1] not in html
    assert f">{label}</span>" in html
    assert key[1] not in plain(key)


def test_letters_of_every_script_and_emoji_stay_as_they_are() -> None:
    for key in ("日本語/写真.jpg", "κόσμος", "семья", "👨\u200d👩\u200d👧.png"):
        assert key in visible(key)
        assert plain(key) == key


def test_every_field_of_the_language_has_a_hint_in_the_completions() -> None:
    assert set(FIELDS) == set(lexer.FIELDS)


def test_a_name_is_the_last_part_of_a_key() -> None:
    assert file_name("2024/summer/cat.jpg") == "cat.jpg"
    assert file_name("folder/") == "folder"
    assert file_name("/") == "/"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_and_sizes_have_as_many_digits_as_say_something() -> None:
    assert [number(value) for value in (1234567, 0, 1234.5, 12.34, 1.234)] == [
        "1,234,567",
        "0",
        "1,234",
        "12.3",
        "1.23",
    ]
    assert [size(value) for value in (0, 999, 1500, 31_457_280, 5_000_000_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "31 MB",
        "5.0 TB",
    ]


def test_a_moment_is_shown_in_utc() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC).astimezone(timezone(timedelta(hours=2)))

    assert "2026-07-01 12:00:00 UTC" in moment(summer)


def test_the_query_string_holds_all_of_a_query_and_nothing_empty() -> None:
    query = SearchQuery(
        text="a cat & a dog",
        like=7,
        tags=("cat", "猫"),
        any_tags=("sofa",),
        not_tags=("dog",),
        archive="s3://photos",
        job=3,
        prefix="2024/#1",
        threshold=0.5,
        relevance=0.0,
        cursor="x=1",
    )

    assert parse_qsl(query_string(query)) == [
        ("q", "a cat & a dog"),
        ("tag", "cat"),
        ("tag", "猫"),
        ("any", "sofa"),
        ("not", "dog"),
        ("like", "7"),
        ("archive", "s3://photos"),
        ("job", "3"),
        ("prefix", "2024/#1"),
        ("threshold", "0.5"),
        ("relevance", "0"),
        ("cursor", "x=1"),
    ]
    assert query_string(SearchQuery()) == ""
    assert query_string(SearchQuery(threshold=0.0)) == "threshold=0"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "ramq.localhost"]
)
def test_this_machine_goes_by_these_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "example.org", "localhost.example.org", "127.0.0.1.example.org", "10.0.0.1"]
)
def test_other_machines_go_by_these_names(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost:8000"}, False),
        ({"origin": "http://localhost:8000"}, True),
        ({"origin": "https://localhost:8000"}, True),
        ({"origin": "http://localhost:9000"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
    ],
)
def test_a_browser_tells_where_a_request_comes_from(headers: dict[str, str], is_ours: bool) -> None:
    assert is_same_origin(Headers({"host": "localhost:8000", **headers})) is is_ours


def test_a_session_is_not_the_token_and_needs_one_of_ours() -> None:
    tokens = Tokens(("first", "second"))

    session = tokens.session_of("second")

    assert session is not None
    assert "second" not in session
    assert session != tokens.session_of("first")
    assert tokens.session_of("third") is None
    assert tokens.session_of("") is None
    assert not Tokens(()).are_set


def test_the_oldest_pictures_are_forgotten_first() -> None:
    pictures = Pictures(max_bytes=20)
    first, second = pictures.put(b"1" * 10), pictures.put(b"2" * 10)
    pictures.get(first)

    third = pictures.put(b"3" * 10)

    assert pictures.get(first) == b"1" * 10
    assert pictures.get(third) == b"3" * 10
    with pytest.raises(NotFoundError, match="upload it again"):
        pictures.get(second)


def test_a_picture_larger_than_the_memory_is_kept_alone() -> None:
    pictures = Pictures(max_bytes=5)

    assert pictures.get(pictures.put(b"1" * 10)) == b"1" * 10


def test_only_pictures_are_given_back_as_pictures() -> None:
    assert picture_type(b"\xff\xd8\xff\xe0....") == "image/jpeg"
    assert picture_type(b"RIFF....WEBPVP8 ") == "image/webp"
    with pytest.raises(NotFoundError):
        picture_type(b"<svg onload=alert(1)>")

"""Sensitive text is replaced, whatever stands around it, and nothing else moves."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ram_core.reading.sensitive import KINDS, MASK, mask

DIGITS = st.text("0123456789", min_size=12, max_size=18)
AROUND = st.text("abc XYZ .,;\n", max_size=20)


def with_check_digit(digits: str) -> str:
    """Append the digit that makes a card number right, written down from the definition: double every second one."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if i % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


def iban(country: str, account: str) -> str:
    number = "".join(str(int(each, 36)) for each in f"{account}{country}00")
    return f"{country}{98 - int(number) % 97:02d}{account}"


def in_groups(text: str, separator: str, size: int = 4) -> str:
    return separator.join(text[i : i + size] for i in range(0, len(text), size))


@pytest.mark.parametrize(
    ("kind", "text", "secret"),
    [
        ("card", "Visa 4111 1111 1111 1111 exp 12/28", "4111 1111 1111 1111"),
        ("card", "amex 378282246310005.", "378282246310005"),
        ("card", "table 7 5500-0000-0000-0004", "5500-0000-0000-0004"),
        ("iban", "IBAN DE89 3704 0044 0532 0130 00 BIC", "DE89 3704 0044 0532 0130 00"),
        ("iban", "NL91ABNA0417164300", "NL91ABNA0417164300"),
        ("iban", "misread DE89 3704 0O44 0532 0130 0O", "DE89 3704 0O44 0532 0130 0O"),
        ("email", "write to jo.doe+x@mail.example.org!", "jo.doe+x@mail.example.org"),
        ("email", "info @ example.com", "info @ example.com"),
        ("phone", "call +49 (30) 90 18-20 now", "+49 (30) 90 18-20"),
        ("phone", "Tel. 030/901820", "030/901820"),
        ("phone", "(555) 123-4567 or 2", "(555) 123-4567"),
        ("phone", "on 01.02.2026 030 901820", "030 901820"),
        ("password", "WLAN-Passwort: abc 12 3\nWelcome", "abc 12 3"),
        ("password", "Password hunter2 please", "hunter2"),
        ("password", "Gastpasswort =\nx1y2", "x1y2"),
        ("password", "the password is swordfish", "swordfish"),
        ("password", "PIN 1234", "1234"),
        ("password", "密码\uff1aabc123", "abc123"),
    ],
)
def test_what_is_sensitive_is_replaced_by_its_own_kind_alone(kind: str, text: str, secret: str) -> None:
    assert mask(text, [kind], []) == text.replace(secret, "".join("\n" if c == "\n" else MASK for c in secret))
    assert mask(text, [other for other in KINDS if other != kind], []).count(MASK) < len(secret)


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # a wrong check digit
        "2026-11-28 and 01.02.2026",
        "pin the map to the wall",
        "GB82 is a road",
        "1984 was 42 years ago",
        "@home at 7.30",
        "the compass points north",
        "",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert mask(text, KINDS, []) == text


@given(st.text(), st.lists(st.sampled_from(KINDS)))
def test_the_length_stays_and_so_do_lines(text: str, kinds: list[str]) -> None:
    masked = mask(text, kinds, [])
    assert [len(line) for line in masked.split("\n")] == [len(line) for line in text.split("\n")]
    assert all(new in {old, MASK} for new, old in zip(masked, text, strict=True))


@given(DIGITS, AROUND, AROUND, st.sampled_from(["", " ", "-"]), st.integers(3, 6))
def test_every_card_number_is_found(digits: str, before: str, behind: str, separator: str, size: int) -> None:
    number = in_groups(with_check_digit(digits), separator, size)
    masked = mask(f"{before} {number} {behind}", ["card"], [])
    assert masked == f"{before} {MASK * len(number)} {behind}"


@given(st.sampled_from(["DE", "FR", "PL", "GB"]), DIGITS, AROUND, st.sampled_from(["", " ", "-"]))
def test_every_iban_is_found(country: str, account: str, before: str, separator: str) -> None:
    number = in_groups(iban(country, account), separator)
    assert mask(f"{before} {number}, and", ["iban"], []) == f"{before} {MASK * len(number)}, and"


@given(st.from_regex(r"\+[1-9][0-9]{0,2} [0-9]{2,4}[ /-][0-9]{4,7}", fullmatch=True), AROUND, AROUND)
def test_every_international_number_is_found(number: str, before: str, behind: str) -> None:
    assert mask(f"{before} {number}x{behind}", ["phone"], []) == f"{before} {MASK * len(number)}x{behind}"


@given(st.sampled_from(["password", "Passwort", "PIN", "Kennwort"]), st.from_regex(r"\S{1,12}", fullmatch=True), AROUND)
def test_everything_behind_a_word_for_a_secret_and_a_colon_is_found(word: str, secret: str, before: str) -> None:
    assert mask(f"{before} {word}: {secret}\nend", ["password"], []).endswith(f"{word}: {MASK * len(secret)}\nend")


@given(st.text("ab1 ", max_size=30))
def test_patterns_of_one_s_own_are_replaced(text: str) -> None:
    assert mask(text, [], [re.compile("a+"), re.compile("x*")]) == text.replace("a", MASK)


def test_an_unknown_kind_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"bankcard, iris; known kinds: card, iban, email, phone, password"):
        mask("", ["iris", "card", "bankcard"], [])

"""Replacing what should not be kept of a text: card numbers, bank accounts, addresses, telephone numbers, passwords.

Text that was read from a picture may be misread. So shapes are matched generously where that does little harm: a
masked invoice number is better than a telephone number that stays. What has check digits must pass them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MASK = "█"

Span = tuple[int, int]

# Every pattern starts behind a character that it cannot start with, so that a long text is searched in one pass.
_DIGITS = re.compile(r"(?<![\dA-Za-z])\d(?:[ \-\u00a0\n]?\d){12,}+")
_GROUP = re.compile(r"\d+")
_IBAN = re.compile(r"(?<![A-Za-z\d])[A-Z]{2}\d{2}(?:[ \-\u00a0]?[A-Z\d]){11,30}(?![A-Za-z\d])")
_IN_FOURS = re.compile(r"[A-Z]{2}\d{2}(?:[ \-\u00a0][A-Z\d]{4}){2,7}(?:[ \-\u00a0][A-Z\d]{1,4})?")
_EMAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]++ ?@ ?[\w\-]+(?:\.[\w\-]+)+")
_PHONE = re.compile(r"(?<![\w+])(?:\+|\(?0|\(?[2-9]\d{2}\)?[ .\-]\d{3}[ .\-]\d{4}(?!\d))[\d ()/.\-\u00a0]*+")
_DATE = re.compile(
    r"(?<![\d./\-])(?:\d{1,2}([./\-])\d{1,2}\1(?:\d{4}|\d{2})|\d{4}([./\-])\d{1,2}\2\d{1,2})(?![\d./\-]*\d)"
)
_SECRET = re.compile(
    r"(?P<word>pass(?:word|wort|wd|code|phrase)|kennwort|contraseña|mot de passe|hasło|密码|口令"
    r"|(?<!\w)(?:pwd|senha|pin(?:[ \-]?code)?|puk))(?!\w)"
    r"(?P<colon>[ \t]*(?:[:=\uff1a]|\bist?\b)[ \t]*\n?)?[ \t]*\n?[ \t]*",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"\S+")
_REST = re.compile(r"[^\n]+")


def mask(text: str, kinds: Sequence[str], patterns: Sequence[re.Pattern[str]]) -> str:
    """Replace every sensitive part of a text by as many ``█``. Its length and its line breaks stay.

    Args:
        text: any text.
        kinds: names out of ``KINDS``.
        patterns: whatever else should be replaced.

    Raises:
        ValueError: a kind is unknown; the message lists those that there are.
    """
    if unknown := sorted(set(kinds) - _FINDERS.keys()):
        raise ValueError(f"unknown kind of sensitive text: {', '.join(unknown)}; known kinds: {', '.join(KINDS)}")
    characters = list(text)
    spans = [span for kind in KINDS if kind in kinds for span in _FINDERS[kind](text)]
    spans += [match.span() for pattern in patterns for match in pattern.finditer(text)]
    for start, end in spans:
        characters[start:end] = (each if each == "\n" else MASK for each in text[start:end])
    return "".join(characters)


def _cards(text: str) -> Iterator[Span]:
    """Find 13 to 19 digits in groups whose last digit is right (Luhn); other groups may stand beside them."""
    for run in _DIGITS.finditer(text):
        groups = list(_GROUP.finditer(text, run.start(), run.end()))
        for i, first in enumerate(groups):
            digits = ""
            for last in groups[i:]:
                digits += last[0]
                if len(digits) > 19:
                    break
                if len(digits) >= 13 and _is_luhn(digits):
                    yield first.start(), last.end()


def _is_luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(each), 10)) for each in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    """Find IBANs (ISO 13616): printed in groups of four, or with right check digits. Words may stand behind them."""
    for match in _IBAN.finditer(text):
        end = max((each for each in _ends(match) if _is_iban(text[match.start() : each])), default=None)
        printed = _IN_FOURS.match(text, match.start(), match.end())
        if ends := [each for each in (end, printed and printed.end()) if each is not None]:
            yield match.start(), max(ends)


def _ends(match: re.Match[str]) -> Iterator[int]:
    """Yield where the last group of a run may end, from its 15th character on."""
    for i in range(match.start() + 15, match.end() + 1):
        if i == match.end() or not match.string[i].isalnum():
            yield i


def _is_iban(text: str) -> bool:
    plain = re.sub(r"[^A-Z\d]", "", text)
    return 15 <= len(plain) <= 34 and int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


def _phones(text: str) -> Iterator[Span]:
    """Find 7 digits or more that start with a plus or a zero, and numbers as they are written in North America."""
    # Dates have such digits too. Letters in their place end a number.
    for match in _PHONE.finditer(_DATE.sub(lambda date: "x" * len(date[0]), text)):
        said = match[0].rstrip(" (/.-\u00a0")
        if sum(each.isdigit() for each in said) >= 7:
            yield match.start(), match.start() + len(said)


def _emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        yield match.span()


def _secrets(text: str) -> Iterator[Span]:
    """Find what follows a word for a secret: the rest of the line behind a colon, otherwise the next word.

    ``PIN`` is also an ordinary word, so without a colon only a word with a digit counts behind it.
    """
    for match in _SECRET.finditer(text):
        behind = (_REST if match["colon"] else _TOKEN).match(text, match.end())
        if behind is None:
            continue
        is_ordinary = match["word"].lower().startswith(("pin", "puk")) and not match["colon"]
        if not is_ordinary or any(each.isdigit() or each == MASK for each in behind[0]):
            yield behind.span()


_FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "card": _cards,
    "iban": _ibans,
    "email": _emails,
    "phone": _phones,
    "password": _secrets,
}
KINDS = tuple(_FINDERS)
"""The kinds that ``mask`` knows."""

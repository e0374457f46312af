"""Helpers for typed text: folding of names, ids, text that PostgreSQL cannot store, secrets; and plurals."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import product
from math import prod

# NUL, and halves of surrogate pairs: invalid UTF-8 on a command line arrives as those.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")

_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):[^@/\s]+@")


def fold(name: str) -> str:
    """Bring names that a person would call equal to one form (case, width, white space).

    ``ram_core`` folds the names of its vocabularies in the same way. It may not import this package.
    """
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


# Format characters, variation selectors, and letters and marks without a shape. The tags behind a black flag stay: they
# tell the flags of countries apart.
_FLAG = re.compile("(\U0001f3f4[\U000e0020-\U000e007f]+)|(.)", re.DOTALL)
_WITHOUT_SHAPE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}


@cache
def unseen() -> str:
    """Return all characters that nobody sees, but for the tags that may be a part of a flag."""
    return "".join(filter(_is_unseen, map(chr, (*range(0x1FFFF), 0xE0001, *range(0xE0100, 0xE01F0)))))


def without_unseen(text: str) -> str:
    """Return ``text`` without the characters that nobody sees: joiners, soft hyphens, direction marks, selectors."""
    if text.isascii():
        return text
    return _FLAG.sub(lambda found: found[1] or ("" if _is_unseen(found[2]) else found[2]), text)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character in _WITHOUT_SHAPE


def fold_seen(name: str) -> str:
    """Bring what looks equal to one form: as ``fold``, without the characters that nobody sees."""
    return fold(without_unseen(fold(without_unseen(name))))


_MOST_FORMS = 64


def other_forms(key: str) -> list[str]:
    """Return the other ways in which systems may write a key or a path: letters composed (NFC) or decomposed (NFD).

    Each part between slashes may have its own form, as a folder of one system with files of another has. People cannot
    see the difference. Of a key with very many such parts only the forms that are the same throughout are returned.
    """
    if key.isascii():
        return []
    parts = [
        list(dict.fromkeys((part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))))
        for part in key.split("/")
    ]
    if prod(map(len, parts)) > _MOST_FORMS:
        return [form for form in (unicodedata.normalize("NFC", key), unicodedata.normalize("NFD", key)) if form != key]
    return [form for each in product(*parts) if (form := "/".join(each)) != key]


def id_in(text: str, below: int = 2**63) -> int | None:
    """Return the id that ``text`` writes in digits; None for other text, and for an id not below ``below``."""
    if not text.isdecimal():
        return None
    try:
        number = int(text)
    except ValueError:  # Python parses at most 4,300 digits
        return None
    return number if number < below else None


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return for example ``1 image`` or ``1,234 images``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store ``text``. Otherwise it cannot be a name there."""
    return not _NOT_STORABLE.search(text)


def without_unstorable(text: str) -> str:
    """Return ``text`` with a space for each character that PostgreSQL cannot store."""
    return _NOT_STORABLE.sub(" ", text)


def visible(text: str) -> str:
    """Return ``text`` with control, format and undecodable characters written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def without_secrets(text: str) -> str:
    """Return ``text`` with the password of every URL replaced by ``***``."""
    return _URL_PASSWORD.sub(r"\g<scheme>:***@", text)

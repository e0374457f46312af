"""Helpers for typed text: folding of names, ids, text that PostgreSQL cannot store, secrets; and plurals."""

from __future__ import annotations

import re
import unicodedata

# NUL, and halves of surrogate pairs: invalid UTF-8 on a command line arrives as those.
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")

_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):[^@/\s]+@")


def fold(name: str) -> str:
    """Bring names that a person would call equal to one form (case, width, white space).

    ``ram_core`` folds the names of its vocabularies in the same way. It may not import this package.
    """
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


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


def without_secrets(text: str) -> str:
    """Return ``text`` with the password of every URL replaced by ``***``."""
    return _URL_PASSWORD.sub(r"\g<scheme>:***@", text)

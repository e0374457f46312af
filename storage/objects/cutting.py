"""Where to cut a range of keys in two, so that two workers list it: looked for with a few requests for a single key.

Any cut is correct. Of the characters at one place of the keys, the middle one between that of the last listed key and
the greatest one that comes later is taken, at the first place where keys that come later differ.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from storage.objects.pages import may_be_paged

if TYPE_CHECKING:
    from collections.abc import Callable

LAST = "\U0010ffff"
"""Greater than every other character, so ``text + LAST`` is after all keys that begin with ``text``."""

MOST_CHARACTERS = 200
"""Length of cuts. Longer keys may be stored under a shortened name, and share it."""

_SIGNS = [chr(code) for code in range(0x21, 0x7F)]


class DisorderedError(Exception):
    """The answers do not have the order of bytes: such a listing is not cut."""


def cut_between(first_after: Callable[[str], str | None], prefix: str, after: str, until: str | None) -> str | None:
    """Return a string between two keys with keys after it, or None if none was found.

    About a dozen keys are asked for.

    Args:
        first_after: returns the first key after a string; None: there is none.
        prefix: all keys begin with it.
        after: the last key that was listed.
        until: the end of the range; None: there is no limit.

    Raises:
        DisorderedError: a key is not after the string that was asked for. Also errors of ``first_after``.
    """

    def has_keys(cut: str) -> bool:
        key = first_after(cut)
        if key is not None and key <= cut:
            raise DisorderedError
        return key is not None and (until is None or key <= until)

    # The first place where a later key has another character than the last one listed: the later the place, the fewer
    # keys share what is before it, and the more come after them.
    low, high = len(prefix), min(len(after), MOST_CHARACTERS)
    if low >= high or not has_keys(after[:high] + LAST):
        return None
    while low + 1 < high:
        middle = (low + high) // 2
        if has_keys(after[:middle] + LAST):
            high = middle
        else:
            low = middle
    stem, sign = after[: high - 1], after[high - 1]
    signs = [each for each in _SIGNS if each > sign]
    least, most = 0, len(signs)  # keys come after the first `least` of them, but not after the last
    while least < most:
        middle = (least + most) // 2
        if has_keys(stem + signs[middle]):
            least = middle + 1
        else:
            most = middle
    # Not the sign alone: a server that keeps folders lists nothing in a folder of that name after it.
    cut = stem + (signs[(least - 1) // 2] if least > 1 else sign) + LAST
    return cut if _is_good(cut) and (until is None or cut < until) else None


def cut_in_folders(keys_in: Callable[[str], list[str]], prefix: str, after: str, until: str | None) -> str | None:
    """Return the middle one of the keys that come next in the highest folder that has more; None: no folder has.

    Args:
        keys_in: returns the files and the folders (ending in ``/``) in a folder, in order. Also its errors are raised.
        prefix: the listed folder, without a slash at its end; empty: all.
        after: the last key that was listed.
        until: the end of the range; None: there is no limit.
    """
    top = f"{prefix}/" if prefix else ""
    names = after[len(top) :].split("/")[:-1] if after.startswith(top) else []
    for above in itertools.accumulate((f"{name}/" for name in names), initial=top):
        inside = [key for key in keys_in(above) if key > after and (until is None or key < until)]
        if inside:
            chosen = inside[len(inside) // 2]
            return chosen if _is_good(chosen) else None
    return None


def _is_good(cut: str) -> bool:
    """Return whether keys that belong together stay in one range.

    Very long keys may share a shortened one. The further pages of a file are missing if the file is.
    """
    names = (cut[:end] for end in range(1, len(cut) + 1))
    return len(cut) <= MOST_CHARACTERS + 1 and not any(may_be_paged(name) and cut <= f"{name}/page-:" for name in names)

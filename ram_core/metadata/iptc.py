"""Data sets of IPTC-IIM, record 2.

Source: IPTC-NAA Information Interchange Model 4.2.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ram_core.metadata.values import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TITLE, KEYWORD, DATE, TIME, CREATOR, RIGHTS, DESCRIPTION = 5, 25, 55, 60, 80, 116, 120

MOST_DATA_SETS = 5_000
_MARK = 0x1C
_HEADER_BYTES = 5
_EXTENDED = 0x8000
_ENVELOPE, _APPLICATION = 1, 2
_CHARACTER_SET, _UTF8 = 90, b"\x1b%G"


def data_sets(raw: bytes) -> Mapping[int, Sequence[str]]:
    """Return the texts of each data set of record 2, in their order. What follows damage is left out."""
    found: dict[int, list[str]] = defaultdict(list)
    is_utf8, at = False, 0
    for _ in range(MOST_DATA_SETS):
        if at + _HEADER_BYTES > len(raw) or raw[at] != _MARK:
            break
        record, number, size = raw[at + 1], raw[at + 2], int.from_bytes(raw[at + 3 : at + 5])
        at += _HEADER_BYTES
        if size & _EXTENDED:  # the length of the length follows
            width = size & ~_EXTENDED
            size = int.from_bytes(raw[at : at + width])
            at += width
        value = raw[at : at + size]
        if len(value) < size:
            break
        at += size
        if (record, number) == (_ENVELOPE, _CHARACTER_SET):
            is_utf8 = value == _UTF8
        elif record == _APPLICATION:
            found[number].append(value.decode("utf-8", "replace") if is_utf8 else decoded(value))
    return found

"""Words in the names of files: finding the rows whose key has one behind its last slash.

A word is a run of letters, a run of digits, or a run of characters of a script without spaces (Chinese, Japanese,
Thai). So ``IMG_2034.jpg`` and ``img2034.JPG`` have the words ``img``, ``2034`` and ``jpg``. Case does not count, nor
does whether letters are composed (NFC) or decomposed (NFD). A word of a script without spaces is found inside longer
ones.

There is no index of these words. All keys are walked, as bytes in NumPy, and what was found is kept.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from storage.words import is_unspaced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.rows import KeyColumn

BLOCK_BYTES = 4 * 2**20
"""Of keys, which are walked at once."""

_SLASH, _OUTSIDE = ord("/"), 0
_LETTER, _DIGIT, _UNIT, _OTHER = "wdu "
_RUN = re.compile(f"{_LETTER}+|{_DIGIT}+|{_UNIT}+")
_ASCII_RUN = re.compile("[a-z]+|[0-9]+", re.IGNORECASE)
_LETTERS: Final = np.isin(
    np.arange(256), np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
)
_DIGITS: Final = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_FIRST_NOT_ASCII = 0x80


def words_in(text: str) -> list[str]:
    """Return the words of a text or a name as they are written, composed."""
    text = unicodedata.normalize("NFC", text)
    if text.isascii():
        return _ASCII_RUN.findall(text)
    return [text[found.start() : found.end()] for found in _RUN.finditer("".join(map(_class_of, text)))]


def rows_named(keys: KeyColumn, word: str, *, is_beginning: bool = False) -> NDArray[np.uint32]:
    """Return the rows in whose file name a word stands, ascending.

    Args:
        keys: of all rows.
        word: one of ``words_in``.
        is_beginning: whether longer words that begin so will do.
    """
    forms = [_forms(character) for character in unicodedata.normalize("NFC", word)]
    offsets, last = keys.offsets, len(keys.offsets) - 1
    found: list[NDArray[np.int64]] = []
    row = 0
    while row < last:
        end = int(np.searchsorted(offsets, offsets[row] + BLOCK_BYTES))
        end = min(max(end, row + 1), last)
        found.append(row + _rows_in(keys.blob, offsets[row : end + 1], word, forms, is_beginning=is_beginning))
        row = end
    return np.concatenate(found).astype(np.uint32) if found else np.empty(0, dtype=np.uint32)


def _rows_in(
    blob: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    word: str,
    forms: list[tuple[bytes, ...]],
    *,
    is_beginning: bool,
) -> NDArray[np.int64]:
    """Return the rows of a block, counted from 0."""
    first = int(offsets[0])
    length = int(offsets[-1]) - first
    # Behind the block there is room for the longest form, so that no position is outside.
    block = np.zeros(length + max(len(form) for each in forms for form in each) + 1, dtype=np.uint8)
    block[:length] = blob[first : first + length]
    starts, ends = _places(block, length, forms)
    rows = np.searchsorted(offsets - first, starts, side="right") - 1
    key_ends = (offsets - first)[rows + 1]
    slashes = np.append(np.flatnonzero(block[:length] == _SLASH), length)
    is_inside = (ends <= key_ends) & (slashes[np.searchsorted(slashes, starts)] >= key_ends)
    starts, ends, rows, key_ends = starts[is_inside], ends[is_inside], rows[is_inside], key_ends[is_inside]
    before = np.where(starts > (offsets - first)[rows], block[starts - 1], _OUTSIDE)
    behind = np.where(ends < key_ends, block[ends], _OUTSIDE)
    begins, may_begin = _whole(before, _class_of(word[0]))
    if not is_beginning:
        ends_here, may_end = _whole(behind, _class_of(word[-1]))
        begins, may_begin = begins & ends_here, may_begin & may_end
    has, may_have = np.zeros((2, len(offsets) - 1), dtype=np.bool_)
    has[rows[begins]] = may_have[rows[may_begin]] = True
    # Beside a letter that is not ASCII, only the whole name says whether the word ends there.
    wanted = word.casefold()
    for row in np.flatnonzero(may_have & ~has).tolist():
        key = block[offsets[row] - first : offsets[row + 1] - first].tobytes()
        has[row] = _has(key, wanted, is_beginning=is_beginning)
    return np.flatnonzero(has)


def _places(
    block: NDArray[np.uint8], length: int, forms: list[tuple[bytes, ...]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the word begins and ends, in any of its forms."""
    starts = ends = np.empty(0, dtype=np.int64)
    for number, of_character in enumerate(forms):
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for form in of_character:
            begin, at, rest = starts, ends, form
            if number == 0:
                begin, rest = np.flatnonzero(block[:length] == form[0]), form[1:]
                at = begin + 1
            for byte in rest:
                is_it = block[at] == byte
                begin, at = begin[is_it], at[is_it] + 1
            found.append((begin, at))
        starts, ends = np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])
    return starts, ends


def _whole(neighbours: NDArray[np.uint8], of: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether a word of a class ends beside each of these bytes, and whether it may."""
    if of == _UNIT:
        everywhere = np.ones(len(neighbours), dtype=np.bool_)
        return everywhere, everywhere
    may_end = ~(_DIGITS if of == _DIGIT else _LETTERS)[neighbours]
    return may_end & (neighbours < _FIRST_NOT_ASCII), may_end


def _has(key: bytes, wanted: str, *, is_beginning: bool) -> bool:
    name = key.rpartition(b"/")[2].decode(errors="surrogateescape")
    words = [each.casefold() for each in words_in(name)]
    if is_unspaced(wanted[0]):
        return any(wanted in each for each in words)
    return any(each.startswith(wanted) for each in words) if is_beginning else wanted in words


@lru_cache(maxsize=1_000)
def _forms(character: str) -> tuple[bytes, ...]:
    """Return how a composed character may be written in keys: in upper or lower case, composed or decomposed."""
    cases = {character, character.lower(), character.upper(), character.casefold(), character.upper().lower()}
    written = {unicodedata.normalize(form, each) for each in cases for form in ("NFC", "NFD")}
    return tuple(sorted(each.encode(errors="surrogateescape") for each in written))


@lru_cache(maxsize=10_000)
def _class_of(character: str) -> str:
    if is_unspaced(character):
        return _UNIT
    kind = unicodedata.category(character)[0]
    return _LETTER if kind in "LM" else _DIGIT if kind == "N" else _OTHER

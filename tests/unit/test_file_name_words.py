"""Words in the names of files: what is one, and that walking the bytes of keys finds the same as reading each name."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.index import names
from storage.index.columns import Keys
from storage.index.names import rows_named, words_in


def keys_of(written: list[bytes]) -> Keys:
    offsets = np.concatenate([[0], np.cumsum([len(key) for key in written], dtype=np.int64)]).astype(np.int64)
    order = np.array(sorted(range(len(written)), key=written.__getitem__), dtype=np.uint32)
    return Keys(offsets, np.frombuffer(b"".join(written), dtype=np.uint8), order)


def found(written: list[str], word: str, *, is_beginning: bool = False) -> list[str]:
    rows = rows_named(keys_of([key.encode() for key in written]), word, is_beginning=is_beginning)
    return [written[row] for row in rows.tolist()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IMG_2034.jpg", ["IMG", "2034", "jpg"]),
        ("P1010234", ["P", "1010234"]),
        ("my beach (2)", ["my", "beach", "2"]),
        ("cafe\u0301-1", ["caf\u00e9", "1"]),
        ("海边beach01", ["海边", "beach", "01"]),
        ("_-.", []),
    ],
)
def test_a_word_is_a_run_of_letters_or_of_digits(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_words_stand_in_the_name_alone_and_whole() -> None:
    written = [
        "beach.jpg",
        "a/Beach-2.JPG",
        "a/my beach04",
        "beach/01.jpg",
        "beachfront.jpg",
        "a/onbeach",
        "beaché.jpg",
    ]
    assert found(written, "BEACH") == ["beach.jpg", "a/Beach-2.JPG", "a/my beach04"]
    assert found(written, "beach", is_beginning=True) == [*written[:3], "beachfront.jpg", "beaché.jpg"]
    assert found(["IMG_2034.jpg", "IMG20345.jpg", "x2034y/a"], "2034") == ["IMG_2034.jpg"]
    assert found(["ab", "c"], "abc") == [], "no key ends in the next one"


def test_case_and_composition_do_not_count_in_any_script() -> None:
    written = [
        "CAFÉ.jpg",
        "cafe\u0301.jpg",
        "café_1.jpg",
        "cafe.jpg",
        "cafés.jpg",
        "Ёж.png",
        "ЁЖ2.png",
        "去海边.jpg",
    ]
    for word in ("café", "CAFE\u0301", "Café"):
        assert found(written, word) == written[:3]
    assert found(written, "cafe") == ["cafe.jpg"]
    assert found(written, "ёж") == ["Ёж.png", "ЁЖ2.png"]
    assert found(written, "海") == found(written, "海边") == ["去海边.jpg"]


alphabet = st.sampled_from("aAbéÉ12海_/. ё")
texts = st.text(alphabet, max_size=8).map(lambda text: unicodedata.normalize("NFC", text))


@settings(max_examples=300, deadline=None)
@given(
    written=st.lists(st.tuples(texts, st.sampled_from(["NFC", "NFD"])), max_size=12),
    words=texts.map(words_in).filter(bool),
    is_beginning=st.booleans(),
)
def test_walking_bytes_finds_what_reading_each_name_finds(
    written: list[tuple[str, str]], words: list[str], is_beginning: bool
) -> None:
    keys = [unicodedata.normalize(form, text).encode() for text, form in written]
    expected = [row for row, key in enumerate(keys) if names._has(key, words[0].casefold(), is_beginning=is_beginning)]
    with pytest.MonkeyPatch.context() as patch:
        for block in (1, 16, names.BLOCK_BYTES):
            patch.setattr(names, "BLOCK_BYTES", block)
            assert rows_named(keys_of(keys), words[0], is_beginning=is_beginning).tolist() == expected

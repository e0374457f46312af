"""What people type for tags: how names are compared, what is near one that is unknown, and which texts are ids."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from ram_core.vocabulary import TagVocabulary
from storage.results.tags import Names, UnknownTagError
from storage.texts import id_in, is_storable

TAGS = (
    ("dog", "狗"),
    ("café", "咖啡馆"),
    ("red boat", "红船"),
    ("T-shirt", "T恤"),
    ("crane", "鹤"),
    ("crane", "起重机"),
    ("Straße", " 街道 "),  # stored before files were cleaned
    ("7", None),
)
NAMES = Names(1, tuple(name for name, _ in TAGS), tuple(name_zh for _, name_zh in TAGS), (0.5,) * len(TAGS))


def wide(text: str) -> str:
    """As a Chinese keyboard may write it: with full-width letters and digits."""
    return text.translate({number: number + 0xFEE0 for number in range(0x21, 0x7F)})


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("DOG", (0,)),
        (wide("dog"), (0,)),
        (unicodedata.normalize("NFD", "Café"), (1,)),
        (" red   boat", (2,)),
        ("red\u3000boat", (2,)),
        ("t恤", (3,)),
        (wide("T恤"), (3,)),
        (wide("CRANE"), (4, 5)),
        ("STRASSE", (6,)),
        ("街道", (6,)),
        (wide("7"), (7,)),
        ("3", (3,)),
    ],
)
def test_a_name_is_found_however_it_is_encoded_as_vocabularies_themselves_find_it(
    typed: str, ids: tuple[int, ...]
) -> None:
    assert NAMES.find(typed) == ids
    vocabulary = TagVocabulary("made up", NAMES.names, NAMES.names_zh, np.array(NAMES.thresholds, dtype=np.float32))
    assert tuple(vocabulary.resolve(typed)) == ids


def test_a_name_that_is_written_so_is_meant_before_those_that_are_only_alike() -> None:
    composed, parted = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    names = Names(1, (composed, parted, "dog", "DOG", wide("dog")), (None,) * 5, (0.5,) * 5)
    assert (names.find(composed), names.find(parted)) == ((0,), (1,))
    assert names.find("Dog") == (2, 3)
    assert names.find(wide("cafe") + "\u0301") == (0, 1)


@pytest.mark.parametrize(
    ("typed", "near"),
    [("dgo", "dog"), (wide("dgo"), "dog"), ("小狗", "狗"), ("咖啡店", "咖啡馆"), ("起重", "起重机"), ("恤", "T恤")],
)
def test_an_unknown_tag_is_refused_with_near_names_in_either_language(typed: str, near: str) -> None:
    with pytest.raises(UnknownTagError, match=rf"Did you mean {near}[,?]"):
        NAMES.find(typed)


def test_one_or_two_letters_are_like_no_name() -> None:
    assert NAMES.near("do") == []
    assert NAMES.near("T") == []
    with pytest.raises(UnknownTagError, match="ramq vocab add"):
        NAMES.find("do")


@pytest.mark.parametrize("typed", ["8", pytest.param("9" * 5000, id="long"), "", " ", "a\0b", "\udce9"])
def test_what_is_neither_a_name_nor_an_id_is_an_unknown_tag(typed: str) -> None:
    with pytest.raises(UnknownTagError, match="Unknown tag"):
        NAMES.find(typed)


def test_an_id_is_in_digits_and_below_what_there_can_be() -> None:
    assert [id_in(text) for text in ("0", "0012", wide("12"))] == [0, 12, 12]
    assert id_in(str(2**63 - 1)) == 2**63 - 1
    assert [id_in(text) for text in ("", "-1", "²", "1.0", " 1", str(2**63), "9" * 5000)] == [None] * 7
    assert [id_in(text, below=4) for text in ("3", "4")] == [3, None]


def test_what_is_no_unicode_or_has_a_nul_is_in_no_database() -> None:
    assert all(map(is_storable, ("", "é/狗\n\U0001f600.jpg", "\ufffe")))
    assert not any(map(is_storable, ("a\0", "\udce9.jpg", "\ud83d\ude00")))

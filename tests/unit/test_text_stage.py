"""What is masked of a text before it is stored, and that this is part of what made a result."""

from __future__ import annotations

import numpy as np
import pytest

from ram_core.reading.results import Line, Reading
from storage.errors import UsageError
from tests.services.null_reader import EVERYWHERE, NullReader
from workers.stages.text import Mask, TextStage


def reading(*lines: str) -> Reading:
    return Reading(tuple(Line(text, 0.9, EVERYWHERE) for text in lines), is_cut=False)


def texts(masked: Reading) -> list[str]:
    return [line.text for line in masked.lines]


def test_kinds_and_a_pattern_are_masked_also_over_lines() -> None:
    mask = Mask(["password", "card"], r"case \d+")
    found = mask(reading("Password:", "swordfish", "4111 1111 1111 1111", "case 17 of May", "no secret"))
    assert texts(found) == ["Password:", "█████████", "███████████████████", "███████ of May", "no secret"]
    assert [line.polygon for line in found.lines] == [EVERYWHERE] * 5


def test_what_stands_below_a_word_and_over_two_lines_is_masked_and_a_pattern_means_lines() -> None:
    mask = Mask(["password", "card"], r"^INV-\d+$")
    assert texts(mask(reading("password", "hunter2"))) == ["password", "███████"]
    assert texts(mask(reading("4111 1111", "1111 1111"))) == ["█████████", "█████████"]
    assert texts(mask(reading("header", "INV-123", "see INV-123"))) == ["header", "███████", "see INV-123"]


def test_nothing_is_masked_unless_asked() -> None:
    whole = reading("4111 1111 1111 1111")
    assert Mask([], None)(whole) is whole


def test_wrong_settings_say_which_and_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"RAMQ_MASK_TEXT: unknown kind .* cardz; known kinds: card"):
        Mask(["cardz"], None)
    with pytest.raises(UsageError, match="RAMQ_MASK_PATTERN is not a regular expression"):
        Mask([], "(")


def test_results_that_are_masked_otherwise_are_another_generation() -> None:
    reader = NullReader()
    stages = [
        TextStage(reader, Mask(*masked))  # type: ignore[arg-type]  # it has what is used
        for masked in ([[], None], [["card"], None], [["email", "card"], None], [["card"], "x"])
    ]
    assert len({stage.spec.fingerprint for stage in stages}) == len(stages)
    assert stages[0].spec.fingerprint == reader.spec.fingerprint
    assert stages[2].spec.preprocessing == "null; masked: card, email"
    (found,) = stages[3].run([np.zeros((4, 4, 3), np.uint8)], [None])
    assert texts(found)[0].startswith("word ")

"""The tutorial about learning, line by line, and what it claims between the lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ramq.demo_photos import fetched_photographs
from tests.documents import DOCS, Typed, typed
from tests.services.missing import missing
from tests.services.newcomer import Newcomer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]

PYRAMIDS = ("bentPyramid", "greatPyramidOfGiza", "meidumPyramid", "redPyramid", "GizahPyramids")

NEEDS_WEIGHTS = "ramq train"
"""From here on, the tutorial takes weights that nobody has here."""


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    if len(fetched_photographs()) < 50:
        missing("the photographs of the demonstration are not here: run `python tests/photographs.py`")
    person = Newcomer(tmp_path)
    yield person
    person.leave()


def test_the_tutorial_goes_through_the_whole_loop_and_back(newcomer: Newcomer) -> None:
    lines = typed((DOCS / "tutorial-learning.md").read_text(encoding="utf-8"))
    [training] = [number for number, one in enumerate(lines) if one.line.startswith(NEEDS_WEIGHTS)]
    said = Said(newcomer, lines[:training])
    animals = said.until("ramq search tag:animal")
    assert "rocket.jpg" in animals
    assert "redPyramid" in animals
    assert "dropped     none" in said.until("ramq dataset show photos")
    generated = said.until("ramq dataset generate")
    assert "photos@2  generate  done" in generated
    lost = said.until("ramq dataset diff photos@2 photos@3")
    assert "0 labels added" in lost
    assert "animal" in lost
    shown = said.until("ramq dataset show photos")
    assert "outlier" in shown
    waiting = said.until("ramq dataset review photos animal")
    rows = [line for line in waiting.splitlines() if "outlier" in line or "contradicted" in line]
    assert "chelsea.png" in rows[0], "the least certain come first"
    assert "rocket.jpg" in waiting
    assert "redPyramid" in waiting
    animals = said.until("ramq search tag:animal")
    assert "rocket.jpg" not in animals, "an answer counts at once"
    rocket = said.until("ramq dataset show photos --image")
    assert "removed" in rocket
    tried = said.until("ramq teach pyramid")
    assert "Nothing was changed" in tried
    applied = said.until("ramq teach pyramid")
    assert "Without reading a picture" in applied
    compared = said.until("ramq generations compare 1 2")
    assert "the tags of 5 of them differ" in " ".join(compared.split())
    found = said.until("ramq search tag:pyramid")
    assert all(name in found for name in PYRAMIDS)
    judged = said.until("ramq dataset evaluate taught")
    assert "pyramid" in judged
    assert "Mean average precision" in judged
    animals = said.until("ramq search tag:animal")
    assert "rocket.jpg" not in animals, "what people said counts whatever generation is in use"
    said.rest()


class Said:
    """Lines that are typed in order, and what was said to them."""

    def __init__(self, newcomer: Newcomer, lines: list[Typed]) -> None:
        self._newcomer, self._left = newcomer, lines
        self.last = ""

    def until(self, start: str) -> str:
        """Type the lines up to the next one that begins like this, and return what was said to that."""
        while self._left:
            one = self._left.pop(0)
            self.last = self._newcomer.type(one, here=True)
            if one.line.startswith(start):
                return self.last
        pytest.fail(f"the tutorial has no further line {start!r}")

    def rest(self) -> None:
        """Type what is left."""
        for one in self._left:
            self._newcomer.type(one, here=True)

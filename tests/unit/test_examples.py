"""The examples do what they say, on photographs."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.demo_photos import installed_photographs
from tests.services.missing import missing

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png")


def test_the_example_of_the_library_tags_and_searches_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = [path for path in installed_photographs() if path.name in NAMES]
    if len(photographs) < len(NAMES):
        missing("the photographs of scikit-image are not installed: install the extra `dev`")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in photographs:
        shutil.copy(path, folder)
    example = ROOT / "examples" / "library.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(folder), str(tmp_path / "cache")])
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert "Egyptian cat" in next(line for line in printed.splitlines() if line.startswith("chelsea.png:"))
    assert "nearest to `a cat`: chelsea.png" in printed
    assert printed.count("\n") == len(NAMES) + 2

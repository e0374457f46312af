"""The examples do what they say, on photographs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.demo_photos import installed_photographs
from tests.services.missing import missing

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png")


def test_the_example_of_the_library_tags_and_searches_photographs(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    photographs = [path for path in installed_photographs() if path.name in NAMES]
    if len(photographs) < len(NAMES):
        missing("the photographs of scikit-image are not installed: install the extra `dev`")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in photographs:
        shutil.copy(path, folder)
    cache = with_embeddings(tmp_path / "data") / "cache"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "library.py"), str(folder), str(cache)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "chelsea.png: Egyptian cat" in done.stdout
    assert "nearest to `a cat`: chelsea.png" in done.stdout
    assert done.stdout.count("\n") == len(NAMES) + 2

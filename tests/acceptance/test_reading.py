"""Words in pictures, from files to hits: real weights, a real worker process, the command line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lettering import sheet
from tests.photographs import photographs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_words_in_pictures_are_read_found_and_shown(run_process: Callable[..., object], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    sheet(["GIVE WAY", "to oncoming traffic"], size=48).save(folder / "sign.jpg", quality=90)
    lines = ["Invoice No. 2024-118", "Total: 1,250.00 EUR", "Card 4111 1111 1111 1111"]
    sheet(lines, size=40).save(folder / "invoice.png")
    for photograph in photographs(2)[:2]:
        shutil.copy(photograph, folder)

    def ramq(*words: str) -> str:
        done = run_process(*words, RAMQ_MASK_TEXT="card")
        assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]  # of a process
        return str(done.stdout)  # type: ignore[attr-defined]

    def found(query: str) -> list[str]:
        return [hit["key"] for hit in json.loads(ramq("search", query, "--json"))["items"]]

    jobs = json.loads(ramq("enqueue", str(folder), "--stages", "text", "--wait", "--json"))["items"]
    assert [(job["stage"], job["state"], job["done"], job["failed"]) for job in jobs] == [
        ("recognition", "done", 4, 0),
        ("text", "done", 4, 0),
    ]
    assert found('read:"give way"') == ["sign.jpg"]
    assert found("read:invoice* -read:oncoming") == ["invoice.png"]
    assert found("read:4111") == []
    assert found("oncoming traffic")[0] == "sign.jpg"
    assert "GIVE WAY" in ramq("show", "sign.jpg")
    assert "████" in ramq("show", "invoice.png")
    again = json.loads(ramq("read", "--wait", "--json"))
    assert (again["done"], again["skipped"]) == (0, 4)

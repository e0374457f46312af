"""Words in pictures, from files to hits: real weights, a real worker process, the command line.

A command that waits for a job starts services and a worker, as where nothing runs. The others join services that the
test holds, or each would start them again.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from ramq.embedded import embedded
from tests.lettering import sheet
from tests.photographs import photographs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_words_in_pictures_are_read_found_and_shown(
    run: Callable[..., CompletedProcess[str]], run_process: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    sheet(["GIVE WAY", "to oncoming traffic"], size=48).save(folder / "sign.jpg", quality=90)
    lines = ["Invoice No. 2024-118", "Total: 1,250.00 EUR", "Card 4111 1111 1111 1111"]
    sheet(lines, size=40).save(folder / "invoice.png")
    for photograph in photographs(2)[:2]:
        shutil.copy(photograph, folder)

    def said(by: Callable[..., CompletedProcess[str]], *words: str) -> str:
        done = by(*words, RAMQ_MASK_TEXT="card")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def found(query: str) -> list[str]:
        return [hit["key"] for hit in json.loads(said(run, "search", query, "--json"))["items"]]

    jobs = json.loads(said(run_process, "enqueue", str(folder), "--stages", "text", "--wait", "--json"))["items"]
    assert [(job["stage"], job["state"], job["done"], job["failed"]) for job in jobs] == [
        ("recognition", "done", 4, 0),
        ("text", "done", 4, 0),
    ]
    with embedded(tmp_path / "data"):
        assert found('read:"give way"') == ["sign.jpg"]
        assert found("read:invoice* -read:oncoming") == ["invoice.png"]
        assert found("read:4111") == []
        assert found("oncoming traffic")[0] == "sign.jpg"
        assert "GIVE WAY" in said(run, "show", "sign.jpg")
        assert "████" in said(run, "show", "invoice.png")
    again = json.loads(said(run_process, "read", "--wait", "--json"))
    assert (again["done"], again["skipped"]) == (0, 4)

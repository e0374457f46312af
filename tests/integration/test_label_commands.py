"""Label systems from the captions of an archive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from tests.services.command_line import run_here

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def test_the_captions_of_an_archive_count_except_composed_ones(recognised_engine: Engine, tmp_path: Path) -> None:
    environment = {
        "RAMQ_DATABASE_URL": recognised_engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
    }

    def built(*words: str) -> dict[str, object]:
        done = run_here(["labels", "build", "--archive", "1", "--min-count", "1", "--json", *words], environment)
        return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}

    assert "lower --min-count" in str(built()["error"]), "the captions of this archive are composed from tags"
    with recognised_engine.begin() as connection:
        connection.execute(
            text(
                """UPDATE record SET caption = 'red balloons over castle ' || image_id, captioner = 'tag2text'
                   WHERE image_id IN (SELECT image_id FROM record ORDER BY image_id LIMIT 3)"""
            )
        )
    told = built()
    assert told["captions"] == 3
    assert [item["name"] for item in told["items"]][:2] == ["castle", "red balloon"]  # type: ignore[attr-defined]
    known = [item["name"] for item in built("--lists", "lite")["items"]]  # type: ignore[attr-defined]
    assert known.count("castle") == 1, "a tag of the list"
    assert known[-1] == "red balloon"

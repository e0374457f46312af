"""Keywords that are in files, where ramq does not remove them."""

from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from ramq.web.app import create_app
from storage.errors import NotFoundError
from tests.services.command_line import run_here

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services

pytestmark = pytest.mark.services


def test_images_that_have_a_word_in_their_files_are_counted(told: Services) -> None:
    graz, vienna = told.images.find("2023/c.jpg"), told.images.find("2022/a.jpg")
    assert told.keywords.in_files(["ÖSTERREICH"]) == 1
    assert told.keywords.in_files(["österreich", "nothing"], [[vienna], [graz]]) == 1
    assert told.keywords.in_files(["österreich"], [[vienna]]) == 0
    with pytest.raises(NotFoundError, match=r"from a person.*1 image has the keyword 'österreich' in the file"):
        told.keywords.begin_removal(["österreich"])


def test_removing_a_word_says_that_it_stays_in_files(told: Services, tmp_path: Path) -> None:
    graz, vienna = told.images.find("2023/c.jpg"), told.images.find("2022/a.jpg")
    environment = {
        "RAMQ_DATABASE_URL": told.engine.url.render_as_string(hide_password=False),
        "RAMQ_DATA_DIR": str(tmp_path / "of-commands"),
    }
    stays = "1 image has the keyword 'österreich' in the file, where it stays: ramq does not change files."
    for chosen, is_there in (
        (("--image", str(graz)), True),
        (("--image", str(vienna)), False),
        (("--query", "taken:2023", "--yes"), True),
    ):
        answer = run_here(("keyword", "remove", "österreich", *chosen), environment)
        assert (answer.returncode, stays in answer.stderr) == (0, is_there), answer.stderr
    act = told.keywords.history(limit=1).items[0]
    page = TestClient(create_app(told), base_url="http://localhost").get(f"/keywords/acts/{act.id}")
    assert unescape(page.text).count(stays) == 1

"""The quick start and the page about searching, line by line, as a newcomer would type them into a shell."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from ramq.demo_photos import installed_photographs
from tests.documents import DOCS, Typed, typed
from tests.services.missing import missing
from tests.services.newcomer import Newcomer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.s3 import S3Server

# Of the quick start, each line is a process of its own, as in a shell.
pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]

BUCKET = "holiday"
IN_FOLDER, IN_BUCKET = 6, 8
NEED_WEIGHTS = ("like-region", "crops", "siglip", "dino")
"""Regions need a detector and some spaces a tower, whose weights nobody has here."""


@pytest.fixture
def newcomer(tmp_path: Path, s3_server: S3Server) -> Iterator[Newcomer]:
    if shutil.which("curl") is None:
        missing("no curl is installed: apt-get install curl")
    pictures = [path for path in installed_photographs() if path.suffix in {".jpg", ".png"}]
    assert len(pictures) >= IN_FOLDER + IN_BUCKET
    (tmp_path / "Pictures").mkdir()
    for path in pictures[:IN_FOLDER]:
        shutil.copy(path, tmp_path / "Pictures")
    shutil.copy(next(path for path in pictures if path.suffix == ".jpg"), tmp_path / "photo.jpg")
    s3_server.make_bucket(BUCKET)
    client = s3_server.client()
    for path in pictures[-IN_BUCKET:]:
        client.put_object(Bucket=BUCKET, Key=f"2024/{path.name}", Body=path.read_bytes())
    client.close()
    person = Newcomer(tmp_path, s3_server.environment | {"RAMQ_WRITE_ALLOW": "s3://photos"})
    yield person
    person.leave()
    s3_server.delete_bucket(BUCKET)


def lines_of(page: str) -> list[Typed]:
    return typed((DOCS / page).read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform == "darwin", reason="the data folder is another one there")
def test_the_quick_start_does_what_it_says_and_every_search_of_the_page_about_searching_is_answered(
    newcomer: Newcomer,
) -> None:
    """A person who has come so far turns to the search page, and back to what the quick start says of deleting."""
    lines = lines_of("quickstart.md")
    [deleting] = [number for number, one in enumerate(lines) if one.line.startswith("ramq delete")]
    assert deleting > 14
    for one in lines[:deleting]:
        newcomer.type(one)
    newcomer.type(Typed(f"ramq enqueue s3://{BUCKET} --wait"), here=True)
    searches = [one for one in lines_of("search.md") if not any(word in one.line for word in NEED_WEIGHTS)]
    assert len(searches) > 10
    for one in searches:
        newcomer.type(one, here=True)
    for one in lines[deleting:]:
        newcomer.type(one)

"""Near copies of a real photograph, side by side, and a list of the picked ones."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ramq.wiring import Services
from storage.database import make_engine
from tests.near_archive import VARIANTS, write_variants
from tests.photographs import photographs
from tests.services.recognised import recognise, settings_for
from tests.services.web import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.services

COUNT = len(VARIANTS) + 1


@pytest.fixture(scope="module")
def near(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, str]]:
    """Services that have recognised a photograph and its variants, and the address of a server over them."""
    folder = tmp_path_factory.mktemp("near")
    write_variants(photographs(100)[30], folder / "photos", "castle")
    url = postgres_server.create_migrated_database()
    engine = make_engine(url)
    services = Services(settings_for(folder / "data", database_url=url), engine, None, is_reachable=False)
    recognise(services, str(folder / "photos"))
    with serving(services) as address:
        yield services, address
    engine.dispose()


@pytest.fixture
def base_url(near: tuple[Services, str]) -> str:
    services, address = near
    services.duplicates.find_near()
    return address


def test_near_copies_are_seen_side_by_side_and_picked_ones_are_exported(page: Page, tmp_path: Path) -> None:
    page.goto("/archives")
    page.get_by_role("link", name="Duplicates").first.click()
    expect(page.get_by_text("No duplicates")).to_be_visible()
    page.get_by_role("link", name="Near copies").click()
    group = page.locator("section.near-copies")
    expect(group.locator("li")).to_have_count(COUNT)
    expect(group.locator("li").first).to_contain_text("castle.png")
    expect(group.locator("li").first).to_contain_text("largest")
    expect(group.locator("li").nth(1)).to_contain_text(" kB")
    expect(page.locator(".as-of")).to_contain_text(f"{COUNT} images compared")
    first = group.locator("img").first
    first.scroll_into_view_if_needed()
    expect(first).to_have_js_property("complete", value=True)
    page.get_by_label("castle-half.jpg").check()
    page.get_by_label("castle-webp.webp").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export the picked images").click()
    path = tmp_path / "picked.csv"
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["key"] for row in rows) == ["castle-half.jpg", "castle-webp.webp"]
    assert {row["is_largest"] for row in rows} == {"False"}


def test_the_differences_can_be_narrowed_and_a_search_is_asked_for(page: Page) -> None:
    page.goto("/duplicates?kind=near")
    page.get_by_label("Most difference").select_option("0")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url("**distance=0*")
    for line in page.locator("section.near-copies li .muted").all():
        assert "largest" in line.inner_text() or "0 of 64" in line.inner_text()
    page.get_by_role("button", name="Search again").click()
    expect(page.get_by_text("A worker will begin a search within seconds.")).to_be_visible()


def test_hits_fold_to_one_of_each_picture(page: Page) -> None:
    page.goto("/")
    expect(page.locator("a.shot")).to_have_count(COUNT)
    page.get_by_role("button", name="One of each picture").click()
    expect(page.locator("a.shot")).to_have_count(1)
    page.get_by_role("link", name=f"one of {COUNT} alike").click()
    expect(page.locator("a.shot")).to_have_count(COUNT)


def test_a_phone_shows_them_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/duplicates?kind=near")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

"""The timeline above the hits, the cameras beside them, and what the file says on a picture's page."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from storage.database import unit_of_work
from storage.results.metadata import MetadataRow, write
from tests.told_by_files import TOLD

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]

DATES = ("2021-03-04", "2023-05-01", "2023-05-20", "2023-11-02")


@pytest.fixture
def told(services: Services) -> Services:
    """Four of the photographs were taken at known dates, the others at none."""
    with unit_of_work(services.engine) as session:
        session.execute(text("DELETE FROM metadata"))
        images = session.execute(
            text("SELECT id, image.version FROM image JOIN record ON image_id = id ORDER BY id LIMIT 4")
        )
        rows = [
            MetadataRow(image_id, version, {**TOLD, "taken_at": datetime.fromisoformat(date)})
            for (image_id, version), date in zip(images, DATES, strict=True)
        ]
        write(session, rows, job_id=1)
    return services


def test_a_click_on_a_bar_narrows_and_another_one_widens(told: Services, page: Page) -> None:
    page.goto("/")
    bars = page.locator(".timeline a")
    expect(bars).to_have_text(["2021, 1 image", "2023, 3 images"])
    bars.nth(1).click()
    expect(bars).to_have_text(["2023-05, 2 images", "2023-11, 1 image"])
    expect(page.locator(".hit")).to_have_count(3)
    bars.first.click()
    expect(bars).to_have_text(["2023-05-01, 1 image", "2023-05-20, 1 image"])
    expect(page.locator(".chips")).to_contain_text("taken:2023-05")
    page.locator(".chips a", has_text="taken:2023-05").click()
    expect(bars).to_have_text(["2021, 1 image", "2023, 3 images"])
    page.locator(".facets a", has_text="NIKON D90").click()
    expect(page.locator(".hit")).to_have_count(4)
    page.locator(".facets .asked a", has_text="NIKON D90").click()
    expect(page.locator(".chips")).to_have_count(0)


def test_a_picture_s_page_links_to_pictures_that_say_the_same(told: Services, page: Page) -> None:
    page.goto("/?q=taken:2023&sort=taken-asc")
    expect(page.locator(".hit time").first).to_have_text("2023-05-01 00:00")
    page.locator(".hit .shot").first.click()
    section = page.get_by_role("region", name="In the file")
    expect(section).to_contain_text("50 mm, f/1.8, 1/200 s, ISO 200")
    section.get_by_role("link", name="-17.70000, 179.98000 (12 m)").click()
    expect(page.locator(".hit")).to_have_count(4)

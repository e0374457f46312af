"""What people say of tags on the page, and what a token lets them say, with and without scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.services.recognised import CAT

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]


def row(page: Page, tag: str) -> Locator:
    """The row of an assigned tag on the screen of an image."""
    assigned = page.locator("#tags-title ~ .scores .score-row")
    return assigned.filter(has=page.get_by_role("link", name=tag, exact=True))


def test_a_tag_is_added_and_taken_back(page: Page, services: Services) -> None:
    cup = services.images.find("coffee.png")
    page.goto(f"/images/{cup}")
    page.get_by_label("Add a tag").fill("Egyptian cab")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text(CAT)

    page.get_by_label("Add a tag").fill(CAT.upper())
    page.get_by_role("button", name="Add", exact=True).click()
    expect(row(page, CAT).locator(".origin")).to_have_text(re.compile(r"^added by you on \d{4}-"))
    expect(row(page, CAT).locator(".figure")).to_have_text("1.000")
    page.goto(f"/?tag={CAT}")
    expect(page.locator(".hit")).to_have_count(2)

    page.goto(f"/images/{cup}")
    row(page, CAT).get_by_role("button", name="Undo").click()
    expect(row(page, CAT)).to_have_count(0)
    page.goto(f"/?tag={CAT}")
    expect(page.locator(".hit")).to_have_count(1)


def test_a_tag_is_removed_and_taken_back(page: Page, services: Services) -> None:
    page.goto(f"/images/{services.images.find('chelsea.png')}")
    expect(row(page, CAT).locator(".origin")).to_have_text(re.compile("^lite, generation 1"))
    score = row(page, CAT).locator(".figure").inner_text()

    page.get_by_role("button", name=f"Remove: {CAT}").click()
    expect(row(page, CAT)).to_have_count(0)
    removed = page.locator(".removed li", has_text=CAT.lower())
    expect(removed).to_contain_text("removed by you on")

    removed.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", name="Removed")).to_have_count(0)
    expect(row(page, CAT).locator(".figure")).to_have_text(score)


def test_a_tag_is_denied_in_an_archive_and_counts_again(page: Page) -> None:
    page.goto("/archives")
    page.get_by_role("link", name="Tag rules").click()
    expect(page.get_by_role("heading", name="No tag rules yet")).to_be_visible()

    page.get_by_label("Tag", exact=True).fill(CAT)
    page.get_by_label("Where").select_option(index=1)
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("region", name="Rules of file:///")).to_contain_text(CAT.lower())
    page.goto("/")
    expect(page.locator(".facets").first).not_to_contain_text(CAT)

    page.goto("/archives/policies")
    page.get_by_role("button", name=f"Remove the rule for {CAT.lower()}").click()
    expect(page.get_by_role("heading", name="No tag rules yet")).to_be_visible()
    page.goto("/")
    expect(page.locator(".facets").first).to_contain_text(CAT)


def test_a_reader_looks_at_everything_and_is_offered_no_change(page: Page, guarded_url: str) -> None:
    page.goto(f"{guarded_url}/images/1")
    page.get_by_label("Token").fill("r-secret")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{guarded_url}/images/1")
    expect(page.get_by_text("eye (read-only)")).to_be_visible()
    for path in ("/images/1", "/jobs", "/jobs/1", "/jobs/1/failures", "/generations", "/archives/policies"):
        page.goto(guarded_url + path)
        expect(page.locator("main button")).to_have_count(0)

    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").fill("w-secret")
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{guarded_url}/images/1")
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_visible()
    expect(page.get_by_text("Delete…")).to_have_count(0)

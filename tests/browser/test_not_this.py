"""Hits of which a person says "not this", and captions that people contradicted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.recognised import CAT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]

NOT_THIS = re.compile("^Not this")


def shown(page: Page) -> list[str]:
    return [link.get_attribute("href") or "" for link in page.locator("a.shot").all()]


def test_a_search_for_similar_pictures_learns_what_is_not_meant(
    page: Page, services: Services, has_scripts: bool
) -> None:
    cat = services.images.find("chelsea.png")
    page.goto("/")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.get_by_role("link", name=NOT_THIS)).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/?like={cat}")
    before = shown(page)
    button = page.locator(".hit").nth(1).get_by_role("link", name=NOT_THIS)
    expect(button).to_be_visible()
    box = button.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    button.focus()
    page.keyboard.press("Enter")
    second = before[1].removeprefix("/images/").partition("?")[0]
    expect(page).to_have_url(re.compile(f"not_like={second}"))
    expect(page.locator(".hit")).to_have_count(len(before) - 1)
    assert before[1] not in shown(page)

    # Another one, with the search changed meanwhile: the list is kept.
    first = shown(page)[0].removeprefix("/images/").partition("?")[0]
    page.locator(".hit").first.get_by_role("link", name=NOT_THIS).click()
    expect(page.locator(".hit")).to_have_count(len(before) - 2)
    expect(page).to_have_url(re.compile(f"not_like={second}&not_like={first}"))
    page.locator("#q").fill("larger:1kB")
    if not has_scripts:
        page.locator("#search button").click()
    expect(page).to_have_url(re.compile(r"larger.*not_like|not_like.*larger"))
    expect(page.locator(".hit")).to_have_count(len(before) - 2)

    # Each can be taken back.
    expect(page.locator(".chip.not")).to_have_count(2)
    page.locator(".chip", has_text=f"image {second}").last.click()
    expect(page.locator(".hit")).to_have_count(len(before) - 1)
    assert before[1] in shown(page)


def test_a_caption_that_a_person_contradicted_is_marked(page: Page, services: Services) -> None:
    cat = services.images.find("chelsea.png")
    with unit_of_work(services.engine) as session:
        session.execute(
            text("UPDATE record SET caption = 'an Egyptian cat at rest', captioner = 'tag2text' WHERE image_id = :id"),
            {"id": cat},
        )
    for address in (f"/images/{cat}", "/?prefix=chelsea"):
        page.goto(address)
        expect(page.get_by_text("an Egyptian cat at rest")).to_be_visible()
        expect(page.locator(".doubt")).to_have_count(0)
    services.corrections.tag([cat], remove=[CAT])
    for address in (f"/images/{cat}", "/?prefix=chelsea"):
        page.goto(address)
        mark = page.locator(".doubt")
        expect(mark).to_have_text(f"no {CAT}")
        expect(mark).to_have_attribute("title", f"A person removed {CAT}, but this caption names it.")
        expect(page.locator("main img[alt*='Egyptian cat at rest']")).to_have_count(0)

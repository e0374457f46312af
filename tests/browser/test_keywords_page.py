"""Keywords on the pages: given to ticked images, to all hits and to one image; undone; with keyboard, on a phone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from storage.results import keyword_acts
from tests.services.recognised import CAT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]

CHOOSE = re.compile("^Choose ")


def test_ticked_images_get_keywords_by_keyboard_and_the_act_is_undone(page: Page, services: Services) -> None:
    page.goto("/?q=prefix%3Ac")
    hits = page.locator(".hit")
    expect(hits.first).to_be_visible()
    box = page.get_by_role("checkbox", name=CHOOSE).first
    expect(box).to_be_hidden()
    page.locator("#give-keywords summary").focus()
    page.keyboard.press("Enter")
    box.focus()
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    page.get_by_label("Words, with commas between them").fill("Wedding, Anna & Ben")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Give Wedding, Anna & Ben")
    expect(page.get_by_role("status").filter(has_text="changed")).to_contain_text("1 image of 1 changed")
    page.get_by_role("link", name="Back to the search").click()
    expect(page.get_by_role("link", name="Keyword that a person gave: Wedding")).to_have_count(1)
    page.get_by_role("link", name="Keyword that a person gave: Wedding").click()
    expect(page).to_have_url(re.compile("q=keyword%3AWedding"))
    expect(hits).to_have_count(1)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Keywords").click()
    page.get_by_role("button", name="Undo 1: give Wedding, Anna & Ben").click()
    expect(page.get_by_text("Undone by you")).to_be_visible()
    assert services.keywords.list().items == []


def test_all_hits_get_a_keyword_in_steps_and_the_page_goes_on(
    page: Page, services: Services, has_scripts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.services.keywords.IMAGES_AT_ONCE", 4)
    monkeypatch.setattr("ramq.web.pages.keywords.STEP_SECONDS", 0)
    monkeypatch.setattr(keyword_acts, "IMAGES_AT_ONCE", 4)
    page.goto("/")
    count = page.locator(".hit").count()
    page.locator("#give-keywords summary").click()
    page.get_by_label("Words, with commas between them").fill("everything")
    page.get_by_label(f"all {count} images that this search finds").check()
    page.get_by_role("button", name="Give", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Give everything")
    done = page.get_by_text(f"{count} images of {count} changed")
    if not has_scripts:
        while not done.is_visible():
            page.get_by_role("button", name=re.compile("^Continue 1")).click()
            page.wait_for_load_state()
    expect(done).to_be_visible()
    assert [one.images for one in services.keywords.list().items] == [count]


def test_the_page_of_an_image_gives_keywords_and_offers_the_tag(page: Page, services: Services) -> None:
    cup = services.images.find("coffee.png")
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/images/{cup}")
    page.get_by_label("Give keywords").fill(f"{CAT}, morning")
    page.keyboard.press("Enter")
    keywords = page.get_by_role("region", name="Keywords")
    expect(keywords.get_by_role("button", name=re.compile("^Remove keyword: "))).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(keywords).to_contain_text("is a tag of this model")
    keywords.get_by_role("button", name=f"Add the tag too: {CAT}").click()
    expect(page.get_by_role("button", name=f"Undo: {CAT}")).to_be_visible()
    expect(keywords).not_to_contain_text("is a tag")
    page.get_by_role("button", name="Remove keyword: morning").click()
    expect(page.get_by_role("button", name="Remove keyword: morning")).to_have_count(0)
    assert services.keywords.words([cup]) == {cup: [CAT]}
    page.get_by_label("Give keywords").fill("x" * 300)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("at most 200 characters")


def test_a_phone_shows_the_forms_whole(page: Page, services: Services) -> None:
    services.keywords.go_on(
        services.keywords.begin([services.images.find("coffee.png")], add=["a long keyword of many words", "b"]).id
    )
    page.set_viewport_size({"width": 390, "height": 800})
    for address in ("/?q=prefix%3Ac", "/keywords", "/keywords/acts/1"):
        page.goto(address)
        if address.startswith("/?"):
            page.locator("#give-keywords summary").click()
            box = page.get_by_role("checkbox", name=CHOOSE).first.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 18
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address

"""From hits to a picture and back: the place is kept, neighbours are a key away, the original is a click away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = pytest.mark.services


def ids(page: Page) -> list[str]:
    return [link.get_attribute("href") or "" for link in page.locator("a.shot").all()]


@pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
def test_back_comes_to_the_same_hits_at_the_same_place(page: Page) -> None:
    """Also where more were loaded than the first page, which the address does not say."""
    page.set_viewport_size({"width": 500, "height": 500})
    page.goto("/?limit=6")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("a.shot")).to_have_count(15)
    shown = ids(page)
    page.locator("a.shot").nth(9).scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    assert place > 0
    page.locator("a.shot").nth(9).click()
    expect(page.get_by_role("link", name="← Back to results")).to_be_visible()
    page.go_back()
    expect(page.locator("a.shot")).to_have_count(15)
    assert ids(page) == shown
    page.wait_for_function("place => scrollY === place", arg=place)


@pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
def test_previous_and_next_go_through_the_hits_and_back_leads_to_them(page: Page) -> None:
    page.goto("/?limit=6")
    shown = ids(page)[:3]
    page.locator("a.shot").nth(1).click()
    page.get_by_role("link", name="Next →").click()
    page.wait_for_url(f"**{shown[2]}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**{shown[1]}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**{shown[0]}")
    expect(page.get_by_role("link", name="Next →")).to_be_visible()
    expect(page.get_by_role("link", name="← Previous")).to_have_count(0)
    page.go_back()
    page.wait_for_url("**/?limit=6")
    expect(page.locator("a.shot").first).to_be_visible()


def test_a_picture_from_elsewhere_has_no_neighbours_in_a_list(page: Page) -> None:
    page.goto("/images/1")
    expect(page.locator(".place")).to_be_hidden()


@pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
def test_a_click_shows_the_original_and_escape_closes_it(page: Page, services: Services) -> None:
    page.goto(f"/images/{services.images.find('chelsea.png')}")
    with page.expect_response("**/original") as answer:
        page.get_by_role("link", name="Show the original").click()
    assert answer.value.status == 200
    picture = page.get_by_role("dialog").locator("img")
    page.wait_for_function("() => document.querySelector('.lightbox img').naturalWidth === 451")
    picture.click()
    expect(page.locator("dialog.full")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_file_that_was_not_recognised_says_why_and_offers_nothing_that_cannot_work(
    page: Page, services: Services
) -> None:
    page.goto(f"/images/{services.images.find('notes.jpg')}")
    expect(page.locator(".no-preview")).to_contain_text("not_an_image: the content is not an image")
    expect(page.get_by_text("Not recognised: not_an_image")).to_be_visible()
    expect(page.get_by_role("link", name="Similar images")).to_have_count(0)
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
def test_any_file_is_searched_with_and_a_bad_one_is_told(page: Page) -> None:
    """Browsers know no type of many pictures; the server tells what one is."""
    page.goto("/")
    page.locator("#drop input[type=file]").set_input_files(
        {"name": "raw.xyz", "mimeType": "", "buffer": b"no picture at all"}
    )
    expect(page.get_by_role("alert")).to_contain_text("not a picture that ramq can read")


def test_composed_captions_stand_on_no_card_and_follow_corrections(page: Page, services: Services) -> None:
    cat = services.images.find("chelsea.png")
    page.goto("/?tag=Egyptian+cat")
    expect(page.locator(".hit .caption").first).to_have_text("chelsea.png")
    page.goto(f"/images/{cat}")
    expect(page.locator("figcaption")).to_contain_text("Egyptian cat")
    services.corrections.tag([cat], remove=["Egyptian cat"])
    page.goto(f"/images/{cat}")
    expect(page.locator("main")).not_to_contain_text("may show an Egyptian cat")


@pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
def test_tables_fit_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for address in ("/archives", "/jobs/1/failures", "/"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto("/jobs/1/failures")
    reason = page.get_by_text("the image is cut short")
    box = reason.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390

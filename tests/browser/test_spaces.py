"""The choice of what images are compared by: beside the search box and on the page of an image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.services.recognised import PHOTOGRAPHS
from tests.services.spaces import install_towers, make_space, space_worker

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]


@pytest.fixture
def spaces(services: Services) -> None:
    install_towers(services)
    with space_worker(services) as worker:
        for space in ("look", "siglip"):
            make_space(services, worker, space)


def test_there_is_no_choice_without_further_spaces(page: Page) -> None:
    page.goto("/")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("select[name=space]")).to_have_count(0)
    page.locator(".hit .shot").first.click()
    expect(page.locator(".neighbours .strip li").first).to_be_visible()
    expect(page.locator("select[name=space]")).to_have_count(0)


@pytest.mark.usefixtures("spaces")
def test_a_text_is_compared_by_what_is_chosen(page: Page, has_scripts: bool) -> None:
    page.goto("/?q=a+cat+beside+a+cup&relevance=0")
    choice = page.locator("#search select[name=space]")
    expect(choice.locator("option")).to_have_text(["automatic", "content", "look (no texts)", "SigLIP", "all together"])
    expect(page.locator(".hit .why").first).to_have_attribute("title", re.compile("^content: number 1, similarity to"))
    choice.select_option("siglip")
    if not has_scripts:
        page.locator("#search button").click()
    expect(page).to_have_url(re.compile(r"space=siglip"))
    expect(page.locator(".hit .why").first).to_have_attribute("title", re.compile("^SigLIP: number 1, similarity to"))
    expect(page.locator(".hit")).to_have_count(PHOTOGRAPHS + 1)

    choice.select_option("text,look,siglip")
    if not has_scripts:
        page.locator("#search button").click()
    both = re.compile(r"^content: number \d+, similarity to the text -?0\.\d\d; SigLIP: number \d+, similarity to")
    expect(page.locator(".hit .why").first).to_have_attribute("title", both)
    page.locator(".chip", has_text="compared by").click()
    expect(page).not_to_have_url(re.compile("space="))

    page.goto("/?q=a+cat&space=look")
    expect(page.locator("[role=alert]")).to_contain_text("look cannot compare texts; spaces that can: text, siglip")
    expect(choice).to_have_value("look")


@pytest.mark.usefixtures("spaces")
def test_neighbours_are_those_of_the_chosen_space(page: Page, services: Services) -> None:
    image_id = services.images.find("chelsea.png")
    page.goto(f"/images/{image_id}?q=a+cat")
    shown = page.locator(".neighbours .strip li .figure").first
    expect(shown).to_have_attribute("title", re.compile("^look: number 1, similarity to the image 0"))
    page.locator(".neighbours select").select_option("siglip")
    page.locator(".neighbours button").click()
    expect(page).to_have_url(re.compile(r"q=a\+cat&space=siglip"))
    expect(shown).to_have_attribute("title", re.compile("^SigLIP: number 1, similarity to the image"))
    expect(page.locator(".neighbours select")).to_have_value("siglip")
    page.goto(f"/images/{image_id}?space=clip")
    expect(page.locator(".neighbours")).to_contain_text("no image has a vector in the space clip yet")

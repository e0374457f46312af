"""The query language in the search box: typed, completed, corrected and taken apart again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = [pytest.mark.browser, pytest.mark.services]

with_scripts = pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)


def test_a_query_is_typed_and_taken_apart_by_its_chips(page: Page) -> None:
    page.goto("/")
    page.locator("#q").fill(f'"{CAT}" OR espresso archive:1')
    page.locator("#q").press("Enter")
    expect(page).to_have_url(re.compile(r"q="))
    expect(page.locator(".hit")).to_have_count(2)
    expect(page.locator(".chip")).to_have_count(2)

    page.locator(".chip", has_text="espresso").click()
    expect(page.locator(".hit")).to_have_count(PHOTOGRAPHS + 1)
    expect(page.locator("#q")).to_have_value("archive:1")


def test_a_persons_words_are_searched_for_whatever_they_are(page: Page) -> None:
    page.goto("/")
    page.locator("#q").fill("a cat (a male OR")
    page.locator("#q").press("Enter")

    expect(page.locator(".notes")).to_contain_text("Searched as words")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("#q")).to_have_value("a cat (a male OR")


def test_a_note_leads_to_the_tag_that_was_meant(page: Page) -> None:
    page.goto("/")
    page.locator("#q").fill('cat -"Egyptian cab"')
    page.locator("#q").press("Enter")

    page.locator(".notes").get_by_role("link", name=CAT).click()
    expect(page.locator("#q")).to_have_value(f'cat "{CAT}"')


def test_a_facet_puts_its_tag_into_the_box(page: Page) -> None:
    page.goto("/")
    page.locator(".facets").get_by_role("link", name=CAT, exact=False).first.click()
    expect(page.locator("#q")).to_have_value(f'"{CAT}"')
    expect(page.locator(".hit")).to_have_count(1)

    page.locator(".facets .asked .facet").first.click()
    expect(page.locator("#q")).to_have_value("")


@with_scripts
def test_a_tag_is_completed_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/")
    box = page.get_by_role("combobox", name="Search text")
    box.press_sequentially("(espresso OR egyp")
    option = page.get_by_role("option", name=CAT)
    expect(option).to_be_visible()
    expect(box).to_have_attribute("aria-expanded", "true")

    box.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    expect(box).to_have_attribute("aria-activedescendant", re.compile("^q-option-"))
    box.press("Enter")
    expect(box).to_have_value(f'(espresso OR "{CAT}" ')
    expect(box).to_have_attribute("aria-expanded", "false")
    box.press_sequentially(")")
    box.press("Enter")
    expect(page.locator(".hit")).to_have_count(2)


@with_scripts
def test_a_completion_is_taken_with_the_mouse_in_the_middle_of_a_query(page: Page) -> None:
    page.goto("/")
    box = page.locator("#q")
    box.fill("🐈 espr archive:1")
    for _ in " archive:1":
        box.press("ArrowLeft")
    box.press_sequentially("e")
    page.get_by_role("option", name="espresso").first.click()

    expect(box).to_have_value("🐈 tag:espresso archive:1")
    before_cursor = "document.activeElement.value.slice(0, document.activeElement.selectionStart)"
    assert page.evaluate(before_cursor) == "🐈 tag:espresso "
    expect(page).to_have_url(re.compile("tag%3Aespresso"))


@with_scripts
def test_what_was_typed_last_is_shown_however_long_earlier_searches_take(page: Page) -> None:
    """Two more are asked for while the answer to the first is still out: none of them may win over the last one."""
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.goto("/")
    page.route(re.compile("/\\?q="), hold_the_first)
    box = page.locator("#q")
    for typed in ("cup", "cup of", "tag:espresso"):
        box.fill(typed)
        page.wait_for_timeout(1000)  # longer than the page waits for more to be typed
    assert held
    expect(page).to_have_url(re.compile("tag%3Aespresso"))
    expect(page.locator(".hit")).to_have_count(1)


@with_scripts
def test_fields_and_archives_are_completed(page: Page) -> None:
    page.goto("/")
    box = page.locator("#q")
    box.press_sequentially("arch")
    expect(page.get_by_role("option", name="archive:")).to_be_visible()
    box.press("ArrowUp")
    expect(page.locator('#q-options [aria-selected="true"]')).to_contain_text("archive:")
    box.press("Tab")
    expect(box).to_have_value("archive:")
    archive = page.locator("#q-options").get_by_role("option", name="photographs")
    expect(archive).to_contain_text(str(PHOTOGRAPHS + 1))
    archive.click()
    expect(box).to_have_value(re.compile(r"^archive:\S+photographs $"))
    expect(page.locator(".hit")).to_have_count(PHOTOGRAPHS + 1)


@with_scripts
def test_escape_closes_the_completions_and_enter_then_searches(page: Page) -> None:
    page.goto("/")
    box = page.locator("#q")
    box.press_sequentially("tag:espresso")
    expect(page.get_by_role("option").first).to_be_visible()
    box.press("Escape")
    expect(page.locator("#q-options")).to_be_hidden()
    expect(box).to_have_value("tag:espresso")
    box.press("Enter")
    expect(page).to_have_url(re.compile(r"q=tag%3Aespresso"))

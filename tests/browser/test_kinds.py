"""Synonyms in the completions, and facets of the most special tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.services.recognised import CAT

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.services]


@pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
def test_a_synonym_is_completed_to_its_tag_and_says_why(page: Page) -> None:
    page.goto("/")
    page.get_by_role("combobox", name="Search text").press_sequentially("tag:taxic")
    option = page.get_by_role("option", name="cab")
    expect(option).to_contain_text("also: taxicab")
    option.click()
    expect(page.locator("#q")).to_have_value("tag:cab ")


def test_facets_of_the_most_special_tags_are_one_click_away_and_back(page: Page) -> None:
    page.goto(f"/?tag={CAT}")
    facets = page.locator(".facets")
    expect(facets.get_by_text("animal", exact=True)).to_be_visible()

    switch = page.get_by_role("button", name="Most special only")
    expect(switch).to_have_attribute("aria-pressed", "false")
    switch.click()
    expect(page).to_have_url(re.compile("special=1"))
    expect(page.get_by_role("button", name="Most special only")).to_have_attribute("aria-pressed", "true")
    expect(facets.get_by_text(CAT, exact=True)).to_be_visible()
    expect(facets.get_by_text("animal", exact=True)).to_have_count(0)

    page.get_by_role("button", name="Most special only").click()
    expect(facets.get_by_text("animal", exact=True)).to_be_visible()

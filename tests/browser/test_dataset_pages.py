"""Data sets on the page: their versions as a timeline, live, steered by buttons, with pictures and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from storage.database import unit_of_work
from storage.datasets import versions
from tests.services.decided import Label, add_version, begin_version, finish_tasks
from tests.services.recognised import CAT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]


@pytest.fixture
def cat(services: Services) -> int:
    """A picture of a data set that was built, and then cleaned."""
    cat, cup = services.images.find("chelsea.png"), services.images.find("coffee.png")
    labels = [Label(cat, CAT), Label(cup, CAT), Label(cup, "espresso", origins=("given", "parsed"))]
    add_version(services, "pets", labels, "build")
    add_version(services, "pets", [labels[0], Label(cup, CAT, "outlier", 0.8), labels[2]])
    return cat


def test_a_data_set_shows_what_each_step_changed_and_leads_to_its_review(page: Page, cat: int) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/")
    page.get_by_role("link", name="Data sets", exact=True).click()
    expect(page.locator("article")).to_contain_text("2 images (0 for validation) · 2 labels of 2 tags · 1 dropped")
    page.get_by_role("link", name="pets", exact=True).click()
    steps = page.locator(".timeline > li")
    expect(steps).to_have_count(2)
    expect(steps.first).to_contain_text("Version 2: cleaned done")
    expect(steps.first).to_contain_text("2 of 2 tags (given 2, parsed 1), -1 against version 1")
    expect(steps.first).to_contain_text("1 (unlike the others 1)")
    expect(steps.last).to_contain_text("Version 1: built done")
    shown = page.locator(".labelled > li", has=page.locator(f'a[href="/images/{cat}"]'))
    expect(shown).to_contain_text(f"{CAT} given")
    expect(page.locator(".labelled > li", has_text="espresso")).to_contain_text(f"{CAT} unlike the others")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Review", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Review of pets, version 2")


def test_a_step_is_followed_to_its_end_by_itself_and_is_paused_resumed_and_cancelled(
    page: Page, services: Services, cat: int
) -> None:
    version_id = begin_version(services, "pets", tasks_done=1)
    page.goto("/datasets/pets")
    newest = page.locator("#version-3")
    expect(newest).to_contain_text("cluster · 1 of 4 tasks")
    finish_tasks(services, version_id, 3)
    expect(newest).to_contain_text("3 of 4 tasks")
    newest.get_by_role("button", name="Pause version 3 of pets").click()
    expect(newest.locator(".badge")).to_have_text("paused")
    newest.get_by_role("button", name="Resume version 3 of pets").click()
    expect(newest.locator(".badge")).to_have_text("running")
    page.goto("/datasets")
    expect(page.locator("article")).to_contain_text("3 of 4 tasks")
    page.get_by_role("button", name="Cancel version 3 of pets").click()
    expect(newest.locator(".badge")).to_have_text("cancelled")
    expect(page.get_by_role("button")).to_have_count(0)
    # The last version that is done is the one that is shown and reviewed.
    expect(page.get_by_role("heading", name="Pictures of version 2")).to_be_visible()
    assert cat


@pytest.mark.parametrize("has_scripts", [False], ids=["no-scripts"], indirect=True)  # with them, the button goes away
def test_a_button_that_comes_too_late_says_so(page: Page, services: Services, cat: int) -> None:
    version_id = begin_version(services, "pets")
    page.goto("/datasets/pets")
    with unit_of_work(services.engine) as session:
        versions.steer(session, version_id, to="cancelled", allowed=("running",))
    page.get_by_role("button", name="Pause version 3 of pets").click()
    expect(page.get_by_role("alert")).to_contain_text("is cancelled and cannot be paused")
    assert cat


def test_without_data_sets_the_page_says_how_to_make_one(page: Page) -> None:
    page.goto("/datasets")
    expect(page.get_by_text("ramq dataset build NAME SOURCE")).to_be_visible()
    page.goto("/datasets/no-such-set")
    expect(page.get_by_text("there is no data set 'no-such-set'")).to_be_visible()

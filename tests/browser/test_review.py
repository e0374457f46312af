"""Review: what a data set's steps dropped and added, answered with keys, with buttons, on a phone, without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from storage.datasets.review_views import Tally
from storage.search.views import SearchQuery
from tests.browser.conftest import PATIENCE_MS
from tests.services.decided import Label, add_version
from tests.services.recognised import CAT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]

with_scripts = pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
without_scripts = pytest.mark.parametrize("has_scripts", [False], ids=["no-scripts"], indirect=True)

BOX = (0.2, 0.1, 0.8, 0.7)


@pytest.fixture
def ids(services: Services) -> list[int]:
    """Five pictures that lost a tag, least certain first, and one that kept it."""
    known = sorted(hit.image_id for hit in services.search.page(SearchQuery(limit=20)).items)[:6]
    dropped = [
        Label(image_id, CAT, "outlier" if n % 2 else "no_region", 0.1 + 0.15 * n, BOX if n % 2 else None)
        for n, image_id in enumerate(known[:5])
    ]
    add_version(services, "pets", [*dropped, Label(known[5], CAT, None, 0.9, BOX)])
    return known


def card(page: Page, image_id: int) -> Locator:
    return page.locator(f'.decision[data-image="{image_id}"]')


def said(services: Services, image_id: int) -> list[bool]:
    return [one.is_present for one in services.images.get(image_id).corrections]


def open_review(page: Page) -> None:
    page.goto("/datasets/pets/review")
    page.get_by_role("link", name=f"5 dropped: {CAT}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(CAT)
    page.wait_for_load_state()  # its script has run: keys pressed before would do nothing


def test_each_decision_is_answered_with_buttons_and_taken_back(page: Page, ids: list[int], services: Services) -> None:
    open_review(page)
    expect(page.locator(".decision")).to_have_count(5)
    expect(page.locator(".typical img")).to_have_count(1)
    card(page, ids[0]).get_by_role("button", name="Is not “").click()
    expect(page.locator(".pace")).to_have_text("4 to review, 1 reviewed, 100\u00a0% of these right")
    card(page, ids[1]).get_by_role("button", name="Is “").click()
    expect(page.locator(".pace")).to_have_text("3 to review, 2 reviewed, 50\u00a0% of these right")
    assert (said(services, ids[0]), said(services, ids[1])) == ([False], [True])
    page.reload()
    expect(page.locator(".decision")).to_have_count(3)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".decision")).to_have_count(4)
    expect(page.locator(".pace")).to_have_text("4 to review, 1 reviewed, 100\u00a0% of these right")
    assert said(services, ids[1]) == []


def test_many_are_answered_at_once(page: Page, ids: list[int], services: Services) -> None:
    open_review(page)
    for image_id in ids[:3]:
        card(page, image_id).get_by_role("checkbox").check()
    page.get_by_role("button", name="Selected: Is “").click()
    expect(page.locator(".pace")).to_have_text("2 to review, 3 reviewed, 0\u00a0% of these right")
    assert [said(services, image_id) for image_id in ids[:4]] == [[True], [True], [True], []]


@with_scripts
def test_a_review_is_done_with_single_keys(page: Page, ids: list[int], services: Services) -> None:
    open_review(page)
    page.keyboard.press("y")  # the focus is outside the review
    page.keyboard.press("u")
    expect(page.locator(".pace")).to_have_text("5 to review, 0 reviewed")
    expect(page.locator(".bar-of-answers")).to_be_hidden()
    page.get_by_role("heading", name="least certain first").click()
    expect(card(page, ids[0])).to_have_class("decision current")  # without a further key
    page.keyboard.press("y")
    expect(card(page, ids[0]).locator(".said")).to_have_text("stays removed")
    expect(card(page, ids[1]).get_by_role("checkbox")).to_be_focused()
    page.keyboard.press("n")
    expect(card(page, ids[1]).locator(".said")).to_have_text("is put back")
    expect(card(page, ids[2]).get_by_role("checkbox")).to_be_focused()
    expect(page.locator("#told")).to_have_text(f"“{CAT}” is put back in 1 picture. 3 to review.")
    page.keyboard.press("u")
    expect(page.locator("#told")).to_have_text("Undone: 1 picture. 4 to review.")
    expect(card(page, ids[1]).locator(".said")).to_have_count(0)
    expect(card(page, ids[1]).get_by_role("checkbox")).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "k"):
        page.keyboard.press(key)
    expect(card(page, ids[2]).get_by_role("checkbox")).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("#selected")).to_have_text("1 selected")
    page.keyboard.press("a")
    expect(page.locator("#selected")).to_have_text("4 selected")
    page.keyboard.press("Enter")  # says what is missing
    expect(page.locator("#selected")).to_contain_text("press y or n")
    page.keyboard.press("y")
    expect(page.locator("#selected")).to_have_text(f"4 selected: press Enter for “{CAT}” stays removed")
    page.keyboard.press("Escape")
    expect(page.locator("#selected")).to_have_text("")
    assert services.reviews.progress("pets").dropped == Tally(4, 1, 1)
    for key in ("a", "n", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name="Nothing to review")).to_be_visible()
    expect(page.locator(".pace")).to_have_text("0 to review, 5 reviewed, 20\u00a0% of these right")
    assert [said(services, image_id) for image_id in ids[:6]] == [[False], [True], [True], [True], [True], []]
    page.keyboard.press("u")  # the last answer, too
    expect(page.locator("#told")).to_have_text("Undone: 4 pictures. 4 to review.")
    expect(page.get_by_role("heading", name="Nothing to review")).to_be_hidden()
    expect(card(page, ids[1]).get_by_role("checkbox")).to_be_focused()
    assert said(services, ids[1]) == []


@with_scripts
def test_a_key_undoes_only_answers_of_this_visit(page: Page, ids: list[int], services: Services) -> None:
    open_review(page)
    card(page, ids[0]).get_by_role("button", name="Is not “").click()
    expect(page.locator(".pace")).to_contain_text("1 reviewed")
    page.reload()
    card(page, ids[1]).get_by_role("checkbox").focus()
    page.keyboard.press("u")
    expect(page.locator("#trouble")).to_contain_text("no answer of this visit")
    assert said(services, ids[0]) == [False]


@with_scripts
def test_the_keys_are_shown_and_hidden(page: Page, ids: list[int]) -> None:
    open_review(page)
    card(page, ids[0]).get_by_role("checkbox").focus()
    expect(page.get_by_text("undo your last answer on this page")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_text("undo your last answer on this page")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_text("undo your last answer on this page")).to_be_hidden()


def test_who_comes_second_sees_who_answered_before(page: Page, ids: list[int], services: Services) -> None:
    open_review(page)
    services.reviews.say("pets", CAT, ids[:1], is_right=False, by="ann")
    card(page, ids[0]).get_by_role("button", name="Is not “").click()
    expect(page.get_by_text("by ann")).to_be_visible()
    expect(page.locator(".pace")).to_have_text("4 to review, 1 reviewed, 0\u00a0% of these right")
    assert said(services, ids[0]) == [True]


@with_scripts
def test_an_answer_that_cannot_be_stored_is_not_shown_as_stored(page: Page, ids: list[int]) -> None:
    open_review(page)
    page.context.set_offline(True)
    card(page, ids[0]).get_by_role("button", name="Is not “").click()
    expect(page.locator("#trouble")).to_contain_text("Nothing was stored")
    expect(card(page, ids[0]).locator(".said")).to_have_count(0)
    page.context.set_offline(False)
    card(page, ids[0]).get_by_role("button", name="Is not “").click()
    expect(card(page, ids[0]).locator(".said")).to_have_text("stays removed")
    expect(page.locator("#trouble")).to_be_hidden()


@without_scripts
def test_without_scripts_enter_on_a_picture_answers_nothing(page: Page, ids: list[int], services: Services) -> None:
    open_review(page)
    box = card(page, ids[1]).get_by_role("checkbox")
    box.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("press one of the buttons")
    expect(page.locator(".decision")).to_have_count(5)
    assert services.reviews.progress("pets").dropped.reviewed == 0


@with_scripts
def test_more_decisions_come_as_the_list_is_read(
    page: Page, services: Services, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramq.web.pages.reviews.PER_PAGE", 2)
    open_review(page)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".decision")).to_have_count(5)
    assert [int(one.get_attribute("data-image") or 0) for one in page.locator(".decision").all()] == ids[:5]
    card(page, ids[0]).get_by_role("checkbox").focus()
    for _ in range(4):
        page.keyboard.press("j")
    page.keyboard.press("y")
    expect(card(page, ids[4]).locator(".said")).to_have_text("stays removed")
    assert said(services, ids[4]) == [False]


@without_scripts
def test_without_scripts_the_list_has_pages(page: Page, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramq.web.pages.reviews.PER_PAGE", 2)
    open_review(page)
    page.get_by_role("link", name="More").click()
    card(page, ids[2]).get_by_role("button", name="Is not “").click()
    expect(page.locator(".decision")).to_have_count(2)
    expect(card(page, ids[3])).to_be_visible()
    expect(card(page, ids[4])).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(card(page, ids[0])).to_be_visible()


def test_it_is_done_with_a_finger_on_a_phone(
    browser: Browser, base_url: str, ids: list[int], services: Services
) -> None:
    context = browser.new_context(
        base_url=base_url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    open_review(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    button = card(page, ids[0]).get_by_role("button", name="Is “")
    size = button.bounding_box()
    assert size
    assert (size["height"] >= 44, size["width"] >= 44) == (True, True)
    button.click()
    expect(card(page, ids[0]).locator(".said")).to_have_text("is put back")
    card(page, ids[1]).locator("label").click()
    page.get_by_role("button", name="Selected: Is not “").click()
    expect(card(page, ids[1]).locator(".said")).to_have_text("stays removed")
    context.close()
    assert [said(services, image_id) for image_id in ids[:3]] == [[True], [False], []]


def test_who_may_only_read_sees_no_buttons(browser: Browser, guarded_url: str, ids: list[int]) -> None:
    context = browser.new_context(base_url=guarded_url)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto("/login")
    page.get_by_label("Token").fill("r-secret")
    page.get_by_role("button", name="Sign in").click()
    open_review(page)
    expect(page.locator(".decision")).to_have_count(5)
    expect(page.locator(".decision button, .decision input")).to_have_count(0)
    page.keyboard.press("y")
    context.close()

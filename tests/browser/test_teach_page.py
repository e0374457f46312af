"""Teaching on the page: pictures are chosen, judged and applied, with keys, with boxes, and on a phone."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ramq.wiring import Services
from storage.search.views import SearchQuery
from tests.browser.conftest import PATIENCE_MS
from tests.services.recognised import make_worker, settings_for
from tests.services.web import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page
    from sqlalchemy import Engine

pytestmark = [pytest.mark.browser, pytest.mark.services]

with_scripts = pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
NAME = "my thing"


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """The libraries that fit heads: loading them takes longer than a browser waits for a page on a busy machine."""
    for name in ("sklearn.linear_model", "sklearn.model_selection", "scipy.stats", "ram_core.teaching.suggesting"):
        import_module(name)


@pytest.fixture
def services(recognised_engine: Engine, stage: Path, broker_url: str) -> Services:
    """Beside the index of the recognised photographs, where their features are."""
    return Services(settings_for(stage / "data"), recognised_engine, broker_url, is_reachable=False)


@pytest.fixture
def base_url(services: Services) -> Iterator[str]:
    with serving(services) as url:
        yield url


@pytest.fixture
def ids(services: Services) -> list[int]:
    return sorted(hit.image_id for hit in services.search.page(SearchQuery(limit=20)).items)


def card(page: Page, image_id: int) -> Locator:
    return page.locator(f'.to-label[data-image="{image_id}"]')


def lesson(ids: list[int], yes: int, no: int = 0) -> str:
    words = [f"yes={one}" for one in ids[:yes]] + [f"no={one}" for one in ids[yes : yes + no]]
    return f"/teach?tag={NAME}&" + "&".join(words)


def test_a_tag_is_taught_from_its_name_to_the_generation_that_has_it(
    page: Page, services: Services, ids: list[int]
) -> None:
    page.goto("/")
    page.get_by_role("link", name="Teach", exact=True).click()
    page.get_by_label("Name a new thing").fill(NAME)
    page.get_by_role("button", name="Choose pictures").click()
    page.get_by_label("Search for pictures").fill("a picture")
    page.get_by_role("button", name="Search", exact=True).click()
    chosen = [int(one.get_attribute("data-image") or 0) for one in page.locator(".to-label").all()]
    for image_id in chosen[:5]:
        card(page, image_id).get_by_label("Yes").check()
    card(page, chosen[5]).get_by_label("No").check()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".advice")).to_contain_text("Too few examples to be sure. 5 pictures")
    expect(page.locator(".figures")).to_contain_text("no such tag")
    expect(page.locator(".named li")).to_have_count(6)
    page.get_by_label("Precision wanted").select_option("0.7")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator(".advice")).to_contain_text("Too few examples to be sure")
    expect(page).to_have_url(re.compile(r"precision=0\.7"))
    page.get_by_role("button", name="Apply to all images").click()
    job = page.locator("article.job")
    expect(job).to_contain_text("imagenet-taught-1")
    worker = make_worker(services)
    for _ in range(50):
        if all(one.is_over for one in services.jobs.list().items):
            break
        worker.work()
    worker.leave()
    expect(job).to_contain_text("Its results are generation 2")  # by itself
    expect(page.locator(".taught li")).to_contain_text(f"{NAME} 5 yes, 1 no · by you", use_inner_text=True)
    [taught] = services.teaching.taught()
    assert (taught.tag, taught.yes, taught.no) == (NAME, 5, 1)


@with_scripts
def test_what_to_label_next_is_answered_with_single_keys(page: Page, ids: list[int]) -> None:
    page.goto(lesson(ids, 5, 1))
    cards = page.locator(".to-label")
    first = cards.first.get_by_label("Yes")
    expect(first).to_be_visible()
    expect(page.locator("#computed")).to_contain_text("5 pictures")  # is read out
    expect(first).not_to_be_focused()
    count = cards.count()
    page.keyboard.press("y")  # a key is for the picture that has the focus, and none has it
    expect(first).not_to_be_checked()
    first.focus()
    page.keyboard.press("y")
    expect(cards.nth(1).get_by_label("Yes")).to_be_focused()
    page.keyboard.press("n")
    page.keyboard.press("u")
    page.keyboard.press("y")
    expect(cards.nth(1).get_by_label("No")).not_to_be_checked()
    page.keyboard.press("Space")
    expect(cards.nth(2).get_by_label("Yes")).to_be_checked()
    expect(cards.nth(2).get_by_label("Yes")).to_be_focused()
    page.keyboard.press("s")
    expect(page.locator("#labelled")).to_have_text(f"2 of {count} answered")
    page.keyboard.press("n")
    for _ in range(count - 4):
        page.keyboard.press("s")
    expect(page.get_by_role("button", name="Go on")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#yes-title")).to_contain_text("7")
    expect(page.locator("#no-title")).to_contain_text("2")
    expect(page.locator(".advice")).to_contain_text("7 pictures")


def test_a_picture_is_removed_and_a_lesson_begins_with_a_picture(page: Page, ids: list[int]) -> None:
    page.goto(lesson(ids, 3))
    expect(page.locator("#main")).to_contain_text("3 of 5 pictures")
    page.get_by_role("link", name=f"Remove image {ids[0]}").click()
    expect(page.locator("#main")).to_contain_text("2 of 5 pictures")
    page.goto(f"/images/{ids[0]}")
    page.get_by_role("link", name="Teach a tag").click()
    page.get_by_label("Name a new thing").fill(NAME)
    page.get_by_role("button", name="Choose pictures").click()
    expect(page.locator("#main")).to_contain_text("1 of 5 pictures")
    expect(page.locator(".to-label").first).to_be_visible()


def test_what_cannot_be_taught_says_why(page: Page) -> None:
    page.goto(f"/teach?tag={NAME}&yes=999999")
    expect(page.locator("#main")).to_contain_text("999999")


def test_it_is_done_with_a_finger_on_a_phone(browser: Browser, base_url: str, ids: list[int]) -> None:
    context = browser.new_context(
        base_url=base_url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(lesson(ids, 5, 1))
    expect(page.locator(".advice")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    label = page.locator(".to-label .yes").first
    size = label.bounding_box()
    assert size
    assert size["height"] >= 44
    label.click()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#yes-title")).to_contain_text("6")
    context.close()

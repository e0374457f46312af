from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.services.recognised import CAT, HOSTILE_KEY, PHOTOGRAPHS, make_worker

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]

with_scripts = pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)


def test_a_person_walks_from_a_search_to_an_image_to_its_job(page: Page, has_scripts: bool) -> None:
    page.goto("/")
    expect(page.locator(".hit")).to_have_count(PHOTOGRAPHS + 1)

    page.get_by_label("Search text").fill("a cup of coffee")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page).to_have_url(re.compile(r"/\?q=a\+cup\+of\+coffee$"))
    first = page.locator(".hit").first
    expect(first.locator("a.shot")).to_have_attribute("title", "coffee.png")
    expect(first.locator(".why")).to_have_text(re.compile(r"0\.\d\d"))

    first.locator("a.shot").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("coffee.png")
    expect(page.get_by_role("heading", name="Similar images")).to_be_visible()
    assert page.locator(".strip li").count() > 3
    preview = page.locator(".preview img")
    expect(preview).to_have_js_property("complete", True) if has_scripts else None
    assert preview.get_attribute("width") == "600"

    page.locator(".history").get_by_role("link", name="job 1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Job 1")
    expect(page.locator(".counts .done dd")).to_have_text(str(PHOTOGRAPHS + 1))
    page.locator(".counts .failed a").click()
    expect(page.locator("table.failures tbody tr")).to_have_count(2)


def test_tags_are_added_by_facets_and_taken_away_by_chips(page: Page) -> None:
    page.goto("/")
    page.locator(".facets").get_by_role("link", name=CAT, exact=False).first.click()
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".chip")).to_contain_text([CAT])

    page.locator(".chip").first.click()
    expect(page.locator(".hit")).to_have_count(PHOTOGRAPHS + 1)


def test_a_picture_is_searched_with(page: Page, archive: Path, has_scripts: bool) -> None:
    page.goto("/")
    page.get_by_label("Search by a picture").set_input_files(archive / "chelsea.png")
    if not has_scripts:
        page.get_by_role("button", name="Find similar").click()

    expect(page).to_have_url(re.compile(r"picture=[0-9a-f]{64}"))
    expect(page.locator(".hit a.shot").first).to_have_attribute("title", "chelsea.png")
    expect(page.locator(".chip img")).to_be_visible()


def test_a_job_is_started_and_seen_to_its_end(page: Page, services: Services, archive: Path, has_scripts: bool) -> None:
    page.goto("/jobs")
    page.get_by_label("Archive").fill("/nowhere/at/all")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert").first).to_contain_text("/nowhere/at/all")

    page.get_by_label("Archive").fill(str(archive))
    page.get_by_role("button", name="Start").click()
    expect(page).to_have_url(re.compile(r"/jobs/2$"))
    expect(page.locator(".badge").first).to_have_text(re.compile("listing|running"))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".badge").first).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()

    worker = make_worker(services)
    while not services.jobs.get(2).is_over:
        worker.work()
    worker.leave()

    # With scripts by htmx, without them by the refresh that <noscript> holds: nobody reloads the page here.
    expect(page.locator(".badge").first).to_have_text("done")
    expect(page.locator(".counts .pending dd")).to_have_text("0")


def test_an_image_is_deleted_after_a_second_thought(page: Page) -> None:
    page.goto(f"/?tag={CAT}")
    page.locator("a.shot").first.click()
    page.locator("details.delete summary").click()
    page.get_by_role("button", name="Delete the results of this image").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Deleted")

    page.goto(f"/?tag={CAT}")
    expect(page.get_by_role("heading", name="No images match")).to_be_visible()


def test_a_hostile_key_is_shown_and_does_nothing(page: Page) -> None:
    page.goto("/?prefix=odd/")
    page.locator("a.shot").first.click()

    shown = page.locator(".pairs .key").first
    expect(shown).to_contain_text("<script>alert(1)<script>")
    expect(shown.locator(".hidden-char")).to_have_text(["\\n", "U+202E"])
    assert HOSTILE_KEY not in page.content()


@with_scripts
def test_more_hits_come_while_scrolling(page: Page) -> None:
    # Asked of the answer, not of the page: where four hits do not fill the window, more of them come at once.
    assert page.request.get("/?limit=4").text().count('<li class="hit">') == 4
    page.goto("/?limit=4")

    for _ in range(20):
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(100)

    expect(page.locator(".hit")).to_have_count(PHOTOGRAPHS + 1)
    expect(page.locator(".more")).to_have_count(0)


@with_scripts
def test_hits_follow_the_words_while_they_are_typed(page: Page) -> None:
    page.goto("/")
    page.locator("#q").press_sequentially("espresso")

    expect(page).to_have_url(re.compile(r"/\?q=espresso$"))
    expect(page.locator(".hit a.shot").first).to_have_attribute("title", "coffee.png")
    expect(page.locator("#q")).to_be_focused()


@with_scripts
def test_the_threshold_slides(page: Page) -> None:
    page.goto("/")
    page.get_by_text("More filters").click()
    page.get_by_label("Tag threshold, as a slider").fill("0.99")
    expect(page).to_have_url(re.compile(r"threshold=0\.99"))


@with_scripts
def test_no_screen_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (
        "/",
        f"/?tag={CAT}",
        "/images/1",
        "/jobs",
        "/jobs/1",
        "/jobs/1/failures",
        "/archives",
        "/archives/policies",
        "/duplicates",
        "/duplicates?kind=near",
        "/generations",
        "/docs",
    ):
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{path} is {width} pixels wide"


def test_everything_can_be_reached_by_keyboard(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    for _ in range(10):  # the name of the site and the pages
        page.keyboard.press("Tab")
    expect(page.locator("#q")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser: Browser, base_url: str, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for text, measured on the colours that the browser computes."""
    context = browser.new_context(base_url=base_url, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    for path in (
        "/",
        f"/?tag={CAT}&not=dog",
        "/images/1",
        "/jobs",
        "/jobs/1",
        "/jobs/1/failures",
        "/archives",
        "/archives/policies",
        "/duplicates",
        "/duplicates?kind=near",
        "/generations",
    ):
        page.goto(path)
        assert page.evaluate(_FAINT_TEXT) == [], path
    context.close()


_FAINT_TEXT = r"""() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const light = ([r, g, b]) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [R, G, B] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.a > 0.5) return colour.rgb;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(element);
    if (!hasText || !element.checkVisibility({ checkOpacity: true }) || style.clipPath !== "none") continue;
    const [a, b] = [light(parse(style.color).rgb), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName}.${element.className}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""

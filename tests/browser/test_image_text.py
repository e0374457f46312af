"""The text in a picture: over the picture, where it can be selected, and beside it, where people correct it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from storage.results.reading_views import FoundLine
from tests.readings import HOSTILE, rectangle
from tests.services.read import write_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from ramq.wiring import Services
    from storage.results.reading_views import Polygon

pytestmark = [pytest.mark.browser, pytest.mark.services]

with_scripts = pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)

SLANTED: Polygon = ((0.5, 0.5), (0.8, 0.65), (0.76, 0.75), (0.46, 0.6))
LINES = [
    FoundLine("GOOD MORMING", 0.7, rectangle(0.1, 0.1, 0.6, 0.2)),
    FoundLine("早上好", 0.9, rectangle(0.1, 0.3, 0.4, 0.4)),
    FoundLine("slanted words", 0.9, SLANTED),
    FoundLine(HOSTILE, 0.9, rectangle(0.1, 0.8, 0.9, 0.9)),
    FoundLine("שלום עולם", 0.9, rectangle(0.1, 0.9, 0.9, 1)),
]


@pytest.fixture
def cup(services: Services) -> int:
    """An image in which text was read."""
    image_id = services.images.find("coffee.png")
    write_text(services, image_id, LINES)
    return image_id


def spot(page: Page, number: int) -> Locator:
    """A line over the picture."""
    return page.locator(f"#spot-{number}")


def row(page: Page, number: int) -> Locator:
    """A line in the list."""
    return page.locator(f"#line-{number}")


def around(found: Locator, picture: Locator) -> list[float]:
    """The box around something over the picture, in fractions of the picture: left, top, right, bottom."""
    box, whole = found.bounding_box(), picture.bounding_box()
    assert box
    assert whole
    left, top = (box["x"] - whole["x"]) / whole["width"], (box["y"] - whole["y"]) / whole["height"]
    return [left, top, left + box["width"] / whole["width"], top + box["height"] / whole["height"]]


@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_each_line_stands_over_the_picture_at_its_place(page: Page, cup: int, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/images/{cup}")
    picture = page.locator(".preview img")
    expect(picture).to_be_visible()
    assert around(page.locator("svg.lines"), picture) == pytest.approx([0, 0, 1, 1], abs=0.005)
    assert around(spot(page, 1).locator("polygon"), picture) == pytest.approx([0.1, 0.1, 0.6, 0.2], abs=0.03)
    assert around(spot(page, 3).locator("polygon"), picture) == pytest.approx([0.46, 0.5, 0.8, 0.75], abs=0.03)
    for number, line in enumerate(LINES, 1):
        text = spot(page, number).locator("text")
        expect(text).to_have_text(line.text.replace("\u202e", ""))
        xs, ys = zip(*line.polygon, strict=True)
        inside = [min(xs), min(ys), max(xs), max(ys)]
        assert around(text, picture) == pytest.approx(inside, abs=0.05)


@with_scripts
def test_a_line_over_the_picture_is_selected_with_the_mouse_and_the_picture_still_opens(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    box = spot(page, 1).locator("text").bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 1, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, middle, steps=5)
    page.mouse.up()
    assert page.evaluate("getSelection().toString()") == "GOOD MORMING"
    page.evaluate("getSelection().selectAllChildren(document.querySelector('svg.lines'))")
    selected = page.evaluate("getSelection().toString()").split("\n")
    assert selected[:3] == ["GOOD MORMING", "早上好", "slanted words"]
    page.locator("a.zoom").click(position={"x": 5, "y": 5})
    expect(page.locator("dialog.lightbox")).to_be_visible()


def test_a_switch_shows_where_all_lines_are(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    outline = spot(page, 1).locator("polygon")
    expect(outline).to_have_css("stroke", "rgba(0, 0, 0, 0)")
    switch = page.get_by_label("Show where the text is")
    switch.focus()
    page.keyboard.press("Space")
    expect(outline).to_have_css("stroke", "rgb(15, 118, 110)")
    page.keyboard.press("Space")
    expect(outline).to_have_css("stroke", "rgba(0, 0, 0, 0)")


def test_a_number_in_the_list_shows_its_line_in_the_picture(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    page.get_by_role("link", name="Show line 3 in the picture").press("Enter")
    expect(page).to_have_url(re.compile("#spot-3$"))
    expect(spot(page, 3).locator("polygon")).to_have_css("stroke", "rgb(15, 118, 110)")
    expect(spot(page, 1).locator("polygon")).to_have_css("stroke", "rgba(0, 0, 0, 0)")


@with_scripts
def test_a_line_in_the_list_lights_its_place_up(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    row(page, 3).locator(".line").hover()
    expect(spot(page, 3)).to_have_class("spot on")
    row(page, 1).get_by_role("link").focus()
    page.mouse.move(0, 0)
    expect(spot(page, 1)).to_have_class("spot on")
    expect(spot(page, 3)).to_have_class("spot")


def test_a_line_is_corrected_denied_and_taken_back(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    expect(row(page, 1)).to_contain_text("unsure: 0.70")
    row(page, 1).locator("summary").click()
    page.get_by_label("Right text of line 1").fill("GOOD MORNING")
    row(page, 1).get_by_role("button", name="Save").click()
    expect(row(page, 1).locator(".line")).to_have_text("GOOD MORNING")
    expect(row(page, 1).locator(".origin")).to_have_text(re.compile(r"^corrected by you on \d{4}-"))
    expect(spot(page, 1).locator("text")).to_have_text("GOOD MORNING")

    row(page, 1).locator("summary").click()
    row(page, 1).get_by_role("button", name="No text here").click()
    expect(page.locator(".read li")).to_have_count(len(LINES) - 1)
    expect(page.get_by_role("heading", name="Said to be no text")).to_be_visible()

    page.locator(".gone").get_by_role("button", name="Undo").click()
    expect(row(page, 1).locator(".line")).to_have_text("GOOD MORMING")
    expect(page.get_by_role("heading", name="Said to be no text")).to_have_count(0)


def test_what_cannot_be_a_line_is_refused_beside_the_list(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    row(page, 1).locator("summary").click()
    page.get_by_label("Right text of line 1").fill("   ")
    row(page, 1).get_by_role("button", name="Save").click()
    expect(page.locator("#text").get_by_role("alert")).to_contain_text("empty")
    expect(row(page, 1).locator(".line")).to_have_text("GOOD MORMING")


def test_words_that_were_found_are_marked_on_the_card_and_on_the_image(
    page: Page, cup: int, services: Services
) -> None:
    cat = services.images.find("chelsea.png")
    write_text(services, cat, [FoundLine("the cat", 0.9, LINES[0].polygon), FoundLine("so good!", 0.9, SLANTED)])
    page.goto("/?q=read:good")
    expect(page.locator(".hit")).to_have_count(2)
    card = page.locator(".hit", has=page.locator(f'a[href^="/images/{cup}?"]'))
    expect(card.locator(".found-line")).to_have_text("Text in the picture: GOOD MORMING")
    expect(card.locator("mark")).to_have_text("GOOD")
    card.locator("a.shot").click()
    expect(spot(page, 1)).to_have_class("spot found")
    expect(spot(page, 1).locator("polygon")).to_have_css("stroke", "rgb(138, 90, 0)")
    expect(row(page, 1).locator("mark")).to_have_text("GOOD")
    expect(page.locator("mark")).to_have_count(1)


@with_scripts
def test_the_search_stays_with_the_images_it_found(page: Page, cup: int, services: Services) -> None:
    cat = services.images.find("chelsea.png")
    write_text(services, cat, [FoundLine("so good!", 0.9, SLANTED)])
    page.goto("/?q=read:good")
    page.locator(".hit a.shot").first.click()
    page.get_by_role("link", name="Next →").click()
    expect(page).to_have_url(re.compile(r"/images/\d+\?q=read%3Agood$"))
    expect(page.locator(".read mark")).to_have_text(re.compile("good", re.IGNORECASE))
    page.get_by_role("link", name="← Back to results").click()
    expect(page.locator(".hit")).to_have_count(2)


def test_hostile_text_is_shown_and_does_nothing(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    expect(row(page, 4).locator(".line")).to_contain_text("<script>alert('x')</script>")
    expect(row(page, 4).locator(".hidden-char")).to_have_text("U+202E")
    row(page, 4).locator("summary").click()
    expect(page.get_by_label("Right text of line 4")).to_have_value(re.compile("^</text><script>"))


def test_text_runs_in_its_own_direction(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    expect(row(page, 5).locator("bdi")).to_have_css("direction", "rtl")
    expect(row(page, 1).locator("bdi")).to_have_css("direction", "ltr")
    expect(spot(page, 5).locator("text")).to_have_css("direction", "rtl")


def test_all_lines_are_copied(browser: Browser, base_url: str, cup: int) -> None:
    context = browser.new_context(base_url=base_url, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"/images/{cup}")
    page.get_by_role("button", name="Copy all").click()
    expect(page.locator("#copy-text")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()").split("\n")
    context.close()
    assert copied == [line.text.replace("\u202e", "") for line in LINES]


@pytest.mark.parametrize("has_scripts", [False], ids=["no-scripts"], indirect=True)
def test_without_scripts_the_text_is_a_link_away(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    expect(page.get_by_role("button", name="Copy all")).to_have_count(0)
    page.get_by_role("link", name="text", exact=True).click()
    expect(page.get_by_text("GOOD MORMING")).to_be_visible()

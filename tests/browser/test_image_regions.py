"""Regions over a picture: their boxes and names, the switches of tags, and people who draw and reject them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from storage.results.region_views import FoundRegion
from tests.browser.conftest import PATIENCE_MS
from tests.region_archive import painted
from tests.services.located import write_regions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from ramq.wiring import Services
    from storage.results.region_views import Box

pytestmark = [pytest.mark.browser, pytest.mark.services]

with_scripts = pytest.mark.parametrize("has_scripts", [True], ids=["scripts"], indirect=True)
without_scripts = pytest.mark.parametrize("has_scripts", [False], ids=["no-scripts"], indirect=True)

CUP = FoundRegion("cup", 0.91, (0.25, 0.2, 0.75, 0.8), painted((0.25, 0.2, 0.75, 0.8)), 0.8)
SPOON = FoundRegion("spoon", 0.5, (0.7, 0.1, 0.9, 0.4))
BEAN = FoundRegion("bean", 0.4, (0.4, 0.4, 0.45, 0.45))


@pytest.fixture
def cup(services: Services) -> int:
    """An image in which tags were located."""
    image_id = services.images.find("coffee.png")
    write_regions(services, image_id, [CUP, SPOON, BEAN])
    return image_id


def mark(page: Page, number: int) -> Locator:
    """A region over the picture."""
    return page.locator(f"#mark-{number}")


def row(page: Page, number: int) -> Locator:
    """A region in the list."""
    return page.locator(f"#region-{number}")


def summary(page: Page) -> Locator:
    return page.locator("#draw summary")


def pad(page: Page) -> Locator:
    """What covers the picture while a region is drawn."""
    return page.get_by_role("application", name="Box of the new region")


def around(found: Locator, picture: Locator) -> list[float]:
    """The box around something over the picture, in fractions of the picture: left, top, right, bottom."""
    box, whole = found.bounding_box(), picture.bounding_box()
    assert box
    assert whole
    left, top = (box["x"] - whole["x"]) / whole["width"], (box["y"] - whole["y"]) / whole["height"]
    return [left, top, left + box["width"] / whole["width"], top + box["height"] / whole["height"]]


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """A place in the picture, given in fractions of it, in pixels of the window."""
    whole = page.locator(".preview img").bounding_box()
    assert whole
    return whole["x"] + x * whole["width"], whole["y"] + y * whole["height"]


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=4)
    page.mouse.up()


def sides(page: Page) -> list[float]:
    """The box of the new region as its form has it, in fractions of the picture."""
    return [
        float(page.get_by_label(name, exact=True).input_value()) / 100 for name in ("Left", "Top", "Right", "Bottom")
    ]


def drawn(services: Services, image_id: int) -> list[tuple[str, Box]]:
    """The regions that people drew."""
    return [(one.tag, one.box) for one in services.regions.get(image_id).regions if one.correction_id is not None]


# Shown ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_each_region_stands_over_the_picture_at_its_place(page: Page, cup: int, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/images/{cup}")
    picture = page.locator(".preview img")
    expect(picture).to_be_visible()
    for number, region in enumerate([CUP, SPOON, BEAN], 1):
        assert around(mark(page, number).locator("rect"), picture) == pytest.approx(region.box, abs=0.02)
        expect(mark(page, number).locator("text")).to_have_text(region.tag)
    assert around(mark(page, 1).locator("path"), picture) == pytest.approx(CUP.box, abs=0.02)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_switches_show_and_hide_the_regions_of_a_tag_and_all(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    expect(mark(page, 1)).to_be_visible()
    page.get_by_role("checkbox", name="cup 1").focus()
    page.keyboard.press("Space")
    expect(mark(page, 1)).to_be_hidden()
    expect(mark(page, 2)).to_be_visible()
    page.get_by_role("checkbox", name="All").uncheck()
    expect(mark(page, 2)).to_be_hidden()
    page.get_by_role("checkbox", name="All").check()
    expect(mark(page, 2)).to_be_visible()
    expect(mark(page, 1)).to_be_hidden()


def test_of_many_regions_a_name_appears_when_its_region_is_chosen(page: Page, cup: int, services: Services) -> None:
    boxes = [(0.05 * n, 0.04 * n, 0.05 * n + 0.04, 0.04 * n + 0.03) for n in range(19)]
    write_regions(services, cup, [FoundRegion(f"tag {n}", 0.9 - n / 100, box) for n, box in enumerate(boxes)])
    page.goto(f"/images/{cup}")
    expect(mark(page, 3).locator("rect")).to_be_visible()
    expect(mark(page, 3).locator("text")).to_be_hidden()
    page.get_by_role("link", name="Show region 3 in the picture").press("Enter")
    expect(page).to_have_url(re.compile("#mark-3$"))
    expect(mark(page, 3).locator("text")).to_be_visible()
    expect(mark(page, 4).locator("text")).to_be_hidden()
    expect(page.get_by_role("checkbox", name="and 5 more tags 8")).to_be_checked()


@with_scripts
def test_the_smallest_region_under_the_pointer_is_lit_in_the_picture_and_in_the_list(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    page.mouse.move(*at(page, 0.42, 0.42))
    expect(mark(page, 3)).to_have_class(re.compile(r"\bon$"))
    expect(row(page, 3)).to_have_class(re.compile(r"\bon$"))
    page.mouse.move(*at(page, 0.3, 0.7))
    expect(mark(page, 1)).to_have_class(re.compile(r"\bon$"))
    expect(row(page, 3)).not_to_have_class(re.compile(r"\bon$"))
    row(page, 2).locator(".line").hover()
    expect(mark(page, 2)).to_have_class(re.compile(r"\bon$"))
    expect(mark(page, 1)).not_to_have_class(re.compile(r"\bon$"))


@with_scripts
def test_the_keyboard_goes_through_the_regions_and_each_is_lit(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    page.get_by_role("link", name="Show region 1 in the picture").focus()
    expect(mark(page, 1)).to_have_class(re.compile(r"\bon$"))
    for name in ("cup", "Reject region 1: cup", "Show region 2 in the picture"):
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_accessible_name(name)
    expect(mark(page, 2)).to_have_class(re.compile(r"\bon$"))


def test_a_region_is_rejected_and_brought_back(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    page.get_by_role("button", name="Reject region 1: cup").click()
    expect(page).to_have_url(re.compile("#region-1$"))
    expect(page.locator(".region")).to_have_count(2)
    expect(row(page, 1)).to_contain_text("spoon")
    expect(page.locator(".removed")).to_contain_text("cup rejected by you")
    page.get_by_role("button", name="Undo the correction: cup").click()
    expect(page.locator(".region")).to_have_count(3)
    expect(row(page, 1)).to_contain_text("cup")


# Drawn ---------------------------------------------------------------------------------------------------------------


@with_scripts
def test_a_region_is_drawn_with_the_mouse_and_taken_back(page: Page, cup: int, services: Services) -> None:
    page.goto(f"/images/{cup}")
    expect(pad(page)).to_be_hidden()
    summary(page).click()
    page.get_by_label("Tag", exact=True).fill("Saucer")
    drag(page, (0.8, 0.9), (0.2, 0.6))
    assert sides(page) == pytest.approx([0.2, 0.6, 0.8, 0.9], abs=0.01)
    assert around(page.locator(".new-box"), page.locator(".preview img")) == pytest.approx(sides(page), abs=0.02)
    page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(re.compile("#mark-4$"))
    expect(mark(page, 4).locator("text")).to_have_text("Saucer")
    [(tag, box)] = drawn(services, cup)
    assert (tag, list(box)) == ("Saucer", pytest.approx([0.2, 0.6, 0.8, 0.9], abs=0.01))
    page.reload()
    assert around(mark(page, 4).locator("rect"), page.locator(".preview img")) == pytest.approx(box, abs=0.02)
    expect(row(page, 4)).to_contain_text("drawn by you")
    expect(page.locator(".lightbox")).to_have_count(0)
    page.get_by_role("button", name="Undo the correction: Saucer").click()
    expect(page.locator(".region")).to_have_count(3)
    assert drawn(services, cup) == []


@with_scripts
def test_a_box_is_moved_changed_at_a_corner_and_by_its_numbers(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    summary(page).click()
    drag(page, (0.2, 0.2), (0.4, 0.4))
    drag(page, (0.3, 0.3), (0.5, 0.4))
    assert sides(page) == pytest.approx([0.4, 0.3, 0.6, 0.5], abs=0.01)
    drag(page, (0.6, 0.5), (0.9, 0.95))
    assert sides(page) == pytest.approx([0.4, 0.3, 0.9, 0.95], abs=0.01)
    drag(page, (0.4, 0.3), (0.95, 0.99))  # beyond the corner opposite
    assert sides(page) == pytest.approx([0.9, 0.95, 0.95, 0.99], abs=0.01)
    drag(page, (0.1, 0.1), (0.4, 0.5))
    drag(page, (0.25, 0.3), (1.1, 1.1))  # no box leaves the picture
    assert sides(page) == pytest.approx([0.7, 0.6, 1, 1], abs=0.01)
    page.mouse.click(*at(page, 0.1, 0.1))  # a click is no box
    assert sides(page) == pytest.approx([0.7, 0.6, 1, 1], abs=0.01)
    drag(page, (0.1, 0.1), (0.2, 0.3))
    page.get_by_label("Right", exact=True).fill("70")
    assert around(page.locator(".new-box"), page.locator(".preview img"))[2] == pytest.approx(0.7, abs=0.01)
    page.get_by_label("Right", exact=True).fill("5")
    expect(page.locator(".new-box")).to_be_hidden()


@with_scripts
def test_a_region_is_drawn_with_the_keyboard_alone(page: Page, cup: int, services: Services) -> None:
    page.goto("/")
    page.locator(f'a.shot[href^="/images/{cup}"]').click()
    expect(page.get_by_role("link", name="← Back to results")).to_be_visible()
    page.wait_for_load_state()  # the script moves the focus
    summary(page).press("Enter")
    expect(page.get_by_label("Tag", exact=True)).to_be_focused()
    page.keyboard.type("saucer")
    pad(page).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowLeft", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    # The first key makes the box, in the middle.
    assert sides(page) == pytest.approx([0.41, 0.41, 0.6, 0.63])
    expect(page.locator("#draw-status")).to_have_text("Box: left 41, top 41, right 60, bottom 63 percent")
    for _ in range(50):
        page.keyboard.press("ArrowLeft")
    assert sides(page) == pytest.approx([0, 0.41, 0.19, 0.63])
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/images/{cup}#mark-4$"))
    [(tag, box)] = drawn(services, cup)
    assert (tag, list(box)) == ("saucer", pytest.approx([0, 0.41, 0.19, 0.63]))


@with_scripts
def test_escape_cancels(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    summary(page).press("Enter")
    page.get_by_label("Tag", exact=True).fill("saucer")
    drag(page, (0.2, 0.2), (0.4, 0.4))
    page.keyboard.press("Escape")
    expect(pad(page)).to_be_hidden()
    expect(summary(page)).to_be_focused()
    summary(page).press("Enter")
    expect(page.locator(".new-box")).to_be_hidden()
    expect(page.get_by_label("Tag", exact=True)).to_have_value("")
    page.get_by_role("button", name="Cancel").click()
    expect(pad(page)).to_be_hidden()
    page.locator("a.zoom").click(position={"x": 5, "y": 5})
    expect(page.locator("dialog.lightbox")).to_be_visible()


def test_a_region_is_drawn_with_a_finger(browser: Browser, base_url: str, cup: int, services: Services) -> None:
    context = browser.new_context(
        base_url=base_url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"/images/{cup}")
    summary(page).click()  # a tap is none if the machine is slow between its begin and its end
    page.get_by_label("Tag", exact=True).fill("saucer")
    pad(page).scroll_into_view_if_needed()
    fingers = context.new_cdp_session(page)
    way = [at(page, x, y) for x, y in ((0.2, 0.3), (0.4, 0.5), (0.6, 0.8))]
    for kind, points in (("touchStart", way[:1]), ("touchMove", way[1:2]), ("touchMove", way[2:]), ("touchEnd", [])):
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    expect(page.locator(".new-box")).to_be_visible()
    assert sides(page) == pytest.approx([0.2, 0.3, 0.6, 0.8], abs=0.02)
    page.get_by_role("button", name="Save").click()
    expect(mark(page, 4)).to_be_visible()
    [(tag, box)] = drawn(services, cup)
    context.close()
    assert (tag, list(box)) == ("saucer", pytest.approx([0.2, 0.3, 0.6, 0.8], abs=0.02))


@without_scripts
def test_without_scripts_a_region_is_drawn_by_its_sides(page: Page, cup: int, services: Services) -> None:
    page.goto(f"/images/{cup}")
    summary(page).click()
    for name, value in (("Tag", "saucer"), ("Left", "12.5"), ("Top", "60"), ("Right", "10"), ("Bottom", "90")):
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#draw").get_by_role("alert")).to_contain_text("left must be less than right")
    expect(page.get_by_label("Tag", exact=True)).to_have_value("saucer")
    page.get_by_label("Right", exact=True).fill("80")
    page.get_by_role("button", name="Save").click()
    expect(mark(page, 4)).to_be_visible()
    assert drawn(services, cup) == [("saucer", (0.125, 0.6, 0.8, 0.9))]


@with_scripts
def test_a_region_without_a_box_or_a_tag_is_not_sent(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    summary(page).click()
    message = "element => element.validationMessage"
    assert "Draw a box over the picture" in page.get_by_label("Left", exact=True).evaluate(message)
    drag(page, (0.2, 0.2), (0.4, 0.4))
    assert page.get_by_label("Left", exact=True).evaluate(message) == ""
    page.keyboard.press("Enter")
    expect(page.get_by_label("Tag", exact=True)).to_be_focused()
    assert page.get_by_label("Tag", exact=True).evaluate(message) != ""
    expect(page).to_have_url(re.compile(f"/images/{cup}$"))


@with_scripts
def test_a_refused_box_is_still_over_the_picture(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    summary(page).click()
    page.get_by_label("Tag", exact=True).fill("   ")
    drag(page, (0.2, 0.2), (0.4, 0.4))
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#draw").get_by_role("alert")).to_contain_text("needs the name of a tag")
    expect(page.locator(".new-box")).to_be_visible()
    assert sides(page) == pytest.approx([0.2, 0.2, 0.4, 0.4], abs=0.01)


@with_scripts
def test_names_of_tags_are_completed(page: Page, cup: int) -> None:
    page.goto(f"/images/{cup}")
    summary(page).click()
    field = page.locator("#draw-tag")
    field.press_sequentially("Espr")
    option = page.locator("#draw-tag-options").get_by_role("option", name=re.compile("^espresso 1 image$"))
    expect(option).to_be_visible()
    field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value("espresso")
    expect(option).to_be_hidden()
    expect(summary(page)).to_be_visible()
    field.fill("")
    field.press_sequentially("espr")
    expect(option).to_be_visible()
    field.press("Escape")
    expect(option).to_be_hidden()
    expect(pad(page)).to_be_visible()
    other = page.get_by_label("Add a tag")
    other.press_sequentially("tray")
    page.locator("#add-tag-options").get_by_role("option").first.click()
    expect(other).to_have_value("tray")


# In hits -------------------------------------------------------------------------------------------------------------


def test_a_hit_shows_the_regions_that_the_search_is_about(page: Page, cup: int, services: Services) -> None:
    cat = services.images.find("chelsea.png")
    boxes = [(0.1, 0.1, 0.11, 0.11), (0.3, 0.3, 0.31, 0.31)]
    write_regions(services, cat, [FoundRegion("bean", 0.5, box) for box in boxes])
    page.goto("/?q=count:bean>=1")
    expect(page.locator(".hit")).to_have_count(2)
    card = page.locator(".hit", has=page.locator(f'a[href^="/images/{cat}?"]'))
    expect(card.locator(".found-line")).to_have_text(re.compile("^Regions in the picture: bean . 2$"))
    expect(card.locator(".outlines rect")).to_have_count(2)
    inset = card.locator("img.inset")
    inset.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=inset.element_handle())
    page.goto("/?q=area:cup>1%25")
    card = page.locator(".hit")
    expect(card.locator(".found-line")).to_have_text("Regions in the picture: cup")
    expect(card.locator("img.inset")).to_have_count(0)
    # The picture is cut to a square: of 600 x 400 pixels, 400 x 400 in the middle are seen.
    seen = around(card.locator(".outlines rect"), card.locator(".shot > img"))
    assert seen == pytest.approx([0.125, 0.2, 0.875, 0.8], abs=0.02)
    card.locator("a.shot").click()
    expect(mark(page, 1)).to_have_class(re.compile(r"\bfound$"))
    expect(row(page, 1)).to_have_class(re.compile(r"\bfound$"))
    expect(row(page, 2)).not_to_have_class(re.compile(r"\bfound$"))

"""The heads of pages: their links stand together, on wide and on narrow screens."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.services]

MOST_GAP = 24
"""Pixels between two links of one line."""


def gaps(links: Locator) -> list[float]:
    """The pixels between neighbours in one line."""
    boxes = [box for link in links.all() if (box := link.bounding_box()) is not None]
    same_line = [(left, right) for left, right in pairwise(boxes) if abs(left["y"] - right["y"]) < left["height"] / 2]
    return [right["x"] - left["x"] - left["width"] for left, right in same_line]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("path", "links"),
    [
        ("/", "header.top nav a"),
        ("/", ".found > :not(:first-child)"),
        ("/archives", "header.top nav a"),
        ("/archives", ".page-head > a"),
    ],
)
def test_links_stand_together_and_nothing_is_wider_than_the_screen(
    page: Page, path: str, links: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path)
    assert page.locator(links).count() > 1
    assert all(0 <= gap <= MOST_GAP for gap in gaps(page.locator(links)))
    assert page.evaluate("document.documentElement.scrollWidth") <= width

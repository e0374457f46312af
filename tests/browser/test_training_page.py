"""The page of trainings, live and for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ram_core.runs import locked
from tests.made_up_run import add_line, write_made_up_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ramq.wiring import Services

pytestmark = [pytest.mark.browser, pytest.mark.services]


def test_a_training_is_followed_to_its_end_on_any_screen(page: Page, services: Services) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/jobs")
    expect(page.get_by_role("link", name="Training", exact=True)).to_have_count(0)
    run = write_made_up_run(services.settings.training_path / "birds")
    with locked(run):
        page.goto("/jobs")
        page.get_by_role("link", name="Training", exact=True).click()
        article = page.get_by_role("article", name="birds")
        expect(article).to_contain_text("step 30 of 40")
        expect(article.get_by_role("img", name="total: from 90.5 to 3.5")).to_be_visible()
        add_line(run, kind="state", state="finished", note=None)
        expect(article).to_contain_text("finished")  # by itself: every five seconds, with scripts and without
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

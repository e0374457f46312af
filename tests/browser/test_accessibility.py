"""Every screen is free of what axe-core can find, in both colour schemes, on a phone and on a desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from ramq.services.job_wishes import JobWishes
from ramq.wiring import Services
from storage.results.reading_views import FoundLine
from storage.results.region_views import FoundRegion
from storage.search.views import SearchQuery
from tests.browser.conftest import PATIENCE_MS
from tests.readings import rectangle
from tests.region_archive import painted
from tests.services.decided import Label, add_version
from tests.services.located import write_regions
from tests.services.read import write_text
from tests.services.recognised import CAT, settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser
    from sqlalchemy import Engine

pytestmark = [pytest.mark.browser, pytest.mark.services]

SCREENS = (
    "/",
    "/?q=cat",
    "/?q=nothing+is+called+thus&tag=no-such-tag",
    "/?q=read:good",
    "/?q=count:cup>=1",
    "/images/{image}",
    "/images/{image}?q=read:good#spot-1",
    "/images/{image}?q=count:bean>=1#draw",
    "/jobs",
    "/jobs/{job}",
    "/jobs/{job}/failures",
    "/archives",
    "/archives/policies",
    "/duplicates",
    "/?q=keyword:wedding#give-keywords",
    "/keywords",
    "/keywords/acts/1",
    "/missing",
    "/duplicates?kind=near",
    "/generations",
    "/training",
    "/datasets",
    "/datasets/pets",
    "/datasets/pets/review",
    "/datasets/pets/review?tag=next",
    "/teach",
    "/teach?tag=my+thing&{yes}",
    "/docs",
    "/users",
    "/users/history",
    "/login",
    "/images/999999",
)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = {"phone": (390, 844), "desk": (1280, 900)}


@pytest.fixture
def services(recognised_engine: Engine, stage: Path, broker_url: str) -> Services:
    """Beside the index of the recognised photographs, where their features are."""
    return Services(settings_for(stage / "data"), recognised_engine, broker_url, is_reachable=False)


@pytest.mark.parametrize("size", SIZES)
def test_a_screen_can_be_used_by_everybody(browser: Browser, base_url: str, services: Services, size: str) -> None:
    """The scheme is changed on the page that is open, as a system does at dusk: only its style sheet asks for it."""
    [job] = services.jobs.list().items
    image = services.images.find("coffee.png")
    services.corrections.tag([image], add=["canoe", "espresso"], remove=["plate"])
    services.watches.add(job.archive, JobWishes(), every="1d")
    services.policies.put("canoe", "deny")
    services.policies.put("toyshop", "deny", job.archive)
    lines = [
        FoundLine("GOOD MORNING", 0.7, rectangle(0.1, 0.1, 0.6, 0.2)),
        FoundLine("早上好", 1, rectangle(0, 0, 1, 0.1)),
    ]
    write_text(services, image, [*lines, FoundLine("a reflection", 0.9, rectangle(0.1, 0.5, 0.9, 0.6))])
    services.readings.correct(image, rectangle(0.1, 0.5, 0.9, 0.6), None)
    services.readings.correct(image, lines[1].polygon, "早上好!")
    cup, spoon = (0.25, 0.25, 0.75, 0.75), (0.7, 0.1, 0.9, 0.4)
    beans = [FoundRegion("bean", 0.4, (0.02 * n, 0.9, 0.02 * n + 0.01, 0.92)) for n in range(40)]
    write_regions(
        services, image, [FoundRegion("cup", 0.9, cup, painted(cup)), FoundRegion("spoon", 0.5, spoon), *beans]
    )
    services.regions.correct(image, "spoon", spoon, is_there=False)
    services.regions.correct(image, "saucer", (0.1, 0.5, 0.9, 0.9), is_there=True)
    decided = [
        Label(image, CAT, "outlier", 0.4, cup),
        Label(services.images.find("chelsea.png"), CAT, None, 0.9, cup),
        Label(services.images.find("rocket.jpg"), CAT, "no_region", 0.6),
    ]
    add_version(services, "pets", decided)
    services.reviews.say("pets", CAT, [services.images.find("rocket.jpg")], is_right=True)
    services.keywords.go_on(services.keywords.begin([image], add=["wedding", "espresso"]).id)
    yes = "&".join(f"yes={hit.image_id}" for hit in services.search.page(SearchQuery(limit=5)).items)
    width, height = SIZES[size]
    context = browser.new_context(
        base_url=base_url,
        viewport={"width": width, "height": height},
        bypass_csp=True,  # axe is put into the page from outside
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    found = []
    for screen in SCREENS:
        page.goto(screen.format(image=image, job=job.id, yes=yes))
        if "{yes}" in screen:
            expect(page.locator(".advice")).to_be_visible()
            expect(page.locator(".to-label").first).to_be_visible()
        if screen.endswith("#give-keywords"):
            page.locator("#give-keywords summary").press("Enter")
            expect(page.get_by_role("checkbox", name="Choose coffee.png")).to_be_visible()
        if screen.endswith("#draw"):
            page.locator("#draw summary").press("Enter")
            page.get_by_role("application").press("ArrowDown")
            expect(page.locator(".new-box")).to_be_visible()
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for violation in Axe().run(page).response["violations"]:
                places = ", ".join(str(node["target"]) for node in violation["nodes"][:3])
                what = f"{violation['id']} ({violation['impact']}): {violation['help']}: {places}"
                found.append(f"{screen}, {scheme}: {what}")
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if overflow > 0:
            found.append(f"{screen}: {overflow} pixels wider than the window")
    context.close()
    assert found == [], "\n".join(found)
